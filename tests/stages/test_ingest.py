"""Ingest: window, history, late and duplicate rows, and what travels with them."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import polars as pl
import pytest

from relevance_core.errors import DataError, SettingsError
from relevance_core.pairs import ORIGINALS, SCHEMA, digest
from relevance_core.runs.stage import Inputs
from relevance_core.stages import ingest
from relevance_core.stages.validate.stage import KEPT
from relevance_core.store import Store, open_store
from tests.support.pair_cases import at, ingested, many, row, settings_for, write_rows


def test_the_window_is_half_open_and_history_reaches_back(tmp_path: Path, store: Store) -> None:
    """Of five rows around a day's window with two days of history those in [start - 2 d, end) stay, the last day's are fresh."""
    times = ["2026-10-11T23:59:59", "2026-10-12", "2026-10-13T23:59:59", "2026-10-14", "2026-10-15"]
    source = write_rows(tmp_path / "a.jsonl", [row(f"q{n}", event_time=time) for n, time in enumerate(times)])
    found = ingested(settings_for(source, "window.history_days=2"), store)
    pairs = found.table("pairs")
    assert pairs.select("query", "fresh").rows() == [("q1", False), ("q2", False), ("q3", True)]
    assert found.report.rows.as_json() == {
        "in": 5,
        "made": 0,
        "kept": 3,
        "quarantined": 0,
        "dropped": 2,
        "reasons": {"dropped: outside the window": 2},
    }
    assert set(pairs.columns) == {*SCHEMA, *ORIGINALS, "fresh", "unread", "file", "line", "group", "rule", "broken"}
    assert set(KEPT) < set(pairs.columns)


def test_a_late_row_belongs_to_the_day_of_its_event(tmp_path: Path, store: Store) -> None:
    """A row in today's partition about yesterday is history and counted as late; one from before the history is dropped."""
    rows = [row("today"), row("yesterday", event_time="2026-10-13T22:00:00"), row("long ago", event_time="2025-01-01")]
    write_rows(tmp_path / "dt=2026-10-14/a.jsonl", rows)
    found = ingested(settings_for(tmp_path), store)
    assert dict(found.table("pairs").select("query", "fresh").iter_rows()) == {"today": True, "yesterday": False}
    assert found.report.figures["late_rows"] == 1
    assert found.report.figures["rows_by_day"] == {"2026-10-13": 1, "2026-10-14": 1}


def test_rows_of_one_pair_and_label_become_the_latest(tmp_path: Path, store: Store) -> None:
    """Three rows of a pair, two of them of the same moment: one duplicate, one repeated, the latest stays."""
    rows = [
        row("Red  shoe", event_time="2026-10-13"),
        row("Red shoe", event_time="2026-10-14"),
        row("Red shoe", event_time="2026-10-14"),
        row("red shoe", event_time="2026-10-14"),
    ]
    found = ingested(settings_for(write_rows(tmp_path / "a.jsonl", rows)), store)
    pairs = found.table("pairs").sort("query")
    assert pairs["query"].to_list() == ["Red shoe", "red shoe"]
    assert pairs["event_time"].to_list() == [at("2026-10-14")] * 2
    assert found.report.rows.reasons == {"dropped: duplicate": 1, "dropped: repeated": 1}


def test_both_labels_of_a_pair_go_on_to_validate(tmp_path: Path, store: Store) -> None:
    """The same pair with labels 0 and 1 is two rows with one id."""
    pairs = ingested(settings_for(write_rows(tmp_path / "a.jsonl", [row(label=0), row(label=1)])), store).table("pairs")
    assert (pairs.height, pairs["pair_id"].n_unique()) == (2, 1)


def test_rows_with_nulls_are_never_taken_for_duplicates(tmp_path: Path, store: Store) -> None:
    """Three rows without a query stay three rows, for validate to count."""
    found = ingested(settings_for(write_rows(tmp_path / "a.jsonl", [row(None), row(None), row(None), row("q")])), store)
    assert found.report.rows.kept == 4


def test_a_missing_column_is_carried_as_nulls_and_named(tmp_path: Path, store: Store) -> None:
    """A fresh file without labels is named; a file of the history without them is not, its rows fail one by one."""
    unlabelled = [{key: value for key, value in row().items() if key != "label"}]
    write_rows(tmp_path / "dt=2026-10-13/old.jsonl", [unlabelled[0] | {"event_time": "2026-10-13"}])
    write_rows(tmp_path / "dt=2026-10-14/bad.jsonl", unlabelled)
    write_rows(tmp_path / "dt=2026-10-14/good.jsonl", [row()])
    found = ingested(settings_for(tmp_path), store)
    assert found.report.figures["missing_columns"] == {"label": ["dt=2026-10-14/bad.jsonl"]}
    assert found.table("pairs")["label"].null_count() == 2


def test_rows_without_a_date_are_fresh(tmp_path: Path, store: Store) -> None:
    """A file without event times is dated by the window's start; a time that can't be read leaves its row to validate."""
    undated = [{key: value for key, value in row().items() if key != "event_time"}]
    found = ingested(settings_for(write_rows(tmp_path / "a.jsonl", undated)), store).table("pairs")
    assert found.select("event_time", "fresh").rows() == [(at("2026-10-14"), True)]
    source = write_rows(tmp_path / "b.jsonl", [row(event_time="soon"), row("other")])
    found = ingested(settings_for(source), store).table("pairs")
    assert found.select("query", "unread", "fresh").sort("query").rows() == [
        ("other", None, True),
        ("red shoe", "event_time=soon", True),
    ]


def test_history_is_measured_from_its_first_day(tmp_path: Path, store: Store) -> None:
    """Rows three days and one day before the window are a history of three days."""
    rows = [row("a", event_time="2026-10-11T12:00:00"), row("b", event_time="2026-10-13"), row("c")]
    figures = ingested(settings_for(write_rows(tmp_path / "a.jsonl", rows)), store).report.figures
    assert {key: figures[key] for key in ("fresh_rows", "history_rows", "history_days")} == {
        "fresh_rows": 1,
        "history_rows": 2,
        "history_days": 3,
    }


def test_a_target_has_one_id_in_pairs_clicks_and_catalogue(tmp_path: Path, store: Store) -> None:
    """Where the logs carry no target ids, clicks and catalogue take the digests too, whatever ids they have."""
    source = write_rows(tmp_path / "a.jsonl", [row(target="shoes,red")])
    write_rows(tmp_path / "clicks/dt=2026-10-14/a.jsonl", [row(target="shoes,red", target_id="5"), row(None, "shoes")])
    (tmp_path / "categories.tsv").write_text("category_id\tcategory_path\n5\tshoes,red\n6\tshoes,blue\n")
    found = ingested(settings_for(source), store)
    ids = {target: digest("target", target) for target in ("shoes,red", "shoes,blue")}
    assert found.table("catalogue").sort("target").rows() == [("QC", ids[target], target) for target in sorted(ids)]
    assert found.table("clicks").rows() == [("QC", "en", "red shoe", "shoes,red", ids["shoes,red"])]


def test_targets_keep_the_ids_that_the_logs_give_them(tmp_path: Path, store: Store) -> None:
    """Where the logs carry ids, so does the catalogue; a task that it does not list has the targets of its pairs."""
    rows = [row(target="shoes", target_id="5"), row("x", "title", task="QI", target_id="i1")]
    source = write_rows(tmp_path / "a.jsonl", rows)
    pl.DataFrame({"task": ["QC"], "target_id": [5], "target": ["shoes"]}).write_parquet(tmp_path / "catalogue.parquet")
    assert ingested(settings_for(source), store).table("catalogue").rows() == [("QC", "5", "shoes"), ("QI", "i1", "title")]


def test_clicks_reach_back_as_far_as_the_base_reads(tmp_path: Path, store: Store) -> None:
    """With base.click_days=2 only clicks of the two days before the window's end are taken, every click a row."""
    source = write_rows(tmp_path / "a.jsonl", [row()])
    for day in ("2026-10-12", "2026-10-13", "2026-10-14", "2026-10-15"):
        write_rows(tmp_path / f"clicks/dt={day}/a.jsonl", [row(day, event_time=day), row(day, event_time=day)])
    clicks = ingested(settings_for(source, "base.click_days=2"), store).table("clicks")
    assert clicks["query"].to_list() == ["2026-10-13"] * 2 + ["2026-10-14"] * 2


def test_terms_and_brands_are_copied_as_text(tmp_path: Path, store: Store) -> None:
    """Both are kept in UTF-8 without a mark, whatever they came in, and terms are gzipped the same way each time."""
    source = write_rows(tmp_path / "a.jsonl", [row()])
    (tmp_path / "brands.txt").write_bytes(b"Acme\r\n")
    terms = b"term_id\tlanguage\tname\n1\ten\tshoe\n"
    (tmp_path / "terms.tsv").write_bytes(terms)
    found = ingested(settings_for(source), store)
    assert store.read(found.key("brands.txt")) == b"Acme\r\n"
    assert store.read(found.key("terms.tsv.gz")) == gzip.compress(terms, mtime=0)
    (tmp_path / "brands.txt").write_bytes("Café\n".encode("utf-16"))
    (tmp_path / "terms.tsv.gz").write_bytes(gzip.compress(terms.decode().encode("utf-8-sig"), mtime=7))
    found = ingested(settings_for(source), store)
    assert store.read(found.key("brands.txt")) == "Café\n".encode()
    assert store.read(found.key("terms.tsv.gz")) == gzip.compress(terms, mtime=0)


@pytest.mark.parametrize(
    ("name", "content", "where"),
    [
        ("terms.tsv", "term_id\tlanguage\tname\n1\tde\tTöpfe\n".encode("cp1252"), "line 2, byte 28"),
        ("terms.tsv", b'term_id\tlanguage\tname\n1\tde\t"a"\n2\tde\t"b\n', "line 3"),
        ("terms.tsv.gz", gzip.compress(b"term_id\tlanguage\tname\n")[:-4], "line 2, byte 22"),
        ("brands.txt", "Nike\nCafé\n".encode("cp1252"), "line 2, byte 8"),
        ("categories.tsv", "category_id\tcategory_path\n1\tTöpfe\n".encode("cp1252"), "line 2, byte 29"),
        ("categories.tsv", b"category_id;category_path\n1;pots\n", "line 1"),
    ],
    ids=["encoding", "open quote", "cut archive", "brands", "categories", "no tabs"],
)
def test_a_companion_that_cannot_be_read_ends_the_run_here(
    tmp_path: Path, store: Store, name: str, content: bytes, where: str
) -> None:
    """A wrong encoding, quote, archive or header is refused with the file, its line and byte, before any row is judged."""
    source = write_rows(tmp_path / "a.jsonl", [row()])
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        ingested(settings_for(source), store)
    assert caught.value.where == f"{(tmp_path / name).as_uri()}, {where}"


def test_the_same_rows_in_another_order_are_the_same_rows(tmp_path: Path) -> None:
    """Shuffled rows in other files differ in the place that they were read from alone."""
    rows = many(50) + many(50, day="2026-10-13") + many(10, language="de")
    random.Random(1).shuffle(rows)
    tables = []
    for number, parts in enumerate(([rows], [rows[60:], rows[:60]])):
        folder = tmp_path / f"source-{number}"
        for part, lines in enumerate(parts):
            write_rows(folder / f"{part}.jsonl", lines)
        found = ingested(settings_for(folder), open_store(str(tmp_path / f"store-{number}")))
        tables.append(found.table("pairs").drop("file", "line"))
    assert tables[0].equals(tables[1])


def test_finished_work_is_found_until_the_source_changes(tmp_path: Path, store: Store) -> None:
    """The second run finds the first one's output; a new row in the window makes another."""
    source = write_rows(tmp_path / "a.jsonl", [row()])
    settings = settings_for(source)
    first = ingest.run(settings, Inputs(), store)
    assert ingest.run(settings, Inputs(), store).found
    write_rows(source, [row(), row("new")])
    again = ingest.run(settings, Inputs(), store)
    assert (again.found, again.rows.kept, again.address == first.address) == (False, 2, False)


def test_a_window_without_rows_is_an_output_without_rows(tmp_path: Path, store: Store) -> None:
    """Partitions before and after the window, none inside: no rows, for validate to stop at."""
    write_rows(tmp_path / "dt=2026-10-20/a.jsonl", [row(event_time="2026-10-20")])
    found = ingested(settings_for(tmp_path), store)
    assert found.table("pairs").height == 0
    assert found.table("pairs").schema["label"] == pl.Int8
    assert found.report.figures["fresh_rows"] == 0


def test_the_watermark_is_never_now(tmp_path: Path, store: Store) -> None:
    """Without a window's end nothing is read."""
    source = write_rows(tmp_path / "a.jsonl", [row()])
    with pytest.raises(SettingsError, match="the window has no end"):
        ingested(settings_for(source, "window.end=null"), store)
