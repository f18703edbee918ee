"""Split: a query is on one side, for ever."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from relevance_core.config import Settings, SplitSettings
from relevance_core.pairs import SCHEMA, digest, query_group, side_of, with_groups
from relevance_core.runs.artifacts import Artifact, Output, Report, Rows
from relevance_core.runs.stage import Inputs, stage
from relevance_core.sources import read_labelled
from relevance_core.stages import split
from relevance_core.store import Store
from tests.support.pair_cases import Row, many, output, row, settings_for, write_rows


@stage("validate", uses=("source.uri",))
def _as_they_are(settings: Settings, inputs: Inputs, out: Output) -> Report:
    """Pairs that nobody has checked."""
    pairs = with_groups(read_labelled(settings.source.uri))
    out.table("pairs", pairs)
    return Report(Rows(incoming=pairs.height, kept=pairs.height))


def _split(tmp_path: Path, store: Store, rows: list[Row], *more: str) -> Artifact:
    source = write_rows(tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl", rows)
    settings = settings_for(source, *more)
    pairs = output(_as_they_are(settings, Inputs(), store), store)
    return output(split.run(settings, Inputs({"rows": pairs}), store), store)


def test_sides_and_parts_have_their_shares(tmp_path: Path, store: Store) -> None:
    """Of 2,000 queries a fifth is dev, and 40 % of the dev queries calibrate: within four standard errors."""
    found = _split(tmp_path, store, [*many(2000)])
    train, dev = found.table("train"), found.table("dev")
    assert dev.height == pytest.approx(400, abs=72)
    assert (dev["part"] == "calibration").mean() == pytest.approx(0.4, abs=0.1)
    assert set(dev["part"]) == {"calibration", "judgement"}
    assert train.columns == [*SCHEMA, "group"]
    assert dev.columns == [*SCHEMA, "group", "part"]
    assert found.report.rows.kept == train.height + dev.height == 2000


def test_the_side_is_the_hash_of_the_query(tmp_path: Path, store: Store) -> None:
    """Spellings, targets, tasks and languages of one query are on one side and in one group."""
    rows = [
        row(f"{spelling} {n}", target, task=task, language=language)
        for n in range(40)
        for spelling, target, task, language in (("Red shoe", "a", "QC", "en"), ("RED  SHOE", "b", "QI", "de"))
    ]
    found = _split(tmp_path, store, [*rows])
    train, dev = found.table("train"), found.table("dev")
    assert not set(train["group"]) & set(dev["group"])
    assert train.height % 2 == dev.height % 2 == 0
    for frame, side in ((train, "train"), (dev, "dev")):
        assert {side_of(query_group(query)) for query in frame["query"]} == {side}
        assert frame["group"].to_list() == [query_group(query) for query in frame["query"]]


def test_another_night_moves_no_query(tmp_path: Path, store: Store) -> None:
    """The dev queries of one night are dev queries of the next one, whatever came in."""
    nights = [_split(tmp_path, store, [*many(100)]), _split(tmp_path, store, [*many(300), *many(50, language="de")])]
    first, second = (set(night.table("dev")["group"]) for night in nights)
    assert first
    assert first < second


def test_figures_count_sides_tasks_and_languages(tmp_path: Path, store: Store) -> None:
    """Rows by side, task and language add up to the rows kept."""
    figures = _split(tmp_path, store, [*many(50), *many(30, task="QI", language="fr")]).report.figures
    totals = {
        (task, language): sum(figures[side].get(task, {}).get(language, 0) for side in ("train", "dev"))
        for task, language in (("QC", "en"), ("QI", "fr"))
    }
    assert totals == {("QC", "en"): 50, ("QI", "fr"): 30}
    assert figures["queries"]["train"] + figures["queries"]["dev"] == 50


def _pairs(count: int) -> pl.DataFrame:
    rows = [
        {"task": task, "query": f"query {n % 97}", "target": f"Department {n % 13},Group {n % 31},leaf {n}"}
        for n in range(count)
        for task in ("QC", "QI")
    ]
    return with_groups(pl.DataFrame(rows))


def test_the_prefix_split_keeps_queries_and_prefixes_apart() -> None:
    """With qc_group=prefix neither a query nor the first two levels of a category are on both sides; QI rows go by query alone."""
    settings = SplitSettings(qc_group="prefix", dev_share=0.4)
    placed = split.place(_pairs(3000), settings)
    prefix = pl.col("target").str.split(",").list.head(2).list.join(",")
    qc = placed.filter(pl.col("task") == "QC").with_columns(prefix.alias("prefix"))
    train, dev = (qc.filter(pl.col("side") == side) for side in ("train", "dev"))
    assert train.height
    assert dev.height
    for column in ("query", "prefix"):
        assert not set(train[column]) & set(dev[column])
    dropped = qc["side"].null_count()
    disagree = [
        side_of(group, 0.4) != side_of(digest("prefix", prefix.lower()), 0.4)
        for group, prefix in qc.select("group", "prefix").iter_rows()
    ]
    assert dropped == sum(disagree) > 0
    assert placed.filter(pl.col("task") == "QI")["side"].null_count() == 0


def test_rows_that_the_prefix_split_drops_are_counted(tmp_path: Path, store: Store) -> None:
    """Rows in are rows kept and rows dropped, with the reason."""
    rows = [row(f"query {n}", f"department {n % 7},group {n % 5}") for n in range(200)]
    report = _split(tmp_path, store, [*rows], "split.qc_group=prefix").report.rows
    assert report.incoming == 200 == report.kept + report.dropped
    assert report.reasons == {"dropped: query and category prefix on different sides": report.dropped}
    assert report.dropped > 0
