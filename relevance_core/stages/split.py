"""Stage *split*: puts each pair on the train or the dev side (contract 4: a query is on one side, for ever)."""

from __future__ import annotations

import logging
from typing import Any, Final

import polars as pl

from relevance_core.config import Settings, SplitSettings
from relevance_core.pairs import SCHEMA, digest, map_distinct, share_of, side_of
from relevance_core.processes import PartLogger
from relevance_core.runs.artifacts import Output, Report, Rows
from relevance_core.runs.stage import Inputs, stage

log = PartLogger(logging.getLogger(__name__))

_ORDER: Final = ("task", "group", "pair_id")


@stage("split", uses=("split",))
def run(settings: Settings, inputs: Inputs, out: Output) -> Report:
    """Puts every pair on the train or the dev side.

    The side is a hash of the normalised query (pairs.side_of), whatever its language, task, night or machine; so is the part of a
    dev pair, `calibration` (where the threshold is chosen) or `judgement` (where F1 is measured). With split.qc_group = "prefix" a
    QC pair also needs its category prefix (the first split.prefix_levels levels) to hash to the same side; a pair whose query and
    prefix disagree is dropped. So neither a query nor a prefix is on both sides, and both keep their side when new pairs come; this
    drops a share 2 · d · (1 − d) of the QC pairs for a dev share d.

    Leaves `train` (pairs.SCHEMA and `group`) and `dev` (and `part`).

    It balances nothing: sides, tasks and languages have the shares that the hash gives them, so with few queries a side can be
    empty.
    """
    pairs = inputs["rows"].table("pairs", columns=[*SCHEMA, "group"])
    placed = place(pairs, settings.split)
    kept = placed.drop_nulls("side")
    train = kept.filter(pl.col("side") == "train").select(*SCHEMA, "group").sort(_ORDER)
    dev = kept.filter(pl.col("side") == "dev").select(*SCHEMA, "group", "part").sort(_ORDER)
    log.info("%s train, %s dev, %s dropped", train.height, dev.height, placed.height - kept.height)
    out.table("train", train)
    out.table("dev", dev)
    dropped = placed.height - kept.height
    reasons = {"dropped: query and category prefix on different sides": dropped} if dropped else {}
    return Report(
        Rows(incoming=placed.height, kept=kept.height, dropped=dropped, reasons=reasons),
        {"train": _counts(train), "dev": _counts(dev), "parts": _counts(dev, "part"), "queries": _queries(train, dev)},
    )


def place(pairs: pl.DataFrame, split: SplitSettings) -> pl.DataFrame:
    """Adds `side` (train, dev; null for a pair on neither) and `part` (calibration, judgement) to `pairs` (with `group`)."""

    def side(group: str) -> str:
        return side_of(group, split.dev_share)

    def part(group: str) -> str:
        return "calibration" if share_of(group, "part") < split.calibration_share else "judgement"

    placed = pairs.with_columns(map_distinct(pairs["group"], side, "side"), map_distinct(pairs["group"], part, "part"))
    if split.qc_group == "query":
        return placed
    agree = (pl.col("task") != "QC") | (pl.col("side") == prefix_sides(pairs["target"], split))
    return placed.with_columns(pl.when(agree).then("side").alias("side"))


def prefix_sides(targets: pl.Series, split: SplitSettings) -> pl.Series:
    """Returns the side of each category's prefix, its first `prefix_levels` levels in lower case."""
    levels = pl.col("target").str.to_lowercase().str.split(",").list.head(split.prefix_levels).list.join(",")
    prefixes = targets.to_frame("target").select(levels.alias("prefix"))["prefix"]
    return map_distinct(prefixes, lambda prefix: side_of(digest("prefix", prefix), split.dev_share), "prefix_side")


def _counts(frame: pl.DataFrame, second: str = "language") -> dict[str, Any]:
    """Counts rows by task and a second column: `{"QC": {"en": 3}}`."""
    found: dict[str, Any] = {}
    for task, name, rows in frame.group_by("task", second).len().sort("task", second).iter_rows():
        found.setdefault(task, {})[name] = rows
    return found


def _queries(train: pl.DataFrame, dev: pl.DataFrame) -> dict[str, int]:
    return {"train": train["group"].n_unique(), "dev": dev["group"].n_unique()}
