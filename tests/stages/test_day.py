"""Days: each is read and judged once, a changed file remakes its day alone, and what the files held is all there."""

from __future__ import annotations

import random
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from relevance_core.runs.artifacts import Artifact, open_artifact
from relevance_core.sources import open_source
from relevance_core.stages.ingest import day as days
from relevance_core.store import Store
from tests.support.pair_cases import ingested, many, row, settings_for, validated, write_rows


def _addresses(store: Store) -> set[str]:
    return {entry.key.removesuffix("/manifest.json") for entry in store.list("stages/day/") if entry.key.endswith("/manifest.json")}


def _three_days(folder: Path) -> None:
    for number in (12, 13, 14):
        write_rows(folder / f"dt=2026-10-{number}/a.jsonl", many(3, day=f"2026-10-{number}", name=f"day {number}"))


def _kept(found: Artifact) -> list[tuple[str, int]]:
    return sorted(found.table("pairs").select("query", "label").rows())


def test_a_night_reads_the_days_that_are_new(tmp_path: Path, store: Store) -> None:
    """After a night of three days the next, with one day more, keeps one day more, and finds the three as they were."""
    _three_days(tmp_path)
    ingested(settings_for(tmp_path), store)
    before = {entry.key: entry.modified for entry in store.list("stages/day/")}
    write_rows(tmp_path / "dt=2026-10-15/a.jsonl", many(3, day="2026-10-15", name="day 15"))
    found = ingested(settings_for(tmp_path, "window.end=2026-10-16"), store)
    after = {entry.key: entry.modified for entry in store.list("stages/day/")}
    assert (len(_kept(found)), len(_addresses(store))) == (12, 4)
    assert {key: after[key] for key in before} == before


def test_a_corrected_file_remakes_its_day_alone(tmp_path: Path, store: Store) -> None:
    """A late file in one of three days makes one more day; the rows of the corrected day are in the table once."""
    _three_days(tmp_path)
    ingested(settings_for(tmp_path), store)
    first = _addresses(store)
    write_rows(tmp_path / "dt=2026-10-13/late.jsonl", [row("late", event_time="2026-10-13")])
    found = ingested(settings_for(tmp_path), store)
    assert len(_addresses(store) - first) == 1
    assert [query for query, _ in _kept(found)].count("late") == 1
    assert len(_kept(found)) == 10


def test_a_day_depends_on_the_settings_that_read_it_alone(tmp_path: Path, store: Store) -> None:
    """Another bound of the batch finds all days again; another length of queries makes each of them anew."""
    _three_days(tmp_path)
    ingested(settings_for(tmp_path), store)
    first = _addresses(store)
    ingested(settings_for(tmp_path, "validation.min_rows=2", "window.history_days=5"), store)
    assert _addresses(store) == first
    ingested(settings_for(tmp_path, "validation.max_query_chars=400"), store)
    assert len(_addresses(store)) == 6


def test_a_day_that_lost_a_file_is_made_again(tmp_path: Path, store: Store) -> None:
    """Without its manifest, or with a table of another size, a day is read and kept again; the merged rows are the same."""
    _three_days(tmp_path)
    whole = ingested(settings_for(tmp_path), store)
    damaged, unfinished, _ = sorted(_addresses(store))
    store.write(f"{damaged}/pairs.parquet", b"cut")
    store.delete(f"{unfinished}/manifest.json")
    again = ingested(settings_for(tmp_path, "validation.min_rows=2", "base.click_days=3"), store)
    assert again.address != whole.address
    assert again.table("pairs").equals(whole.table("pairs"))
    assert all(open_artifact(store, address) for address in _addresses(store))


def test_a_day_tells_what_its_files_held(tmp_path: Path, store: Store) -> None:
    """Of two files of 3 and 2 rows one row has no query: 4 are valid, 1 is in quarantine with its place, and both are counted."""
    write_rows(tmp_path / "dt=2026-10-14/a.jsonl", many(3))
    write_rows(tmp_path / "dt=2026-10-14/b.jsonl", [row("last"), row(None, label=0)])
    ingested(settings_for(tmp_path), store)
    (address,) = _addresses(store)
    found = open_artifact(store, address)
    assert found is not None
    assert found.table("pairs").height == 4
    assert found.table("quarantine").select("file", "line", "rule").rows() == [("dt=2026-10-14/b.jsonl", 2, "query_not_null")]
    ledger = found.table("ledger").select("file", "day", "format", "rows", "quarantined")
    assert ledger.rows() == [
        ("dt=2026-10-14/a.jsonl", "2026-10-14", "jsonl", 3, 0),
        ("dt=2026-10-14/b.jsonl", "2026-10-14", "jsonl", 2, 1),
    ]
    assert found.json("profile") == [
        {"task": "QC", "language": "en", "label": 0, "valid": 1, "quarantined": 1},
        {"task": "QC", "language": "en", "label": 1, "valid": 3, "quarantined": 0},
    ]
    assert found.report.rows.as_json()["reasons"] == {"quarantined: query_not_null": 1}


@pytest.mark.parametrize("seed", range(5))
def test_how_rows_are_spread_over_files_changes_no_row(tmp_path: Path, store: Store, seed: int) -> None:
    """Random good and bad rows in one file, or dealt over files of three partitions: validate leaves the same rows both ways."""
    dice = random.Random(seed)
    wrong = [{}, {}, {}, {"label": 7}, {"query": None}, {"language": "xx"}, {"query": "q" * 600}, {"event_time": "soon"}]
    rows = [row(f"query {dice.randrange(20)}", label=dice.randrange(2)) | dice.choice(wrong) for _ in range(60)]
    write_rows(tmp_path / "one/dt=2026-10-14/a.jsonl", rows)
    for number in range(6):
        write_rows(tmp_path / f"many/dt=2026-10-14/{number}.jsonl", rows[number::6])
    calm = ("validation.max_quarantine_share=1", "validation.max_contradicting_share=1")
    one, dealt = (validated(settings_for(tmp_path / place, *calm), store) for place in ("one", "many"))
    assert one.table("pairs").equals(dealt.table("pairs"))
    texts = ["query_original", "label", "rule"]
    assert one.table("quarantine").select(texts).sort(texts).equals(dealt.table("quarantine").select(texts).sort(texts))
    assert one.report.rows == dealt.report.rows


def test_every_listed_file_is_read_or_skipped_with_a_reason(tmp_path: Path, store: Store) -> None:
    """Of six files two are read, and four skipped: by their ending, their folder, their day, and as a companion."""
    write_rows(tmp_path / "logs/dt=2026-10-14/a.jsonl", [row()])
    write_rows(tmp_path / "logs/b.jsonl", [row("b")])
    write_rows(tmp_path / "logs/dt=2020-01-01/old.jsonl", [row("old")])
    write_rows(tmp_path / "logs/dt=2026-10-14/_temporary/c.jsonl", [row("c")])
    (tmp_path / "logs/dt=2026-10-14/d.xlsx").write_bytes(b"PK")
    write_rows(tmp_path / "logs/market/e.jsonl", [row("e")])
    found = ingested(settings_for(tmp_path), store)
    ledger = found.table("ledger")
    assert (ledger.height, ledger["why"].null_count()) == (6, 2)
    assert found.report.figures["files"] == 2
    assert sum(found.report.figures["files_skipped"].values()) == 4


def test_days_come_oldest_first_and_files_without_one_before(tmp_path: Path) -> None:
    """Files of two days and one without: three days, each with its files."""
    _three_days(tmp_path)
    write_rows(tmp_path / "plain.jsonl", [row()])
    settings = settings_for(tmp_path, "window.history_days=1")
    found = days.days_of(open_source(settings), settings)
    assert [(day.day, len(day.files)) for day in found] == [(None, 1), (date(2026, 10, 13), 1), (date(2026, 10, 14), 1)]


def test_the_rows_of_a_day_hold_the_group_of_their_query(tmp_path: Path, store: Store) -> None:
    """Queries that differ in case share a group, and split takes it from there."""
    write_rows(tmp_path / "a.jsonl", [row("Red Shoe"), row("red shoe", "boots"), row("hat")])
    groups = ingested(settings_for(tmp_path), store).table("pairs").sort("query").select("query", "group")
    by_query = dict(groups.iter_rows())
    assert by_query["Red Shoe"] == by_query["red shoe"] != by_query["hat"]
    assert pl.Series(list(by_query.values())).str.len_chars().unique().to_list() == [16]
