"""Situations that shops have, each with its right value through *ingest* and *validate*: nothing is lost, doubled or changed."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import sqlite3
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from relevance_core import config
from relevance_core.config import Settings
from relevance_core.errors import DataError
from relevance_core.runs.artifacts import Artifact, Rows
from relevance_core.runs.stage import Inputs
from relevance_core.stages import ingest, validate
from relevance_core.stages.ingest import day as days
from relevance_core.store import Store, open_store
from tests.support.command_cases import run
from tests.support.pair_cases import END, Row, at, ingested, many, output, row, settings_for, validated, write_rows
from tests.support.registry_cases import make_bucket, moto_server, put_objects, use_server

DAY = "logs/dt=2026-10-14"
COLUMNS = ("task", "language", "query", "target", "label", "event_time")
ANY_SHARE = ("validation.max_quarantine_share=1", "validation.max_contradicting_share=1", "validation.max_positive_rate=1")
BAD_ROWS = "source.bad_rows=quarantine"


def _csv(path: Path, rows: Iterable[Row], delimiter: str = ",", encoding: str = "utf-8", names: Iterable[str] = COLUMNS) -> Path:
    """Writes rows without quotes: no value of them needs any."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [delimiter.join(names), *(delimiter.join(str(row[name]) for name in COLUMNS) for row in rows)]
    path.write_bytes(("\n".join(lines) + "\n").encode(encoding))
    return path


def _lines(path: Path, *lines: str, end: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + end for line in lines).encode())
    return path


def _table(path: Path, rows: list[dict[str, Any]], **types: pl.DataType) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows, schema_overrides=types).write_parquet(path)
    return path


def _failure(found: Artifact) -> str:
    assert found.report.failure is not None
    return found.report.failure["what"]


def _quarantine(found: Artifact) -> list[tuple[Any, ...]]:
    return found.table("quarantine").select("line", "rule", "unread").sort("line").rows()


def _files(found: Artifact) -> dict[str, str | None]:
    return dict(found.table("ledger").select("file", "why").iter_rows())


# columns and delimiters


def test_files_of_every_market_are_read_whatever_wrote_them(tmp_path: Path, store: Store) -> None:
    """Commas, semicolons, tabs, capitals of Parquet and Capitalised keys: five files of 4 rows are 20 rows of five languages."""
    rows = {language: many(4, language=language, name=language) for language in ("en", "de", "fr", "es", "it")}
    _csv(tmp_path / DAY / "en.csv", rows["en"])
    _csv(tmp_path / DAY / "de.csv", rows["de"], ";")
    _csv(tmp_path / DAY / "fr.csv", rows["fr"], "\t")
    _table(tmp_path / DAY / "es.parquet", [{key.upper(): value for key, value in line.items()} for line in rows["es"]])
    write_rows(tmp_path / DAY / "it.jsonl", [{key.capitalize(): value for key, value in line.items()} for line in rows["it"]])
    found = validated(settings_for(tmp_path), store)
    assert found.report.failure is None
    assert dict(found.table("pairs").group_by("language").len().iter_rows()) == dict.fromkeys(rows, 4)


@pytest.mark.parametrize("name", ["de.csv", "de.parquet", "de.jsonl"])
def test_a_file_without_a_known_column_stops_the_run(tmp_path: Path, store: Store, name: str) -> None:
    """None of one market's columns is known: its 4 rows count, and the failure names the file and the columns that it has."""
    write_rows(tmp_path / DAY / "en.jsonl", many(4))
    own = {"task": "a", "language": "b", "query": "c", "target": "d", "label": "e", "event_time": "f"}
    rows = many(4, language="de", name="rot")
    named = [{own[key]: value for key, value in line.items()} for line in rows]
    path = tmp_path / DAY / name
    if path.suffix == ".csv":
        _csv(path, rows, ";", names=own.values())
    elif path.suffix == ".parquet":
        _table(path, named)
    else:
        write_rows(path, named)
    found = validated(settings_for(tmp_path), store)
    assert found.report.rows.incoming == 8
    assert f"files_without_column of query is 1 ({DAY}/{name} has a, b, c, d, e, f)" in _failure(found)
    assert found.report.failure is not None
    assert "source.columns" in found.report.failure["do"]
    mapped = settings_for(tmp_path, f"source.columns={json.dumps({value: key for key, value in own.items()})}")
    assert validated(mapped, store).report.failure is None


def test_columns_of_the_path_are_columns(tmp_path: Path, store: Store) -> None:
    """Files under language=de/task=QC hold neither column: their rows are German, and those beside them English."""
    for language in ("de", "en"):
        plain = [{key: line[key] for key in ("query", "target", "label", "event_time")} for line in many(4, name=language)]
        _table(tmp_path / DAY / f"language={language}/task=QC/part-0.parquet", plain)
    found = validated(settings_for(tmp_path), store)
    assert found.report.failure is None
    assert sorted(found.table("pairs").select("task", "language", pl.col("query").str.slice(0, 2)).unique().rows()) == [
        ("QC", "de", "de"),
        ("QC", "en", "en"),
    ]


# names of files and folders


@pytest.mark.parametrize("folder", ["shop", "shop [prod]", "shop*", "shop?"])
@pytest.mark.parametrize("names", [("part[1].jsonl", "part1.jsonl"), ("part-?.jsonl", "part-1.jsonl"), ("p*.csv", "pp.csv")])
def test_names_are_no_patterns(tmp_path: Path, store: Store, folder: str, names: tuple[str, str]) -> None:
    """A file whose name would match its neighbour as a pattern: each of both is read once, in a folder of any name."""
    for number, name in enumerate(names):
        rows = many(3, name=f"file {number}")
        (write_rows if name.endswith("jsonl") else _csv)(tmp_path / folder / DAY / name, rows)
    (tmp_path / "shopx").mkdir()
    found = ingested(settings_for(tmp_path / folder), store)
    assert found.table("pairs")["file"].value_counts().sort("file")["count"].to_list() == [3, 3]


def test_unfinished_and_deleted_files_are_left_out(tmp_path: Path, store: Store) -> None:
    """Of five files four lie below folders that begin with _ or a dot: one is read, and each of the others has its reason."""
    write_rows(tmp_path / DAY / "part-0.jsonl", many(3))
    hidden = {
        f"{DAY}/_temporary/0/task_1/part-1.jsonl": "the folder _temporary begins with _",
        "logs/.spark-staging-6f/dt=2026-10-14/part-2.jsonl": "the folder .spark-staging-6f begins with .",
        "logs/.Trash/dt=2026-10-14/part-3.jsonl": "the folder .Trash begins with .",
        f"{DAY}/.ipynb_checkpoints/part-0-checkpoint.jsonl": "the folder .ipynb_checkpoints begins with .",
    }
    for number, name in enumerate(hidden):
        write_rows(tmp_path / name, many(3, name=f"hidden {number}"))
    found = ingested(settings_for(tmp_path), store)
    assert found.table("pairs").height == 3
    assert _files(found) == {f"{DAY}/part-0.jsonl": None} | hidden


def test_linked_partitions_and_files_are_read(tmp_path: Path, store: Store) -> None:
    """A day that is a link, a file that is a link, and a file: all three are read; a link to nothing is named."""
    write_rows(tmp_path / "elsewhere/dt=2026-10-14/p.jsonl", many(3, name="day"))
    write_rows(tmp_path / "elsewhere/extra.jsonl", many(3, name="extra"))
    write_rows(tmp_path / "shop/logs/dt=2026-10-13/p.jsonl", many(3, name="own"))
    (tmp_path / "shop/logs/dt=2026-10-14").symlink_to("../../elsewhere/dt=2026-10-14")
    (tmp_path / "shop/logs/dt=2026-10-13/extra.jsonl").symlink_to("../../../elsewhere/extra.jsonl")
    (tmp_path / "shop/logs/dt=2026-10-13/gone.jsonl").symlink_to("nowhere")
    found = ingested(settings_for(tmp_path / "shop"), store)
    assert found.table("pairs").height == 9
    files = _files(found)
    assert [file for file, why in files.items() if why is None] == [
        "logs/dt=2026-10-13/extra.jsonl", "logs/dt=2026-10-13/p.jsonl", "logs/dt=2026-10-14/p.jsonl",
    ]  # fmt: skip
    assert "link" in (files["logs/dt=2026-10-13/gone.jsonl"] or "")


def test_links_that_became_text_files_are_no_rows(tmp_path: Path, store: Store) -> None:
    """A copy that turned the link of a day into a file with its path: the day is unplaced, and *validate* stops at it."""
    write_rows(tmp_path / "logs/dt=2026-10-13/p.jsonl", many(3))
    _lines(tmp_path / "logs/dt=2026-10-14", "../../elsewhere/dt=2026-10-14", end="")
    assert "files_without_day of window is 1 (logs/dt=2026-10-14)" in _failure(validated(settings_for(tmp_path), store))


def test_data_beside_that_could_be_read_is_read_or_named(tmp_path: Path, store: Store) -> None:
    """Other endings, compressed files and other spellings of a day are read; what names no day stops the run by name."""
    rows = {
        name: many(3, name=f"file {number}")
        for number, name in enumerate(
            [
                f"{DAY}/en.jsonl", f"{DAY}/es.ndjson", f"{DAY}/fr.json", f"{DAY}/it.JSONL",
                "logs/dt=20261014/a.jsonl", "logs/date=2026-10-14/a.jsonl",
                "logs/dt=2026-10-14-09/a.jsonl", "logs/dt=__HIVE_DEFAULT_PARTITION__/a.jsonl",
            ]
        )
    }  # fmt: skip
    for name, lines in rows.items():
        write_rows(tmp_path / name, lines)
    plain = _csv(tmp_path / DAY / "de.csv", many(3, name="file csv"))
    (tmp_path / DAY / "de.csv.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    found = validated(settings_for(tmp_path), store)
    assert found.report.rows.incoming == 21
    assert "files_without_day of window is 2" in _failure(found)
    ledger = _files(ingested(settings_for(tmp_path), store))
    assert {file: why for file, why in ledger.items() if why} == {
        "logs/dt=2026-10-14-09/a.jsonl": "unplaced: dt=2026-10-14-09 is no day",
        "logs/dt=__HIVE_DEFAULT_PARTITION__/a.jsonl": "unplaced: dt=__HIVE_DEFAULT_PARTITION__ is no day",
    }


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with moto_server(page=3) as endpoint:
        yield endpoint


BUCKETS = (f"cases-{number}" for number in itertools.count())


@pytest.fixture
def bucket(moto: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty bucket, which `open_store` finds."""
    use_server(monkeypatch, moto)
    name = next(BUCKETS)
    make_bucket(moto, name)
    return name


def _jsonl(rows: Iterable[Row]) -> bytes:
    return "".join(json.dumps(line) + "\n" for line in rows).encode()


def test_odd_keys_of_s3_stop_no_run(moto: str, bucket: str, store: Store) -> None:
    """A key with an empty part, six years before the window, is skipped by its day; one of the window is read."""
    keys = {
        f"shop/{DAY}/a.jsonl": _jsonl(many(3, name="plain")),
        f"shop/{DAY}//b.jsonl": _jsonl(many(3, name="odd")),
        f"shop/{DAY}/\\c\u200e.jsonl": _jsonl(many(3, name="marked")),
        "shop/logs/dt=2020-01-01//old.jsonl": _jsonl(many(3, name="old")),
    }
    put_objects(moto, bucket, keys)
    found = ingested(settings_for(f"s3://{bucket}/shop"), store)
    assert found.table("pairs").height == 9
    assert _files(found)["logs/dt=2020-01-01//old.jsonl"] == "its day lies outside the window and its history"


# what is no text


LIST = ["Clothing", "Shoes"]


def test_a_list_is_no_target(tmp_path: Path, store: Store) -> None:
    """Category paths that are lists or objects, as JSON and as Parquet, are unread and in quarantine; none is printed."""
    write_rows(tmp_path / DAY / "a.jsonl", [*many(3), row("list", LIST), row("object", {"a": 1}), row("empty", [])])
    kinds = {"target": pl.List(pl.String())}
    _table(tmp_path / DAY / "b.parquet", [row("list of parquet", LIST), row("none", None), row("empty of parquet", [])], **kinds)
    found = validated(settings_for(tmp_path, *ANY_SHARE), store)
    assert set(found.table("pairs")["target"]) == {"shoes"}
    quarantine = found.table("quarantine").sort("file", "line").select("query", "target", "rule", "unread")
    assert quarantine.rows() == [
        ("list", None, "values_readable", "target=['Clothing', 'Shoes']"),
        ("object", None, "values_readable", "target={'a': 1}"),
        ("empty", None, "values_readable", "target=[]"),
        ("list of parquet", None, "values_readable", "target=['Clothing', 'Shoes']"),
        ("none", None, "target_not_null", None),
        ("empty of parquet", None, "values_readable", "target=[]"),
    ]


def test_bytes_are_utf8_or_unread(tmp_path: Path, store: Store) -> None:
    """Binary columns, as Impala writes text and others write UUIDs: what is UTF-8 is text, the rest is unread, row by row."""
    plain = [row("schuhe", "a", language="de"), row("x", "b", language="de")]
    rows = [line | {"query": query} for line, query in zip(plain, (b"schuhe", "möbel".encode("latin-1")), strict=True)]
    _table(tmp_path / DAY / "impala.parquet", rows, query=pl.Binary())
    ids = [line | {"target_id": bytes(range(start, start + 16))} for line, start in zip(plain, (0, 200), strict=True)]
    _table(tmp_path / DAY / "ids.parquet", ids, target_id=pl.Binary())
    found = validated(settings_for(tmp_path, *ANY_SHARE), store)
    assert found.table("pairs").select("query", "target").rows() == [("schuhe", "a")]
    unread = dict(found.table("quarantine").sort("file", "line").select("file", "unread").group_by("file").all().iter_rows())
    assert unread[f"{DAY}/impala.parquet"] == ["query=b'm\\xf6bel'"]
    assert [text.startswith("target_id=b'") for text in unread[f"{DAY}/ids.parquet"]] == [True, True]


def test_an_unreadable_row_takes_no_sound_rows_place(tmp_path: Path, store: Store) -> None:
    """Of two rows of one pair and moment one has a weight that can't be read: the sound one is kept, the other in quarantine."""
    write_rows(tmp_path / DAY / "a.jsonl", [*many(20), row(weight="heavy"), row(event_time="2026-10-14T08:00:00")])
    found = validated(settings_for(tmp_path), store)
    assert found.table("pairs").filter(query="red shoe").height == 1
    assert _quarantine(found) == [(21, "values_readable", "weight=heavy")]


def test_ids_that_pandas_made_floats_are_the_same_ids(tmp_path: Path, store: Store) -> None:
    """On the second night one id is missing and the others are floats: 1001.0 is 1001, and each pair's later label wins."""
    first = [("red shoe", 1001, 1), ("blue shoe", 1002, 0)]
    second = [("red shoe", 1001.0, 0), ("blue shoe", 1002.0, 1), ("green shoe", None, 1)]
    for day, night in ((13, first), (14, second)):
        rows = [
            {"task": "QI", "language": "en", "query": query, "item_title": query, "item_id": id_, "label": label}
            | {"event_time": datetime(2026, 10, day, 9)}
            for query, id_, label in night
        ]
        _table(tmp_path / f"logs/dt=2026-10-{day}/a.parquet", rows)
    found = validated(settings_for(tmp_path, *ANY_SHARE), store)
    assert found.report.rows.reasons == {"dropped: superseded": 2}
    assert found.table("pairs").filter(pl.col("query") != "green shoe").sort("query").select("target_id", "label").rows() == [
        ("1002", 1),
        ("1001", 0),
    ]


# JSON


def test_a_mark_before_json_lines_is_no_content(tmp_path: Path, store: Store) -> None:
    """JSON lines with a byte order mark, as PowerShell writes them, are read whole."""
    (tmp_path / DAY).mkdir(parents=True)
    (tmp_path / DAY / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + _jsonl(many(3)))
    assert ingested(settings_for(tmp_path), store).table("pairs").height == 3


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (json.dumps(row("x", label=float("nan"))), "NaN is no JSON value"),
        ('uage": "en", "query": "x", "target": "shoes"}', "expecting value"),
        (json.dumps(row("half")).replace("half", "half\\ud83d"), "half of a surrogate pair"),
    ],
)
def test_one_bad_line_is_named_and_costs_itself(tmp_path: Path, store: Store, bad: str, why: str) -> None:
    """Line 21 of 41 can't be read: the run stops and names it; with the setting the other 40 are kept and it is in quarantine."""
    good = [json.dumps(line) for line in many(40)]
    path = _lines(tmp_path / DAY / "a.jsonl", *good[:20], bad, *good[20:])
    with pytest.raises(DataError) as caught:
        ingested(settings_for(tmp_path), store)
    assert f"/{path.name}, line 21, byte " in caught.value.where
    assert why in caught.value.what
    assert "source.bad_rows=quarantine" in caught.value.do
    found = validated(settings_for(tmp_path, BAD_ROWS), store)
    assert (found.report.rows.kept, found.report.rows.quarantined, found.report.failure) == (40, 1, None)
    ((line, rule, unread),) = _quarantine(found)
    assert (line, rule, unread.startswith("row=")) == (21, "values_readable", True)
    assert why in unread


def test_an_array_in_json_lines_is_a_short_error(tmp_path: Path, store: Store) -> None:
    """A JSON array named .jsonl is refused in a line that shows no row; named .json it is read."""
    path = tmp_path / DAY / "a.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(many(200, name="private")))
    with pytest.raises(DataError) as caught:
        ingested(settings_for(tmp_path), store)
    message = str(caught.value)
    assert ("JSON array" in message, ", line 1, " in message, "private" in message) == (True, True, False)
    assert len(message) < 500
    path.rename(path.with_suffix(".json"))
    assert ingested(settings_for(tmp_path), store).table("pairs").height == 200


def test_the_last_of_two_keys_counts(tmp_path: Path, store: Store) -> None:
    """A label that stands twice in an object is the last one, as Python's reader has it."""
    _lines(tmp_path / DAY / "a.jsonl", json.dumps(row("twice")).replace('"label": 1', '"label": 1, "label": 0'))
    assert ingested(settings_for(tmp_path), store).table("pairs")["label"].to_list() == [0]


# CSV


def test_blank_lines_are_no_rows(tmp_path: Path, store: Store) -> None:
    """Blank lines and lines of commas, which Excel leaves below the data, are neither rows nor in quarantine."""
    path = _csv(tmp_path / DAY / "a.csv", many(3))
    path.write_text(path.read_text() + "\n" * 4 + ",,,,,\n" * 3)
    found = validated(settings_for(tmp_path), store)
    assert (found.report.rows.incoming, found.report.rows.quarantined, found.report.failure) == (3, 0, None)


def test_backslashes_escape_quotes_where_spark_wrote_them(tmp_path: Path, store: Store) -> None:
    """Two rows whose queries end in an escaped inch mark stay two rows, each with its own label."""
    path = _csv(tmp_path / DAY / "spark.csv", many(3))
    times = ",2026-10-14T09:00:00\n"
    path.write_text(path.read_text() + 'QC,en,"pan 12\\"",pans,1' + times + 'QC,en,"pan 14\\"",pots,0' + times)
    pairs = ingested(settings_for(tmp_path), store).table("pairs")
    assert pairs.height == 5
    assert pairs.filter(pl.col("query").str.starts_with("pan")).sort("query").select("query", "target", "label").rows() == [
        ('pan 12"', "pans", 1),
        ('pan 14"', "pots", 0),
    ]


# glossary and brands


TERMS = (("s", "shoes", "Schuhe"), ("p", '12" pan', '12" Pfanne'), ("t", "pots, steel", "Töpfe, Stahl"), ("r", "red", "rot"))


def _terms(*, quoted: bool = False, languages: tuple[str, str] = ("en", "de"), end: str = "\n") -> str:
    def name(text: str) -> str:
        return '"' + text.replace('"', '""') + '"' if quoted and (set(text) & {'"', ","}) else text

    lines = ["term_id\tlanguage\tname"]
    for term, *names in TERMS:
        lines += [f"{term}\t{language}\t{name(text)}" for language, text in zip(languages, names, strict=True)]
    return "".join(line + end for line in lines)


FORMS: dict[str, bytes] = {
    "terms.tsv": _terms().encode(),
    "quotes of Excel/terms.tsv": _terms(quoted=True).encode(),
    "UTF-16 of Excel/terms.tsv": _terms(quoted=True).encode("utf-16"),
    "mark/terms.tsv": _terms().encode("utf-8-sig"),
    "carriage returns/terms.tsv": _terms(quoted=True, end="\r").encode(),
    "blank line/terms.tsv": (_terms() + "\n").encode(),
    "capitals/terms.tsv": _terms(languages=("EN", "DE")).encode(),
    "gzip/terms.tsv.gz": gzip.compress(_terms().encode()),
}


def _onboarded(source: Path, store: Store, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Status and error of a dry run that brings German in by the glossary."""
    rows = ("--source", str(source), "--window-end", END, "--tasks", "QC", "--onboard", "de")
    done = run(capsys, "retrain", "--store", store.uri, *rows, "--dry-run")
    assert "Traceback" not in done.err
    return done.code, done.last


@pytest.mark.parametrize("form", FORMS)
def test_a_glossary_is_read_however_it_was_saved(
    tmp_path: Path, store: Store, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The translations of 12" pan and of pots, steel hold neither a second quote nor an outer one."""
    rows = [row(f"red {name} {n}", label=n % 2) for n in range(36, 56) for _, name, _ in TERMS[:3]]
    write_rows(tmp_path / "shop" / DAY / "a.jsonl", rows)
    (tmp_path / "shop" / form.rpartition("/")[2]).write_bytes(FORMS[form])
    code, error = _onboarded(tmp_path / "shop", store, capsys)
    assert code == 0, error
    (key,) = [entry.key for entry in store.list("stages/translate/") if entry.key.endswith("/train.parquet")]
    german = pl.read_parquet(store.read(key)).filter(language="de")["query"].to_list()
    names = {query.removeprefix("rot ").rpartition(" ")[0].lower() for query in german}
    assert names == {"schuhe", '12" pfanne', "töpfe, stahl"}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("terms.tsv", _terms().encode("cp1252"), ("terms.tsv, line 7, byte ", "UTF-8")),
        ("terms.tsv.gz", gzip.compress(_terms().encode())[:-20], ("terms.tsv.gz", "cut")),
        ("brands.txt", "Nike\nCafé\n".encode("cp1252"), ("brands.txt, line 2, byte ", "UTF-8")),
    ],
)
def test_a_glossary_that_cannot_be_read_is_one_line(
    tmp_path: Path, store: Store, name: str, content: bytes, told: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """A glossary or brands in cp1252, and a cut archive, end the run with 65 and name file and place."""
    write_rows(tmp_path / "shop" / DAY / "a.jsonl", many(10))
    (tmp_path / "shop/terms.tsv").write_bytes(FORMS["terms.tsv"])
    if name.startswith("terms"):
        (tmp_path / "shop/terms.tsv").unlink()
    (tmp_path / "shop" / name).write_bytes(content)
    code, error = _onboarded(tmp_path / "shop", store, capsys)
    assert code == 65
    assert all(text in error for text in told), error


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_brands_are_read_in_utf8_and_utf16(tmp_path: Path, store: Store, encoding: str) -> None:
    """Brands are copied as UTF-8 without a mark, whichever of the encodings they came in."""
    write_rows(tmp_path / DAY / "a.jsonl", many(3))
    (tmp_path / "brands.txt").write_bytes("Nike\nCafé\n".encode(encoding))
    found = ingested(settings_for(tmp_path), store)
    assert found.store.read(found.key("brands.txt")) == "Nike\nCafé\n".encode()


# times, labels, texts


@pytest.mark.parametrize(
    ("given", "moment"),
    [
        ("2026-10-14T09:00Z", "2026-10-14T09:00:00"),
        ("2026-10-14T09:00+02:00", "2026-10-14T07:00:00"),
        ("2026-10-14 09:00", "2026-10-14T09:00:00"),
        ("20261014T090000Z", "2026-10-14T09:00:00"),
        ("2026-10-14T09:00:00,5Z", "2026-10-14T09:00:00.500000"),
        ("2026-10-14T09:00:00Z", "2026-10-14T09:00:00"),
    ],
)
def test_iso_times_are_read(tmp_path: Path, store: Store, given: str, moment: str) -> None:
    """Times of ISO 8601 without seconds, as Java writes full minutes, and in the basic form, are moments."""
    write_rows(tmp_path / DAY / "a.jsonl", [row(event_time=given)])
    assert ingested(settings_for(tmp_path), store).table("pairs").select("event_time", "unread").rows() == [(at(moment), None)]


def test_a_time_that_cannot_be_read_is_told_beside_a_date_that_can(tmp_path: Path, store: Store) -> None:
    """An event_time of another form is noted as unread, although event_date gives the row a day."""
    write_rows(tmp_path / DAY / "a.jsonl", [row(event_time="14/10/2026 23:00", event_date="2026-10-14")])
    assert ingested(settings_for(tmp_path), store).table("pairs")["unread"].to_list() == ["event_time=14/10/2026 23:00"]


@pytest.mark.parametrize(
    ("query", "same"),
    [
        ("size 7½", "size 7½"),
        ("42½", "42½"),
        ("10² cm", "10² cm"),
        ("น้ำหอม", "น้ำหอม"),
        ("ทำความสะอาด", "ทำความสะอาด"),
        ("\u3164", ""),
        ("a\u001cb", "ab"),
        ("cafe\u0301", "café"),
        ("ＡＢＣ　１", "ABC 1"),
    ],
)
def test_a_text_keeps_its_meaning(tmp_path: Path, store: Store, query: str, same: str) -> None:
    """Fractions, powers and Thai vowels stay; a filler alone is an empty query; separators are spaces; widths are folded."""
    write_rows(tmp_path / DAY / "a.jsonl", [row(query)])
    found = ingested(settings_for(tmp_path), store).table("pairs").select("query", "rule").row(0)
    assert found == (unicodedata.normalize("NFC", same), None if same else "query_length")


ESCI = (
    'source.columns={"product_title": "item_title", "product_id": "item_id", "product_locale": "language", "esci_label": "label"}',
    'source.labels={"E": 1, "S": 1, "C": 0, "I": 0}',
    'source.languages={"us": "en", "jp": "ja"}',
    "source.task=QI",
)


def test_a_published_data_set_is_read_by_settings(tmp_path: Path, store: Store) -> None:
    """ESCI's columns, letters and locales: without settings the run stops and names its columns, with them every row is a pair."""
    markets = [("us", "revent 80 cfm"), ("es", "zapatos nike"), ("jp", "赤い靴")]
    rows = [
        {"example_id": n, "query": f"{query} {letter}", "query_id": n, "product_id": f"B{n}", "product_locale": market}
        | {"esci_label": letter, "small_version": 0, "large_version": 1, "split": "train", "product_title": f"Title {n}"}
        for n, ((market, query), letter) in enumerate(itertools.product(markets, "ESCI"))
    ]
    _table(tmp_path / DAY / "shopping_queries.parquet", rows)
    stopped = validated(settings_for(tmp_path), store)
    assert "files_without_column of label is 1" in _failure(stopped)
    assert "esci_label" in _failure(stopped)
    found = validated(settings_for(tmp_path, *ESCI), store)
    assert found.report.failure is None
    pairs = found.table("pairs").sort("target_id")
    assert sorted(pairs.group_by("task", "language", "label").len().rows()) == [
        ("QI", language, label, 2) for language in ("en", "es", "ja") for label in (0, 1)
    ]
    assert set(pairs["target_id"]) == {f"B{n}" for n in range(12)}


def test_letters_without_a_mapping_are_no_labels(tmp_path: Path, store: Store) -> None:
    """Labels E, S, C, I stop the run as unread; with the mapping one that is not in it is unread alone."""
    write_rows(tmp_path / DAY / "a.jsonl", [row(f"query {n}", label="ESCI"[n % 4]) for n in range(20)])
    assert "quarantined_share of window is 1" in _failure(validated(settings_for(tmp_path), store))
    write_rows(tmp_path / DAY / "b.jsonl", [row("other", label="X")])
    found = validated(settings_for(tmp_path, ESCI[1]), store)
    assert (found.report.rows.kept, _quarantine(found)) == (20, [(1, "values_readable", "label=X")])


def test_graded_labels_need_a_bound(tmp_path: Path, store: Store) -> None:
    """Grades 0 to 3 are no labels: above 1 they are in quarantine; from a bound of 2 on they are relevant, below it not."""
    write_rows(tmp_path / DAY / "a.jsonl", [row(f"query {n}", label=n % 4) for n in range(20)])
    stopped = validated(settings_for(tmp_path), store)
    assert "of 20 rows: label_in_0_1 10" in _failure(stopped)
    found = validated(settings_for(tmp_path, "source.label_bound=2"), store)
    assert found.table("pairs")["label"].value_counts().sort("label").rows() == [(0, 10), (1, 10)]


# many files


def test_small_files_are_converted_together(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """300 files of one row on each of two days are 600 rows of 600 files, converted once a day."""
    for day, number in itertools.product((13, 14), range(300)):
        rows = [row(f"query {day} {number}", event_time=f"2026-10-{day}")]
        write_rows(tmp_path / f"logs/dt=2026-10-{day}/part-{number}.jsonl", rows)
    calls: list[int] = []
    conform: Callable[..., pl.DataFrame] = days.conform
    monkeypatch.setattr(days, "conform", lambda batch, **more: calls.append(batch.frame.height) or conform(batch, **more))
    found = ingested(settings_for(tmp_path), store)
    assert (found.table("pairs").height, found.table("ledger")["rows"].to_list()) == (600, [1] * 600)
    assert [rows for rows in calls if rows] == [300, 300]


# the sums


def _through(settings: Settings, store: Store) -> tuple[Artifact, Artifact]:
    """The outputs of *ingest* and *validate* of one run."""
    read = output(ingest.run(settings, Inputs(), store), store)
    return read, output(validate.run(settings, Inputs({"rows": read}), store), store)


def _assert_sums(read: Artifact, judged: Artifact, written: int) -> None:
    """Every row that was written is kept, in quarantine with its place, or dropped with a reason."""
    first, second = read.report.rows, judged.report.rows
    assert first.incoming == written
    assert first.kept == second.incoming == read.table("pairs").height
    assert second.kept == judged.table("pairs").height
    assert second.quarantined == judged.table("quarantine").height
    assert written == second.kept + second.quarantined + second.dropped + first.dropped
    for rows in (first, second):
        assert sum(rows.reasons.values()) == rows.dropped + rows.quarantined
    assert judged.table("quarantine").select("file", "line").null_count().row(0) == (0, 0)


EVENTS: list[dict[str, Any]] = [
    *many(20),
    *many(10, day="2026-10-12", name="history"),
    row("same"), row("same"), row("same", event_time="2026-10-13T09:00:00"),
    row("both", label=1), row("both", label=0, event_time="2026-10-13"),
    row("tied", label=1), row("tied", label=0),
    row("too old", event_time="2026-01-01"), row("too new", event_time="2026-10-15"),
    row("seven", label=7), row(None), row("no time", event_time="soon"), row("strange", language="xx"),
]  # fmt: skip
"""37 rows: 35 of them inside the window and its history, of which 2 repeat another, 1 is superseded, 2 contradict, 4 are bad."""


def _write(folder: Path) -> int:
    """Writes EVENTS over files of several forms, among files that are none; returns the number of the rows."""
    parts = [EVENTS[n::4] for n in range(4)]
    write_rows(folder / DAY / "a.jsonl", parts[0])
    write_rows(folder / "logs/dt=2026-10-13/b.ndjson", parts[1])
    _lines(folder / DAY / "c.json", json.dumps(parts[2]))
    _lines(folder / "logs/d.jsonl", *map(json.dumps, parts[3]), '{"task": "QC", "query": "cut')
    write_rows(folder / "logs/dt=2020-01-01/old.jsonl", many(2, name="old"))
    write_rows(folder / DAY / "_temporary/e.jsonl", many(2, name="hidden"))
    write_rows(folder / "clicks/dt=2026-10-14/f.jsonl", [])
    for name in (f"{DAY}/_SUCCESS", f"{DAY}/notes.txt", "logs/readme.md", "terms.tsv", f"{DAY}/empty.csv"):
        (folder / name).write_text(_terms() if name == "terms.tsv" else "x" * (not name.endswith("csv")))
    return len(EVENTS) + 1


CALM = (*ANY_SHARE, BAD_ROWS, "validation.max_rows_of_mean=1000")
LISTED = 12


def _assert_accounted(settings: Settings, store: Store, listed: set[str], written: int) -> None:
    read, judged = _through(settings, store)
    ledger = read.table("ledger")
    assert ledger["file"].to_list() == sorted(listed)
    figures = read.report.figures
    assert len(listed) == figures["files"] + sum(figures["files_skipped"].values())
    assert ledger.filter(pl.col("why").is_null()).height == figures["files"] == 4
    assert ledger["rows"].sum() == written
    _assert_sums(read, judged, written)
    assert read.report.rows.reasons == {
        "dropped: outside the window": 2,
        "dropped: duplicate": 1,
        "dropped: repeated": 1,
    }
    assert judged.report.rows.reasons == {
        "dropped: superseded": 1,
        "dropped: contradicting": 2,
        "quarantined: label_in_0_1": 1,
        "quarantined: language_known": 1,
        "quarantined: query_not_null": 1,
        "quarantined: values_readable": 2,
    }


def test_every_file_and_row_of_a_folder_is_accounted_for(tmp_path: Path, store: Store) -> None:
    """Of every file on disk and every row written the run says what became of it; the sums are exact."""
    written = _write(tmp_path)
    listed = {
        str((Path(folder) / name).relative_to(tmp_path)) for folder, _, names in os.walk(tmp_path) for name in names
    }  # every file, as the file system lists it
    assert len(listed) == LISTED
    _assert_accounted(settings_for(tmp_path, *CALM), store, listed, written)


def test_every_object_and_row_of_a_bucket_is_accounted_for(tmp_path: Path, moto: str, bucket: str, store: Store) -> None:
    """The same shop in S3 has the same sums."""
    written = _write(tmp_path)
    objects = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    put_objects(moto, bucket, {f"shop/{key}": data for key, data in objects.items()})
    _assert_accounted(settings_for(f"s3://{bucket}/shop", *CALM), store, set(objects), written)


def test_every_row_of_a_query_is_accounted_for(tmp_path: Path, store: Store) -> None:
    """Of the rows that the database itself counts in the window and its history each is kept, in quarantine or dropped."""
    connection = sqlite3.connect(tmp_path / "shop.db")
    connection.execute("CREATE TABLE log (task, language, query, target, label, event_time)")
    events = [event for event in EVENTS if event["event_time"] != "soon"]
    connection.executemany(
        "INSERT INTO log VALUES (?, ?, ?, ?, ?, ?)", [tuple(event[name] for name in COLUMNS) for event in events]
    )
    connection.execute("INSERT INTO log VALUES ('QC', 'en', x'ff', 'shoes', 1, '2026-10-14')")
    connection.commit()
    inside = "event_time >= '2026-07-16' AND event_time < '2026-10-15'"
    (written,) = connection.execute(f"SELECT count(*) FROM log WHERE {inside}").fetchone()  # noqa: S608 - a text of this test
    connection.close()
    query = f"SELECT {', '.join(COLUMNS)} FROM log WHERE event_time >= :start AND event_time < :end"  # noqa: S608 - likewise
    source = {"sql": query, "connection": f"sqlite:///{tmp_path / 'shop.db'}"}
    bounds = {"max_quarantine_share": 1, "max_contradicting_share": 1, "max_rows_of_mean": 1000}
    settings = config.build({"source": source, "window": {"end": END}, "validation": bounds})
    read, judged = _through(settings, store)
    ledger = read.table("ledger")
    assert ledger["file"].to_list() == [f"sql {day}" for day in (date(2026, 10, 12), date(2026, 10, 13), date(2026, 10, 14))]
    assert ledger["rows"].sum() == written
    _assert_sums(read, judged, written)
    assert isinstance(judged.report.rows, Rows)
    assert judged.report.rows.reasons["quarantined: values_readable"] == 1
    assert ledger["quarantined"].to_list() == [0, 0, 4]
    broken = judged.table("quarantine").filter(rule="values_readable").select("file", "unread").row(0)
    assert broken == ("sql 2026-10-14", "query=b'\\xff'")


def test_a_row_of_a_query_changes_its_day_alone(tmp_path: Path, store: Store) -> None:
    """A late row of one of three days makes that day anew; the places of the other days' rows don't shift."""
    connection = sqlite3.connect(tmp_path / "shop.db")
    connection.execute("CREATE TABLE log (task, language, query, target, label, event_time)")
    rows = [event for day in (12, 13, 14) for event in many(3, day=f"2026-10-{day}", name=f"day {day}")]
    insert = "INSERT INTO log VALUES (?, ?, ?, ?, ?, ?)"
    connection.executemany(insert, [tuple(event[name] for name in COLUMNS) for event in rows])
    connection.commit()
    query = f"SELECT {', '.join(COLUMNS)} FROM log WHERE event_time >= :start AND event_time < :end"  # noqa: S608 - names of this file
    source = {"sql": query, "connection": f"sqlite:///{tmp_path / 'shop.db'}"}
    settings = config.build({"source": source, "window": {"end": END}})

    def kept() -> set[str]:
        ingested(settings, store)
        return {entry.key for entry in store.list("stages/day/") if entry.key.endswith("/manifest.json")}

    before = kept()
    connection.execute(insert, ("QC", "en", "a late row", "shoes", 1, "2026-10-12 00:00:00"))
    connection.commit()
    connection.close()
    assert len(before) == 3
    assert len(kept() - before) == 1


def test_a_copy_of_the_store_finds_the_same_rows(tmp_path: Path) -> None:
    """The same folder read into two stores leaves the same pairs and ledgers."""
    _write(tmp_path / "shop")
    one, other = (ingested(settings_for(tmp_path / "shop", *CALM), open_store(str(tmp_path / name))) for name in ("one", "other"))
    for table in ("pairs", "ledger"):
        assert one.table(table).equals(other.table(table))
