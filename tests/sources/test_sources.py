"""Sources: every form of a log becomes the same pairs."""

from __future__ import annotations

import gzip
import json
import os
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from relevance_core.errors import DataError, NotFound, SettingsError
from relevance_core.pairs import ORIGINALS, SCHEMA, digest
from relevance_core.sources import UNPLACED, Batch, Options, Source, batches, conform, open_source, read_labelled
from relevance_core.sources.columns import SOURCE_ID
from relevance_core.store import open_store
from tests.support.pair_cases import at, row, settings_for, write_rows
from tests.support.places import REAL_TERMS
from tests.support.registry_cases import make_bucket, moto_server, use_server


def test_competition_lines_are_read_by_their_own_names() -> None:
    """`origin_query`, `category_path` of QC and `item_title` of QI are query and target; a target without an id gets a digest."""
    frame = pl.DataFrame(
        {
            "id": [1, 2],
            "task": ["QC", "QI"],
            "language": ["ES", "fr"],
            "origin_query": ["zapato  rojo", "chaussure"],
            "category_path": ["shoes,red", "an item may carry its category too"],
            "item_title": [None, "Chaussure rouge"],
            "label": [1, 0],
        }
    )
    pairs = conform(Batch("a.jsonl", frame), undated=at("2026-10-14"))
    assert pairs["query"].to_list() == ["zapato rojo", "chaussure"]
    assert pairs["query_original"].to_list() == ["zapato  rojo", "chaussure"]
    assert pairs["target"].to_list() == ["shoes,red", "Chaussure rouge"]
    assert pairs["target_id"].to_list() == [digest("target", "shoes,red"), digest("target", "Chaussure rouge")]
    assert pairs["language"].to_list() == ["es", "fr"]
    assert pairs["label"].to_list() == [1, 0]
    assert pairs["event_time"].to_list() == [at("2026-10-14")] * 2
    assert pairs[SOURCE_ID].to_list() == ["1", "2"]
    assert {name: pairs.schema[name] for name in SCHEMA} == SCHEMA


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.jsonl.gz", "a.csv"])
def test_every_format_gives_the_same_pairs(tmp_path: Path, name: str) -> None:
    """Parquet, JSON lines, gzipped ones and CSV with the same rows give the same frame, commas and quotes in a text included."""
    rows = [
        row('12" pan, steel', "kitchen,pans", 1),
        row("casserole \u00e9mail", "kitchen,pots", 0, event_time="2026-10-14T10:00:00"),
    ]
    plain = read_labelled(str(write_rows(tmp_path / "plain.jsonl", rows)))
    path, frame = tmp_path / name, pl.DataFrame(rows)
    if name == "a.parquet":
        frame.with_columns(pl.col("event_time").str.to_datetime(), pl.col("label").cast(pl.Float64)).write_parquet(path)
    elif name == "a.csv":
        frame.write_csv(path)
    elif name == "a.jsonl.gz":
        path.write_bytes(gzip.compress((tmp_path / "plain.jsonl").read_bytes()))
    else:
        frame.write_ndjson(path)
    assert read_labelled(str(path)).equals(plain)
    assert plain["target"].to_list() == ["kitchen,pans", "kitchen,pots"]


@pytest.mark.parametrize(
    ("given", "label", "unread"),
    [
        ("1", 1, None),
        (" 0 ", 0, None),
        ("true", 1, None),
        ("False", 0, None),
        ("1.0", 1, None),
        ("2", 2, None),
        (None, None, None),
        ("", None, None),
        ("abc", None, "label=abc"),
        ("0.5", None, "label=0.5"),
        ("nan", None, "label=nan"),
        ("1000", None, "label=1000"),
    ],
)
def test_a_label_is_a_whole_number_or_it_is_told(given: str | None, label: int | None, unread: str | None) -> None:
    """A label that is no whole number becomes null, and `unread` holds what stood there; an empty one is null."""
    pairs = conform(Batch("a", pl.DataFrame({"label": [given]}, schema={"label": pl.String})))
    assert (pairs["label"][0], pairs["unread"][0]) == (label, unread)


@pytest.mark.parametrize(
    ("given", "moment"),
    [
        ("2026-10-14", "2026-10-14T00:00:00"),
        ("2026-10-14T01:02:03", "2026-10-14T01:02:03"),
        ("2026-10-14 01:02:03.5", "2026-10-14T01:02:03.500000"),
        ("2026-10-14T01:02:03Z", "2026-10-14T01:02:03"),
        ("2026-10-14 01:30:00+02:00", "2026-10-13T23:30:00"),
        ("14.10.2026", None),
    ],
)
def test_event_times_are_utc(given: str, moment: str | None) -> None:
    """A date is its first moment, a time without a zone is UTC, one with a zone is turned into UTC; anything else is told."""
    pairs = conform(Batch("a", pl.DataFrame({"event_time": [given]})))
    assert pairs["event_time"][0] == (at(moment) if moment else None)
    assert pairs["unread"][0] == (None if moment else f"event_time={given}")


def test_a_row_without_a_time_column_has_its_partitions_day() -> None:
    """The partition dates rows of a file that has no event time; a null in a file that has one stays null."""
    frame = pl.DataFrame({"query": ["a", "b"]})
    assert conform(Batch("a", frame, date(2026, 10, 3)))["event_time"].to_list() == [at("2026-10-03")] * 2
    timed = frame.with_columns(event_time=pl.Series(["2026-10-04", None]))
    assert conform(Batch("a", timed, date(2026, 10, 3)))["event_time"].to_list() == [at("2026-10-04"), None]


def test_a_missing_column_is_named_and_read_as_nulls() -> None:
    """A batch says which required columns it lacks under every name; `task` is none of them where the settings say the task."""
    batch = Batch("a", pl.DataFrame({"origin_query": ["x"], "item_title": ["y"], "language": ["en"]}))
    assert batch.missing() == ["task", "label"]
    assert batch.missing("QI") == ["label"]
    pairs = conform(batch, task="QI")
    assert pairs.select("task", "label", "target").row(0) == ("QI", None, "y")


def test_rows_of_unknown_columns_are_still_counted() -> None:
    """Two rows of a file in which nothing is known are two rows of nulls."""
    assert conform(Batch("a", pl.DataFrame({"x": [1, 2]}))).height == 2


def test_the_same_content_has_the_same_ids_however_it_is_spelt() -> None:
    """A full-width query with a zero-width space and its plain spelling are one pair, whatever its label and time."""
    frame = pl.DataFrame([row("\uff32\uff45\uff44\u200b shoe"), row("Red shoe", label=0, event_time="2026-10-01")])
    assert conform(Batch("a", frame))["pair_id"].n_unique() == 1


def _shop(root: Path) -> Path:
    write_rows(root / "logs/dt=2026-10-13/part-0.jsonl", [row(event_time="2026-10-13")])
    write_rows(root / "logs/dt=2026-10-14/part-0.jsonl", [row()])
    write_rows(root / "logs/dt=2026-10-15/part-0.jsonl", [row(event_time="2026-10-15")])
    write_rows(root / "logs/dt=2026-10-14/_temporary.jsonl", [row("not yet")])
    write_rows(root / "clicks/dt=2026-10-14/part-0.jsonl", [row()])
    write_rows(root / "truth/dt=2026-10-14/part-0.jsonl", [row()])
    pl.DataFrame({"task": ["QC"], "target_id": ["7"], "target": ["shoes"]}).write_parquet(root / "catalogue.parquet")
    (root / "terms.tsv").write_text("term_id\tlanguage\tname\n1\ten\tshoe\n")
    (root / "brands.txt").write_text("Acme\n")
    return root


@pytest.mark.parametrize("address", ["", "/logs", "/", "file"])
def test_a_folder_with_logs_brings_what_lies_beside_them(tmp_path: Path, address: str) -> None:
    """A shop's folder, its logs/ folder and its file:// address are the same source: partitions of window and history only."""
    shop = _shop(tmp_path / "shop")
    uri = shop.as_uri() if address == "file" else f"{shop}{address}"
    source = open_source(settings_for(uri, "window.history_days=1"))
    assert [file.key for file in source.logs] == ["logs/dt=2026-10-13/part-0.jsonl", "logs/dt=2026-10-14/part-0.jsonl"]
    assert [file.key for file in source.clicks] == ["clicks/dt=2026-10-14/part-0.jsonl"]
    companions = [file.key for file in (source.catalogue, source.terms, source.brands) if file]
    assert companions == ["catalogue.parquet", "terms.tsv", "brands.txt"]
    assert source.categories is None


def test_a_folder_of_partitions_or_files_is_read_without_logs(tmp_path: Path) -> None:
    """Partitions and files may lie in the folder itself; click logs and catalogue beside them are no labelled logs."""
    write_rows(tmp_path / "dt=2026-10-14/a.jsonl", [row()])
    write_rows(tmp_path / "more.jsonl", [row()])
    write_rows(tmp_path / "clicks/dt=2026-10-14/a.jsonl", [row()])
    write_rows(tmp_path / "elsewhere/a.jsonl", [row()])
    pl.DataFrame({"task": ["QC"], "target": ["shoes"]}).write_parquet(tmp_path / "catalogue.parquet")
    source = open_source(settings_for(tmp_path))
    assert [file.key for file in source.logs] == ["dt=2026-10-14/a.jsonl", "more.jsonl"]
    assert [file.key for file in source.clicks] == ["clicks/dt=2026-10-14/a.jsonl"]


def test_explicit_settings_replace_what_lies_beside(tmp_path: Path) -> None:
    """An empty setting takes nothing, an address takes that file, whatever lies beside the logs."""
    shop = _shop(tmp_path / "shop")
    (tmp_path / "other.tsv").write_text("term_id\tlanguage\tname\n")
    source = open_source(settings_for(shop, "source.clicks=", f"translate.glossary={tmp_path / 'other.tsv'}", "translate.brands="))
    assert (source.clicks, source.brands) == ((), None)
    assert source.terms is not None
    assert source.terms.key == "other.tsv"


def test_the_fingerprint_follows_content_alone(tmp_path: Path) -> None:
    """It changes with a byte of any file that is read, not with times of files nor with a partition outside the window."""
    shop = _shop(tmp_path / "shop")
    settings = settings_for(shop, "window.history_days=1")
    before = open_source(settings).fingerprint()
    os.utime(shop / "logs/dt=2026-10-14/part-0.jsonl", (0, 0))
    write_rows(shop / "logs/dt=2026-10-15/part-0.jsonl", [row("tomorrow")])
    assert open_source(settings).fingerprint() == before
    for name in (
        "logs/dt=2026-10-13/part-0.jsonl",
        "clicks/dt=2026-10-14/part-0.jsonl",
        "terms.tsv",
        "brands.txt",
        "catalogue.parquet",
    ):
        old = (shop / name).read_bytes()
        (shop / name).write_bytes(old + b"\n")
        assert open_source(settings).fingerprint() != before, name
        (shop / name).write_bytes(old)
    assert open_source(settings).fingerprint() == before


def _read(source: Source) -> list[tuple[Batch, list[dict[str, Any]]]]:
    return list(batches(source.logs, Options(), None))


def test_an_object_store_is_a_source_like_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same shop in S3 gives the same files, fingerprint and rows, as a folder and as a single file."""
    shop = _shop(tmp_path / "shop")
    local = open_source(settings_for(shop))
    with moto_server() as endpoint:
        use_server(monkeypatch, endpoint)
        make_bucket(endpoint, "logs")
        bucket = open_store("s3://logs/shop")
        for entry in open_store(str(shop)).list():
            bucket.upload(shop / entry.key, entry.key)
        far = open_source(settings_for("s3://logs/shop/"))
        assert far.fingerprint() == local.fingerprint()
        assert [file.key for file in far.logs] == [file.key for file in local.logs]
        for (one, entries), (other, others) in zip(_read(far), _read(local), strict=True):
            assert one.frame.equals(other.frame)
            assert entries == others
        assert read_labelled("s3://logs/shop/logs/dt=2026-10-14/part-0.jsonl").height == 1


def test_an_address_without_logs_is_told(tmp_path: Path) -> None:
    """A folder without logs, a missing file and no address at all are errors that say what to do."""
    with pytest.raises(NotFound, match=r"there is nothing.*correct source\.uri"):
        open_source(settings_for(tmp_path))
    with pytest.raises(NotFound, match="there is nothing"):
        open_source(settings_for(tmp_path / "a.parquet"))
    with pytest.raises(SettingsError, match="no source is given"):
        open_source(settings_for(""))
    with pytest.raises(SettingsError, match="two sources are given"):
        open_source(settings_for(tmp_path, "source.sql=SELECT 1"))


@pytest.mark.parametrize("name", ["bad.parquet", "bad.jsonl", "bad.jsonl.gz", "bad.csv"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    """A file that is not what its name says ends the reading with its address."""
    (tmp_path / name).write_bytes(b'a,b\n"1,2,3\n\xff\xfe{')
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        read_labelled(str(tmp_path / name))


def test_a_partition_that_is_no_day_is_named(tmp_path: Path) -> None:
    """A file in dt=2026-13-01 may hold rows of the window: it is named beside one that is read, and alone it is no source."""
    write_rows(tmp_path / "dt=2026-13-01/a.jsonl", [row()])
    with pytest.raises(NotFound, match="dt=2026-13-01 is no day"):
        open_source(settings_for(tmp_path))
    write_rows(tmp_path / "dt=2026-10-14/a.jsonl", [row()])
    ((file, day, why),) = open_source(settings_for(tmp_path)).skipped
    assert (file, day, why) == ("dt=2026-13-01/a.jsonl", None, f"{UNPLACED}dt=2026-13-01 is no day")


def test_read_labelled_keeps_every_row_in_order(tmp_path: Path) -> None:
    """A null title becomes an empty text, rows stay in the file's order, and each carries the file's id or its number."""
    rows = [row("b", None, 1), row("a", "t", 0)]
    frame = read_labelled(str(write_rows(tmp_path / "a.jsonl", rows)))
    assert frame.columns == [*SCHEMA, *ORIGINALS, SOURCE_ID]
    assert frame.select("query", "target", SOURCE_ID).rows() == [("b", "", "1"), ("a", "t", "2")]


def test_test_files_have_no_labels(tmp_path: Path) -> None:
    """A file without labels can be read for scoring, and is refused for evaluation with the column's name."""
    lines = [{"id": "x", "task": "QC", "language": "en", "origin_query": "q", "category_path": "c"}]
    path = str(write_rows(tmp_path / "test.jsonl", lines))
    frame = read_labelled(path, labels=False)
    assert frame.select("label", "source_id", "event_time").row(0) == (None, "x", None)
    with pytest.raises(DataError, match="no column label"):
        read_labelled(path)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"label": 2}, "no label of 0, 1"),
        ({"label": None}, "no label of 0, 1"),
        ({"label": "x"}, "label=x"),
        ({"task": "QZ"}, "no task of QC, QI"),
    ],
)
def test_a_row_that_cannot_be_evaluated_is_named(tmp_path: Path, wrong: dict[str, object], told: str) -> None:
    """The message holds how many rows, the line of the first and what is wrong with it."""
    path = write_rows(tmp_path / "a.jsonl", [row(), row("second") | wrong])
    with pytest.raises(DataError, match=f"1 of 2 rows can't be used, the first in line 2: {told}"):
        read_labelled(str(path))


def test_a_place_of_empty_files_has_no_rows(tmp_path: Path) -> None:
    """A file of 0 bytes is skipped by name, and the source opens: *validate* judges the rows. Without it nothing is there."""
    (tmp_path / "README.md").touch()
    with pytest.raises(NotFound, match=r"every file is skipped .its ending \.md is not read: 1, such as README\.md"):
        open_source(settings_for(tmp_path))
    (tmp_path / "a.jsonl").touch()
    source = open_source(settings_for(tmp_path))
    assert (source.logs, source.skipped[1]) == ((), ("a.jsonl", None, "empty: 0 bytes"))


def test_columns_without_rows_are_looked_at(tmp_path: Path) -> None:
    """A header that lacks a column is told although no row is below it; a file without any text lacks none."""
    (tmp_path / "a.csv").write_text("task,language,search,target,label\n")
    (tmp_path / "b.jsonl").write_text("\n")
    (tmp_path / "c.csv").write_text("task,language,query,target,label\n")
    found = [entry for _, entries in batches(open_source(settings_for(tmp_path)).logs, Options(), None) for entry in entries]
    assert {entry["file"]: entry["missing"] for entry in found} == {"a.csv": "query", "b.jsonl": None, "c.csv": None}


def test_a_file_of_a_day_is_never_read_with_those_of_another(tmp_path: Path) -> None:
    """Small files of the same columns are converted together, day by day: a row without a time has the midnight of its own."""
    for day in ("2026-10-13", "2026-10-14"):
        for number in range(2):
            rows = [{name: value for name, value in row(f"{day} {number}").items() if name != "event_time"}]
            write_rows(tmp_path / f"dt={day}/{number}.jsonl", rows)
    found = [
        (batch.day, batch.frame["file"].to_list())
        for batch, _ in batches(open_source(settings_for(tmp_path)).logs, Options(), None)
    ]
    assert found == [(date(2026, 10, day), [f"dt=2026-10-{day}/{number}.jsonl" for number in range(2)]) for day in (13, 14)]


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    """An empty file of any text format is no rows, not an error."""
    for name in ("a.jsonl", "a.csv"):
        (tmp_path / name).touch()
        assert read_labelled(str(tmp_path / name)).height == 0


@pytest.mark.real_terms
@pytest.mark.skipif(not REAL_TERMS.is_dir(), reason="needs the multilingual terms beside the checkout")
def test_the_real_terms_are_read() -> None:
    """The dev file has 8,742 labelled QC rows in seven languages, 69 % of them positive, each with its own id."""
    frame = read_labelled(str(REAL_TERMS / "qc_dev.jsonl.gz"))
    assert (frame.height, frame["language"].n_unique(), frame[SOURCE_ID].n_unique()) == (8742, 7, 8742)
    assert round(frame["label"].to_numpy().mean(), 2) == 0.69
    first = json.loads(gzip.decompress((REAL_TERMS / "qc_dev.jsonl.gz").read_bytes()).splitlines()[0])
    assert (frame["query"][0], frame[SOURCE_ID][0]) == (first["origin_query"], str(first["id"]))
