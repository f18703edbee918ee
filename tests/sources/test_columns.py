"""A source's own columns: times, labels, languages, and what could not be read of them."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from relevance_core import config
from relevance_core.errors import SettingsError
from relevance_core.sources import Batch, conform
from relevance_core.sources.columns import COLUMNS, Meaning
from relevance_core.sources.reading import Options
from tests.support.pair_cases import at, row
from tests.support.places import DOCS

BERLIN = Meaning(time_zone="Europe/Berlin")


def of(column: str, *values: Any, meaning: Meaning | None = None, dtype: Any = pl.String) -> pl.DataFrame:
    """Rows with these values in one column."""
    return conform(Batch("a", pl.DataFrame({column: pl.Series(values, dtype=dtype)})), meaning=meaning)


@pytest.mark.parametrize(
    ("given", "moment"),
    [
        ("2026-10-14T09:30Z", "2026-10-14T09:30:00"),
        ("2026-10-14 09:30", "2026-10-14T09:30:00"),
        ("2026-10-14t09:30z", "2026-10-14T09:30:00"),
        ("2026-10-14T09:30+02", "2026-10-14T07:30:00"),
        ("2026-10-14T09:30:15+0200", "2026-10-14T07:30:15"),
        ("2026-10-14T00:30-05:30", "2026-10-14T06:00:00"),
        ("2026-10-14 09:30:15 UTC", "2026-10-14T09:30:15"),
        ("2026-10-14T09:30:15,5Z", "2026-10-14T09:30:15.500000"),
        ("2026-10-14T09:30:15.123456789Z", "2026-10-14T09:30:15.123456"),
        ("20261014T093015Z", "2026-10-14T09:30:15"),
        ("20261014T093015.25+0100", "2026-10-14T08:30:15.250000"),
        ("20261014T0930", "2026-10-14T09:30:00"),
        ("20261014", "2026-10-14T00:00:00"),
        ("2026-1-4 9:05", "2026-01-04T09:05:00"),
        ("1760434200", None),
        ("1760434200000", None),
        ("20261399", None),
        ("2026-10-14T25:00", None),
        ("2026-10-14T09:30+16:00", None),
        ("2026-10-14T09:30+02:60", None),
        ("2026-10-14T09:30Zulu", None),
        ("14/10/2026", None),
        ("09:30", None),
    ],
)
def test_times_are_iso_8601(given: str, moment: str | None) -> None:
    """Java leaves out zero seconds; basic form, commas and nine digits are read; a number has two readings and has none here."""
    found = of("event_time", given)
    assert found["event_time"][0] == (at(moment) if moment else None)
    assert found["unread"][0] == (None if moment else f"event_time={given}")


@pytest.mark.parametrize(
    ("given", "moment"),
    [
        ("2026-07-01T12:00", "2026-07-01T10:00:00"),
        ("2026-01-01T12:00:00", "2026-01-01T11:00:00"),
        ("2026-01-01T12:00:00Z", "2026-01-01T12:00:00"),
        ("2026-07-01", "2026-07-01T00:00:00"),
        ("2026-03-29T02:30:00", None),
        ("2026-10-25T02:30:00", None),
    ],
)
def test_times_without_a_zone_are_those_of_the_setting(given: str, moment: str | None) -> None:
    """Berlin is two hours ahead in July; a day is a day in UTC; the hours that a clock skips or shows twice can't be read."""
    typed = datetime.fromisoformat(given)
    frames = [of("event_time", given, meaning=BERLIN)]
    if len(given) > 10 and not given.endswith("Z"):
        frames.append(of("event_time", typed, meaning=BERLIN, dtype=pl.Datetime("us")))
    for found in frames:
        assert found["event_time"][0] == (at(moment) if moment else None)
        assert (found["unread"][0] is None) == (moment is not None)


def test_a_time_that_cannot_be_read_is_noted_beside_a_day_that_can() -> None:
    """The day dates the row; a time that comes first settles it, whatever the day says."""
    frame = pl.DataFrame(
        {"event_time": ["noon", "2026-10-14T09:00", None, ""], "event_date": ["2026-10-14", "x", "y", "2026-10-13"]}
    )
    found = conform(Batch("a", frame))
    assert found["unread"].to_list() == ["event_time=noon", None, "event_time=y", None]
    assert found["event_time"].to_list() == [at("2026-10-14"), at("2026-10-14T09:00:00"), None, at("2026-10-13")]


def test_labels_are_those_of_the_mapping_alone() -> None:
    """ESCI's letters by their mapping; a label that is not in it, in another case too, can't be read."""
    meaning = Meaning(labels={"E": 1, "S": 1, "C": 0, "I": 0})
    found = of("label", "E", " S ", "C", "I", "e", "1", None, "", meaning=meaning)
    assert found["label"].to_list() == [1, 1, 0, 0, None, None, None, None]
    assert found["unread"].to_list() == [None] * 4 + ["label=e", "label=1", None, None]


def test_graded_labels_are_judged_by_a_bound() -> None:
    """From 2 on is relevant; what is no number can't be read."""
    found = of("label", "3", "2.0", "1.5", "0", "-1", "nan", "x", meaning=Meaning(label_bound=2))
    assert found["label"].to_list() == [1, 1, 0, 0, 0, None, None]
    assert found["unread"].to_list()[-2:] == ["label=nan", "label=x"]


def test_locales_are_their_base_language() -> None:
    """Region, script and encoding go; a code that is no locale stays, for *validate* to name."""
    given = ("pt-BR", "pt_BR", "zh-Hans", "zh_Hant_TW", "de_DE.UTF-8", "EN", " fr ", "us", "English", "x-klingon", None)
    assert of("language", *given).get_column("language").to_list() == [
        *("pt", "pt", "zh", "zh", "de", "en", "fr", "us", "english", "x-klingon", None)
    ]


def test_markets_are_languages_by_the_mapping() -> None:
    """The whole name first, then its base; the case of neither counts."""
    meaning = Meaning(languages={"US": "en", "jp": "ja", "pt-BR": "br", "Deutsch": "DE"})
    found = of("language", "us", "JP", "pt_br", "pt-PT", "deutsch", "us-CA", "es", meaning=meaning)
    assert found["language"].to_list() == ["en", "ja", "br", "pt", "de", "en", "es"]


def test_notes_and_places_of_the_reader_stay() -> None:
    """A reader's note comes first; a row that could not be read has no task, time or id, and every row its file and line."""
    frame = pl.DataFrame([row(label="x"), row(label="1"), row()]).with_columns(
        unread=pl.Series(["query=['a']", "row=no JSON", None]),
        line=pl.Series([7, 9, 11], dtype=pl.Int64),
        file=pl.lit("part.jsonl"),
    )
    names = [name for name in frame.columns if name not in ("unread", "line", "file")]
    frame = frame.with_columns(pl.when(pl.col("line") != 9).then(pl.col(names)))
    found = conform(Batch("a", frame.drop("event_time"), date(2026, 10, 14)), task="QC")
    assert found.columns == [*COLUMNS, "file", "line"]
    assert found["unread"].to_list() == ["query=['a']; label=x", "row=no JSON", None]
    assert found["line"].to_list() == [7, 9, 11]
    assert found["event_time"].to_list() == [at("2026-10-14"), None, at("2026-10-14")]
    assert found.select("task", "language", "query", "target", "target_id", "label", "source_id").row(1) == (None,) * 7


def test_a_frame_of_lines_alone_keeps_its_rows() -> None:
    """Three rows of a file in which no column is known are three rows, with their lines."""
    found = conform(Batch("a", pl.DataFrame({"line": [1, 2, 3]})))
    assert (found.height, found["line"].to_list(), found["query"].null_count()) == (3, [1, 2, 3], 3)
    assert conform(Batch("a", pl.DataFrame())).height == 0


def test_a_note_shows_no_more_than_80_characters() -> None:
    """A value of 500 characters is cut in the note."""
    assert of("label", "x" * 500)["unread"][0] == "label=" + "x" * 80


def test_the_settings_are_the_meaning(tmp_path: Path) -> None:
    """TOML, JSON of --set and the environment give the same mappings; the defaults are those of `conform`."""
    (tmp_path / "s.toml").write_text('[source]\nlanguages = { us = "en" }\ntime_zone = "Asia/Tokyo"\n[source.labels]\nE = 1\n')
    environment = {"RELEVANCE_SETTINGS": '{"source": {"labels": {"C": 0}}}'}
    assert Meaning.of(config.load(tmp_path / "s.toml", (), environment).source).labels == {"E": 1, "C": 0}
    chosen = config.load(None, ['source.labels={"E": 1, "C": 0}', 'source.languages={"us": "en"}', "source.time_zone=Asia/Tokyo"])
    assert Meaning.of(chosen.source) == Meaning({"E": 1, "C": 0}, None, {"us": "en"}, "Asia/Tokyo")
    assert Meaning.of(config.build({}).source) == Meaning()


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("source.csv.delimiter=comma", "'comma' is no delimiter: auto, tab, or one character"),
        ("source.csv.delimiter=_", "'_' is no delimiter"),
        ("source.time_zone=Mars/Olympus", "no time zone 'Mars/Olympus'"),
        ('source.labels={"E": 2}', "expected: a number ≤ 1"),
        ("source.labels=E", "'E' is no table"),
    ],
)
def test_settings_without_a_meaning_are_refused(setting: str, told: str) -> None:
    """An unknown zone, a label that means neither 0 nor 1, and a mapping that is none."""
    with pytest.raises(SettingsError, match=told):
        config.load(None, [setting])


def test_labels_have_one_rule() -> None:
    """A mapping and a bound together are refused."""
    with pytest.raises(SettingsError, match="one of them"):
        config.load(None, ['source.labels={"E": 1}', "source.label_bound=2"])


def test_the_published_esci_files_are_read_by_the_settings_of_the_docs(tmp_path: Path) -> None:
    """The page's own join and settings, on four judgements of three locales: a product's title is that of its locale."""
    page = DOCS.joinpath("data.md").read_text(encoding="utf-8").partition("### ESCI")[2]
    script, settings = (re.search(rf"```{name}\n(.*?)```", page, re.DOTALL) for name in ("python", "toml"))
    assert script
    assert settings
    examples = pl.DataFrame(
        {
            "example_id": [0, 1, 2, 3, 4],
            "query": ["revent 80 cfm", "zapatos niña", "赤い靴", "revent", "test"],
            "query_id": [0, 1, 2, 0, 3],
            "product_id": ["B0", "B0", "B1", "B2", "B0"],
            "product_locale": ["us", "es", "jp", "us", "us"],
            "esci_label": ["E", "S", "C", "I", "E"],
            "small_version": [0] * 5,
            "large_version": [1] * 5,
            "split": ["train"] * 4 + ["test"],
        }
    )
    products = pl.DataFrame(
        {
            "product_id": ["B0", "B0", "B1"],
            "product_title": ["Fan", "Zapatos", "靴"],
            "product_description": [None, "x", "y"],
            "product_locale": ["us", "es", "jp"],
        }
    )
    examples.write_parquet(tmp_path / "shopping_queries_dataset_examples.parquet")
    products.write_parquet(tmp_path / "shopping_queries_dataset_products.parquet")
    subprocess.run([sys.executable, "-c", script[1]], cwd=tmp_path, check=True)
    (tmp_path / "esci.toml").write_text(settings[1])
    source = config.load(tmp_path / "esci.toml").source
    frame = pl.read_parquet(tmp_path / source.uri)
    names = Options.of(source).named(frame.columns)
    batch = Batch("esci", frame.select(pl.col(column).alias(name) for column, name in names.items()))
    assert batch.missing(source.task) == []
    found = conform(batch, task=source.task, meaning=Meaning.of(source)).sort("target_id", "language")
    assert found.select("task", "language", "query", "target", "target_id", "label").rows() == [
        ("QI", "en", "revent 80 cfm", "Fan", "B0", 1),
        ("QI", "es", "zapatos niña", "Zapatos", "B0", 1),
        ("QI", "ja", "赤い靴", "靴", "B1", 0),
        ("QI", "en", "revent", None, "B2", 0),
    ]
    assert found["unread"].null_count() == 4
