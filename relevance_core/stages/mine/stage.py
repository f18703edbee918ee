"""The *mine* stage: semantic hard negatives of a task."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any, Final, NamedTuple, cast

import numpy as np
import polars as pl

from relevance_core import pairs
from relevance_core.config import MineSettings, Settings
from relevance_core.pairs import Task
from relevance_core.processes import PartLogger
from relevance_core.runs.artifacts import Artifact, Output, Report, Rows
from relevance_core.runs.stage import Inputs, stage
from relevance_core.scoring.english import translator_of_run
from relevance_core.stages.mine.draws import at_random, kind_of, sample
from relevance_core.stages.mine.index import Kind, Vectors, neighbours
from relevance_core.stages.mine.negatives import English, Guards
from relevance_core.stages.split import prefix_sides

log = PartLogger(logging.getLogger(__name__))

_TEXTS: Final = dict.fromkeys(("language", "query", "positive", "negative"), pl.String)
_SHOWN: Final = {**_TEXTS, "similarity": pl.Float32, "rank": pl.Int32}
_LEDGER: Final = {"pair_id": pl.String, "origin_id": pl.String, **_SHOWN}
_EXAMPLE: Final = {"reason": pl.String, **_SHOWN}
_EXAMPLES: Final = 8
_NAMED: Final = {"positive": pl.col("positive_text"), "negative": pl.col("target")}
SLICE: Final = 20_000
"""Positives whose candidates are judged at a time: bounds the stage's memory."""


def _uses(settings: Settings) -> tuple[str, ...]:
    """Lists the settings that the output depends on; those of an optional part only where it is on, so that finished outputs keep
    their keys.
    """
    random = ("seed",) if "random" in settings.mine.mix else ()
    return ("mine", "split.qc_group", *random, *(("split",) if settings.split.qc_group == "prefix" else ()))


def _seed(settings: Settings) -> int:
    """Returns the seed of random negatives, 0 without any: then the output is the same for every seed, and keeps its key."""
    return settings.seed if "random" in settings.mine.mix else 0


@stage("mine", uses=_uses, machine=("engine", "serving"), version=2)
def run(settings: Settings, inputs: Inputs, out: Output) -> Report:
    """Semantic hard negatives (arXiv 2510.21671, strategy 2): targets that are near a positive and are not relevant.

    How it works. The distinct targets of the catalogue and of the training rows are embedded, and the `top_k` nearest of each
    positive's target are its candidates. Every candidate that may be relevant is left out and counted under the first rule that
    applies:

    - *labelled*: the query has a label for it, in whatever language or translation: the rows of its group, and those of any query
      that means the same (the same English words);
    - *related category* (QC): an ancestor of a positive of that query, or a descendant of its most specific ones;
    - *near duplicate*: its title has the same words as a positive's, or is nearly identical to it by cosine;
    - *as good a match*: it holds as many of the query's words, read in English, as the positive does (QI), or more of them (QC,
      where a category rarely holds more than the noun);
    - *no evidence* (QI): the positive holds none of the query's words, because of a typing error or a wrong label.

    From the rest, `ratio` negatives a positive are drawn in each language, nearer ones with a higher probability; every positive
    gets its first negative before any gets a second. `mix` gives a part of that number to farther neighbours and to random targets,
    after the same rules. A negative takes the query, language, group, English translation and event time of its positive.

    What it does not do. It never sees a dev row: no negative is mined for a dev query, no dev label is a guard. A target is on no
    side, so a target that only dev rows have may be a negative of a training query; where categories are split
    (`split.qc_group=prefix`) those of dev prefixes are no candidates.

    Known limits. The packaged embedder reads English: targets in other languages need another one. Without a translator only
    English queries can be compared with a title, and QI makes negatives for no others. Search is exact below `index_from` targets,
    where its time grows with positives × targets; above, it is approximate and the figures report its recall.
    """
    task = cast(Task, inputs.task)
    train = inputs["rows"].table("train").filter(task=task)
    if not settings.mine.enabled or train.filter(label=1).is_empty():
        return _as_it_is(settings, train, out)
    targets = _targets(inputs["source"], train, task, settings)
    market = _market(settings, train, targets, out)
    found = find(settings, market)
    english = English(translator_of_run(settings, inputs["translator"]), out.store)
    fates = _fates(found, market, Guards(train, targets, settings.mine, task, english), settings)
    negatives = _as_rows(sample(fates.usable, train, settings.mine, _seed(settings)), train)
    out.table("train", pl.concat([train, negatives.select(train.columns)]).sort("pair_id"))
    out.table("ledger", negatives.with_columns(**_NAMED).select(list(_LEDGER)).sort("pair_id"))
    out.table("examples", fates.examples)
    figures = _figures(market, found, fates, negatives)
    log.info("%d negatives of %s candidates", len(negatives), figures["candidates"])
    if settings.mine.mix != {"hard": 1.0}:
        figures["added_by_kind"] = _counts(negatives.with_columns(kind=kind_of(settings.mine.top_k)), "kind")
    return Report(Rows(incoming=len(train), made=len(negatives), kept=len(train) + len(negatives)), figures)


def _figures(market: Market, found: Found, fates: Fates, negatives: pl.DataFrame) -> dict[str, Any]:
    return {
        "enabled": True,
        "targets": len(market.targets),
        "positives": len(market.positives),
        "index": found.kind,
        "recall": round(found.recall, 4),
        "candidates": fates.reasons.total() + len(fates.usable),
        "excluded": dict(sorted(fates.reasons.items())),
        "usable": len(fates.usable),
        "added": len(negatives),
        "added_by_language": _counts(negatives, "language"),
    }


def _as_it_is(settings: Settings, train: pl.DataFrame, out: Output) -> Report:
    """Writes the output of a task that gets no negatives."""
    out.table("train", train.sort("pair_id"))
    out.table("ledger", pl.DataFrame(schema=_LEDGER))
    out.table("examples", pl.DataFrame(schema=_EXAMPLE))
    nothing: dict[str, Any] = {"targets": 0, "positives": 0, "index": None, "recall": None, "candidates": 0, "excluded": {}}
    nothing |= {"usable": 0, "added": 0, "added_by_language": {}}
    return Report(Rows(incoming=len(train), kept=len(train)), {"enabled": settings.mine.enabled, **nothing})


def _targets(ingest: Artifact, train: pl.DataFrame, task: Task, settings: Settings) -> pl.DataFrame:
    """Returns the distinct targets (target, target_id), sorted, with `place`, their position; prefers the catalogue's id.

    Args:
        ingest: the output with the catalogue.
        train: the training rows.
        task: QC or QI.
        settings: for the split of categories.
    """
    catalogue = ingest.table("catalogue").filter(task=task)
    frames = [frame.select("target", "target_id").sort("target", "target_id") for frame in (catalogue, train)]
    distinct = pl.concat(frames).drop_nulls("target").unique("target", keep="first", maintain_order=True)
    if task == "QC" and settings.split.qc_group == "prefix":
        distinct = distinct.filter(prefix_sides(distinct["target"], settings.split) == "train")
    return distinct.sort("target").with_columns(place=pl.int_range(pl.len(), dtype=pl.Int64))


class Market(NamedTuple):
    """The targets and positives of a search.

    targets: `target target_id place`. vectors: (n, d), of the targets by place. positives: `origin_id query language group
    positive_text positive`, a row each, sorted by the first; `positive` is the place of its target.
    """

    targets: pl.DataFrame
    vectors: Vectors
    positives: pl.DataFrame


def _market(settings: Settings, train: pl.DataFrame, targets: pl.DataFrame, out: Output) -> Market:
    from relevance_core.models.embedder import embed, open_embedder

    embedder = open_embedder(settings.mine.embedder, settings.engine)
    positives = train.filter(label=1).select("query", "language", "group", positive_text="target", origin_id="pair_id")
    positives = positives.join(targets.select(positive_text="target", positive="place"), on="positive_text").sort("origin_id")

    return Market(targets, embed(targets["target"], embedder, out.store), positives)


class Found(NamedTuple):
    """The result of the search.

    near: `positive candidate similarity rank` for every place of a positive, `rank` from 1. kind: the index that was searched.
    recall: the share of the exact neighbours that it finds.
    """

    near: pl.DataFrame
    kind: Kind
    recall: float


def find(settings: Settings, market: Market) -> Found:
    """Finds the nearest targets of each positive's target: `top_k`, with easy negatives `easy_top` of them."""
    mine, targets = settings.mine, len(market.targets)
    anchors = market.positives["positive"].unique().sort().to_numpy()
    kind = index_kind(mine, targets)
    count = mine.easy_top if "easy" in mine.mix else mine.top_k
    near, similarity, recall = neighbours(market.vectors, anchors, count, kind, settings.engine.threads)
    if kind != "flat":
        log.info("%s index of %s targets, %.3f of the nearest found", kind, targets, recall)
    depth = near.shape[1]
    listed = pl.DataFrame(
        {
            "positive": np.repeat(anchors, depth),
            "candidate": near.reshape(-1),
            "similarity": similarity.reshape(-1),
            "rank": np.tile(np.arange(1, depth + 1, dtype=np.int32), len(anchors)),
        }
    )
    return Found(listed.filter(pl.col("candidate") >= 0), kind, recall)


def index_kind(mine: MineSettings, targets: int) -> Kind:
    """Chooses the index for that many targets."""
    if mine.index == "auto":
        return "flat" if targets < mine.index_from else "ivf"
    return mine.index


class Fates(NamedTuple):
    """The judged candidates.

    usable: those that may become negatives. reasons: rule → candidates that it left out. examples: some of each, for people.
    """

    usable: pl.DataFrame
    reasons: Counter[str]
    examples: pl.DataFrame


def _fates(found: Found, market: Market, guards: Guards, settings: Settings) -> Fates:
    """Judges the candidates of SLICE positives at a time: all at once would be the stage's peak of memory."""
    mine, named = settings.mine, market.targets.rename({"place": "candidate"})
    usable, examples, reasons = [], [], Counter[str]()
    for positives in market.positives.iter_slices(SLICE):
        tried = positives.join(found.near, on="positive")
        if "random" in mine.mix:
            tried = pl.concat([tried, at_random(positives, market.vectors, mine.top_k, _seed(settings)).select(tried.columns)])
        candidates = tried.join(named, on="candidate").sort("origin_id", "rank", "candidate", nulls_last=True)
        judged = candidates.with_columns(reason=guards.judge(candidates))
        usable.append(judged.filter(pl.col("reason").is_null()).drop("reason"))
        reasons.update(_counts(judged.drop_nulls("reason"), "reason"))
        examples.append(_first_of_each(judged.with_columns(pl.col("reason").fill_null("usable"))))
    shown = _first_of_each(pl.concat(examples)).sort("reason", "origin_id").with_columns(**_NAMED)
    return Fates(pl.concat(usable), reasons, shown.select(list(_EXAMPLE)))


def _first_of_each(judged: pl.DataFrame) -> pl.DataFrame:
    """Returns the first candidate of each of the first positives, for each reason."""
    one_each = judged.unique(["reason", "origin_id"], keep="first", maintain_order=True)
    return one_each.group_by("reason", maintain_order=True).head(_EXAMPLES)


def _as_rows(chosen: pl.DataFrame, train: pl.DataFrame) -> pl.DataFrame:
    """Returns the negatives as training rows, with the ledger's columns beside."""
    inherited = train.drop("target", "target_id", "label", "origin", "origin_id").rename({"pair_id": "origin_id"})
    rows = chosen.drop("query", "language", "group", "positive", "candidate").join(inherited, on="origin_id")
    rows = rows.with_columns(pair_id=pl.lit(""), label=pl.lit(0, pl.Int8), origin=pl.lit("negative"))
    return pairs.with_ids(rows).sort("pair_id")


def _counts(frame: pl.DataFrame, column: str) -> dict[str, int]:
    return dict(frame.group_by(column).len().sort(column).iter_rows())
