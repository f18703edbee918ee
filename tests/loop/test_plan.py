"""What a run's first task says: the plan for the languages that come in, against what *translate* then does."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from relevance_core import config, loop, plan
from relevance_core.config import Settings
from relevance_core.errors import SettingsError
from relevance_core.plan import forecast, unknown
from relevance_core.runs.artifacts import Artifact, Output, Report, Rows, finish
from relevance_core.runs.run import open_run, pin
from relevance_core.runs.stage import Inputs
from relevance_core.stages.translate import stage as translate
from relevance_core.store import Store
from relevance_core.translators import count_remembered, translate_and_remember
from tests.support.gate_cases import refer
from tests.support.stage_cases import log
from tests.support.translate_cases import glossary, inputs_of, ran, settings_of

TRAIN = (
    ("es", "camisa roja", "shirts", 1),
    ("es", "camisa roja", "shoes", 0),
    ("es", "zapatillas", "shoes", 1),
    ("en", "red shirt", "shirts", 1),
    ("en", "red shoes", "shirts", 0),
)
"""Two Spanish queries in three rows, two English ones in two."""


@pytest.fixture
def earlier(store: Store) -> Inputs:
    """An earlier run's *ingest* and *split*: TRAIN, and a German judgement row."""
    return inputs_of(store, log(*TRAIN), log(("de", "rotes hemd", "shirts", 1)))


def estimated(
    settings: Settings, earlier: Inputs, onboarded: tuple[str, ...] = ("de",), **served: tuple[str, ...]
) -> dict[str, Any]:
    return forecast(settings, onboarded, served, "before", earlier["rows"], translate.translator_of(settings, earlier["source"]))  # type: ignore[arg-type]


def test_rows_sources_and_texts_by_language_and_task(store: Store, earlier: Inputs) -> None:
    """German gets as many rows as Spanish has, 3; from Spanish alone these are its 3 rows, 2 texts, of which the memory has 1."""
    settings = settings_of(translate={"min_rows": 0, "sources": ("es",)})
    translate_and_remember(glossary(brands=["veltano"]), store, pl.Series(["zapatillas"]), "es", "de")
    plan = estimated(settings, earlier)
    assert plan["languages"] == {
        "de": {
            "QC": {
                "why": "onboarded",
                "rows": 3,
                "sources": {"es": 3},
                "texts": 2,
                "remembered": 1,
                "judgement_rows": 1,
                "asks": True,
            }
        }
    }
    assert (plan["from"], plan["translator"]["name"]) == ("before", "glossary")
    assert plan["text"] == [
        f"estimated from the rows of run before; the translator is glossary {plan['translator']['version']}",
        "de QC (onboarded): 3 rows from es 3; 2 texts, 1 of them in the translation memory; "
        "1 judgement rows, too few: a person will be asked",
    ]
    assert json.loads(json.dumps(plan)) == plan


def test_the_plan_is_what_translate_then_does(store: Store, earlier: Inputs) -> None:
    """On the same rows: as many of each source sampled, by the same translator; after it, every text is in the memory."""
    settings = settings_of(translate={"min_rows": 4})
    plan = estimated(settings, earlier)
    output = ran(store, settings, earlier)
    figures = output.report.figures
    assert {language: tasks["QC"]["rows"] for language, tasks in plan["languages"].items()} == {
        language: about["sampled"] for language, about in figures["languages"].items()
    }
    assert {language: tasks["QC"]["why"] for language, tasks in plan["languages"].items()} == {
        "de": "onboarded",
        "en": "below the row quota",
        "es": "below the row quota",
    }
    assert plan["translator"]["version"] == figures["translator"]["version"]
    german = pl.concat(
        [output.table("train").filter(language="de", origin="translation").select("origin_id"), _rejected(output, "de")]
    )
    sources = log(*TRAIN).filter(pl.col("pair_id").is_in(german["origin_id"].implode())).group_by("language").len()
    assert plan["languages"]["de"]["QC"]["sources"] == dict(sources.sort("language").iter_rows())
    after = estimated(settings, earlier)["languages"]["de"]["QC"]
    assert after["remembered"] == after["texts"] > 0


def test_who_is_asked(earlier: Inputs) -> None:
    """Not for a language that the champion was trained on, nor with a bound that the rows reach with both labels."""
    settings = settings_of(gate={"min_evidence_rows": 1})
    assert estimated(settings, earlier)["languages"]["de"]["QC"]["asks"], "one row has one label"
    assert not estimated(settings, earlier, QC=("de", "en", "es"))["languages"]["de"]["QC"]["asks"]
    assert not estimated(settings_of(tasks="QI"), earlier)["languages"]["de"]["QC"]["asks"], "the gate of QC is not asked"


def test_what_cannot_be_translated_is_said(earlier: Inputs) -> None:
    """The glossary has no Polish."""
    plan = estimated(settings_of(), earlier, ("pl",))
    assert plan["languages"]["pl"]["QC"]["rows"] == 0
    assert plan["text"][1] == "pl QC (onboarded): no rows, since nothing can be translated into it"


@pytest.mark.parametrize(
    ("enabled", "expected"), [(True, "no language comes in, and none has fewer rows"), (False, "translate.enabled is off")]
)
def test_nothing_to_do_is_said(earlier: Inputs, enabled: bool, expected: str) -> None:
    """A night that brings in nothing, and one without the strategy, say so in a line."""
    plan = estimated(settings_of(translate={"min_rows": 0, "enabled": enabled}), earlier, () if enabled else ("de",))
    assert plan["languages"] == {}
    (line,) = plan["text"]
    assert line.startswith(expected)


def test_the_first_run_says_when_it_will_be_known(store: Store) -> None:
    """Without an earlier run there are the bounds of the settings, and the stage after which the rest is known."""
    settings = settings_of(tasks="QC", translate={"rows": {"QC": 40}, "sources": ("es", "en")})
    plan = unknown(settings, ("de",))
    assert plan["languages"]["de"]["QC"]["rows"] == 40
    assert plan["languages"]["de"]["QC"]["sources"] is None
    assert plan["text"][0].startswith("there is no earlier run to estimate from: rows, sources and cost are known after *split*")
    assert plan["text"][1:] == ["de QC: at most 40 rows from es, en"]


def onboarding(folder: Path, terms: bytes) -> Settings:
    """A run that brings in German from Spanish, with this glossary beside its logs."""
    folder.mkdir()
    (folder / "logs.jsonl").write_text("{}\n")
    (folder / "terms.tsv.gz").write_bytes(terms)
    translated = {"sources": ("es",), "min_rows": 0}
    return settings_of(
        tasks="QC", window={"end": "2026-10-08"}, onboard="de", translate=translated, source={"uri": str(folder / "logs.jsonl")}
    )


def test_a_run_keeps_its_plan(store: Store, earlier: Inputs, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The plan is estimated from the newest other run whose rows are whole, once, and said each time."""
    caplog.set_level("INFO", "relevance_core")
    settings = onboarding(tmp_path / "shop", store.read(earlier["source"].key("terms.tsv.gz")))
    for name in ("2026-10-06-a", "2026-10-07-b"):
        refer(store, name, "split", earlier["rows"])
    store.write("runs/2026-10-07-b/split.json", json.dumps({"address": "stages/split/gone"}).encode())
    run = loop.begin(settings, store, "2026-10-08-c", dag_run="manual__1")
    record = json.loads(store.read("runs/2026-10-08-c/plan.json"))
    assert (record["from"], record["languages"]["de"]["QC"]["rows"]) == ("2026-10-06-a", 3)
    assert caplog.messages == [f"plan: {line}" for line in record["text"]]
    translate.run(settings, earlier, store)
    caplog.clear()
    assert plan.make(run, None) == record
    assert caplog.messages == [f"plan: {line}" for line in record["text"]]


def test_a_forecast_that_fails_fails_no_run(
    store: Store, earlier: Inputs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the glossary can't be read, the plan says so and is that of a first run."""
    refer(store, "2026-10-06-a", "split", earlier["rows"])
    caplog.set_level("INFO", "relevance_core")
    loop.begin(onboarding(tmp_path / "shop", b"no gzip"), store, "2026-10-08-c")
    assert json.loads(store.read("runs/2026-10-08-c/plan.json"))["from"] == ""
    assert any(line.startswith("plan: run 2026-10-06-a can't be used for a forecast: ") for line in caplog.messages)


@pytest.mark.parametrize(
    ("record", "files", "error"),
    [
        ({"address": "stages/split/other"}, {"train.parquet": pl.DataFrame({"words": ["a"]})}, "ColumnNotFoundError"),
        ({"address": "stages/split/other"}, {"train.parquet": b"no table"}, "ComputeError"),
        ({"adress": "stages/split/other"}, {}, "KeyError"),
        ({"address": "stages/split/other"}, {"manifest.json": b"{}"}, "KeyError"),
    ],
    ids=["other columns", "no table", "other record", "other manifest"],
)
def test_an_earlier_run_that_cannot_be_read_fails_no_run(
    store: Store,
    earlier: Inputs,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    record: dict[str, str],
    files: dict[str, Any],
    error: str,
) -> None:
    """Where the newest other run has another format, the plan is that of a first run, and the log names the run and the error."""
    out = Output(store, "stages/split/other")
    for name, content in ({"train.parquet": b"", "dev.parquet": pl.DataFrame({"words": ["a"]})} | files).items():
        stream = io.BytesIO()
        if isinstance(content, pl.DataFrame):
            content.write_parquet(stream)
        out.bytes(name, stream.getvalue() or content)
    if "manifest.json" not in files:
        finish(out, Report(Rows()), "split", None)
    store.write("runs/2026-10-07-b/split.json", json.dumps(record).encode())
    terms = store.read(earlier["source"].key("terms.tsv.gz"))
    loop.begin(onboarding(tmp_path / "shop", terms), store, "2026-10-08-c")
    assert json.loads(store.read("runs/2026-10-08-c/plan.json"))["text"][0].startswith("there is no earlier run to estimate from")
    assert any(line.startswith(f"plan: run 2026-10-07-b can't be used for a forecast: {error}") for line in caplog.messages)


def test_begin_keeps_airflows_name_of_the_run(store: Store) -> None:
    """It is in the record of the run, empty from the command line; a second begin does not change it."""
    settings = settings_of(window={"end": "2026-10-08"})
    pin(settings, store, "a", dag_run="manual__1")
    pin(settings, store, "a")
    pin(settings, store, "b")
    assert [json.loads(store.read(f"runs/{name}/run.json"))["dag_run"] for name in "ab"] == ["manual__1", ""]


def test_a_run_from_before_a_setting_is_still_that_run(store: Store) -> None:
    """A record that lacks a setting is of a run with its default: such a run is found again, one with another value is not."""
    settings = settings_of(window={"end": "2026-10-08"})
    pin(settings, store, "a")
    record = json.loads(store.read("runs/a/run.json"))
    del record["settings"]["approval"], record["dag_run"]
    store.write("runs/a/run.json", json.dumps(record).encode())
    assert open_run(store, "a", Settings()).settings.approval.hours == 12
    with pytest.raises(SettingsError, match=r"other settings; .*approval"):
        pin(settings_of(window={"end": "2026-10-08"}, approval={"hours": 1}), store, "a")


@pytest.mark.parametrize("uri", ["", "nope"])
def test_a_source_that_cannot_be_opened_is_said_when_the_run_begins(
    uri: str, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """A named run begins without it, since it may be there when *ingest* opens it; a warning says why it can't be opened."""
    settings = config.load(overrides=["window.end=2026-10-08", f"source.uri={uri}"])
    assert loop.begin(settings, store, "night-1").run_id == "night-1"
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning.startswith("the source can't be opened, and *ingest* will fail unless it can be by then: ")
    assert ("no source is given" in warning) == (not uri)


def test_a_language_of_no_list_is_refused_at_once(store: Store) -> None:
    """A code in validation.languages that docs/languages.md lacks stops *begin*."""
    settings = config.load(overrides=["window.end=2026-10-08", "validation.languages=en,xx"])
    with pytest.raises(SettingsError, match=r"unknown language: xx; where: validation\.languages; expected: ar, "):
        loop.begin(settings, store, "night-1")


@pytest.mark.parametrize("name", ["scheduled__2026-10-03T02:30:00+00:00", "manual__2026-10-03", "ü 1~a=b@c"])
def test_names_of_airflow_name_a_run(name: str, store: Store) -> None:
    """An Airflow run id and a name in another script are taken."""
    assert loop.begin(config.load(overrides=["window.end=2026-10-08"]), store, name).run_id == name


def test_held_counts_without_translating(store: Store) -> None:
    """Of the texts a, b, a and null two are distinct, and the memory has one of them; it has no more afterwards."""
    translator = glossary()
    translate_and_remember(translator, store, pl.Series(["a"]), "es", "en")
    texts = pl.Series(["a", "b", "a", None])
    assert (
        count_remembered(translator, store, texts, "es", "en") == count_remembered(translator, store, texts, "es", "en") == (2, 1)
    )
    assert count_remembered(translator, store, texts, "es", "de") == (2, 0)


def _rejected(output: Artifact, language: str) -> pl.DataFrame:
    return output.table("ledger").filter(language=language).select("origin_id")


@pytest.mark.parametrize(
    ("onboard", "terms", "told"),
    [
        ("xx", b"", "unknown language to onboard: xx"),
        ("pl", b"term_id\tlanguage\tname\n1\tes\tx\n1\tde\ty\n", "can't translate into pl"),
    ],
)
def test_a_language_that_cannot_come_in_is_refused_at_once(
    store: Store, tmp_path: Path, onboard: str, terms: bytes, told: str
) -> None:
    """An unknown code, and a language that the glossary has no pair for, end a run before it begins: nothing is written."""
    settings = onboarding(tmp_path / "shop", gzip.compress(terms))
    with pytest.raises(SettingsError, match=told):
        loop.begin(settings.model_copy(update={"onboard": (onboard,)}), store, "2026-10-08-c")
    assert store.folders("runs/") == []
