"""The *mine* stage: semantic hard negatives of a task."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import numpy as np
import polars as pl

from relevance_core import pairs
from relevance_core.config import MineSettings, Settings
from relevance_core.models.draws import sample
from relevance_core.models.negatives import English, Guards
from relevance_core.models.translators import Machine, Translator, open_translator
from relevance_core.pairs import Task
from relevance_core.stages.base import Artifact, Inputs, Output, Report, Rows, stage

if TYPE_CHECKING:
    from relevance_core.models.index import Kind

_TEXTS: Final = dict.fromkeys(("language", "query", "positive", "negative"), pl.String)
_SHOWN: Final = {**_TEXTS, "similarity": pl.Float32, "rank": pl.Int32}
_LEDGER: Final = {"pair_id": pl.String, "origin_id": pl.String, **_SHOWN}
_EXAMPLE: Final = {"reason": pl.String, **_SHOWN}
_EXAMPLES: Final = 8
_NAMED: Final = {"positive": pl.col("positive_text"), "negative": pl.col("target")}
_SLICE: Final = 20_000
"""Positives whose candidates are judged at a time."""


@stage("mine", uses=("mine",), version=2, by_task=True)
def run(settings: Settings, inputs: Inputs, out: Output) -> Report:
    """Semantic hard negatives (arXiv 2510.21671, strategy 2): targets that are near a positive and are not relevant.

    How it works. The distinct targets of the catalogue and the training rows are embedded, and the `top_k` nearest of each
    positive's target are its candidates. Every candidate that may be relevant is left out; the first rule that says so is counted:

    - *labelled*: the query has a label for it, in whatever language or translation: the rows of its group, and those of any query
      that means the same (the same English words);
    - *related category* (QC): an ancestor of a positive of that query, or a descendant of its most specific ones;
    - *near duplicate*: its title has the same words as a positive's, or is as good as identical to it by cosine;
    - *as good a match*: it holds as many of the query's words, read in English, as the positive does (QI), or more of them (QC,
      where a category rarely holds more than the noun);
    - *no evidence* (QI): the positive holds none of the query's words, for a typing error or a wrong label.

    Of what is left, `ratio` negatives a positive are drawn in each language, near ones rather than far ones, a first one for each
    positive before any second one. A negative takes the query, language, group, English translation and event time of its positive.

    What it does not do. It never asks a model whether a candidate is relevant, and never sees a dev row.

    Known limits. The packaged embedder reads English: targets in other languages need another one. Without a translator only
    English queries can be compared with a title, and QI makes negatives for no others. Search is exact below `index_from` targets,
    where its time grows with positives × targets; above, the figures tell how many of the nearest it finds.
    """
    task = cast(Task, inputs.task)
    translated = inputs["translate"]
    train = translated.table("train").filter(task=task)
    if not settings.mine.enabled or train.filter(label=1).is_empty():
        return _as_it_is(settings, train, out)
    targets = _targets(inputs["ingest"], train, task)
    found = find(settings, train, targets, out)
    guards = Guards(train, targets, settings.mine, task, English(_translator(settings, translated), out.store))
    fates = _fates(found, targets, guards)
    chosen = sample(fates.usable, train, settings.mine.ratio)
    negatives = _as_rows(chosen, train)
    out.table("train", pl.concat([train, negatives.select(train.columns)]).sort("pair_id"))
    out.table("ledger", negatives.with_columns(**_NAMED).select(list(_LEDGER)).sort("pair_id"))
    out.table("examples", fates.examples)
    candidates = sum(fates.reasons.values()) + len(fates.usable)
    out.say(f"mine {task}: {len(negatives)} negatives of {candidates} candidates")
    figures = {
        "enabled": True,
        "targets": len(targets),
        "positives": len(train.filter(label=1)),
        "index": found.kind,
        "recall": round(found.recall, 4),
        "candidates": candidates,
        "excluded": dict(sorted(fates.reasons.items())),
        "usable": len(fates.usable),
        "added": len(negatives),
        "added_by_language": _counts(negatives, "language"),
    }
    return Report(Rows(incoming=len(train), made=len(negatives), kept=len(train) + len(negatives)), figures)


def _as_it_is(settings: Settings, train: pl.DataFrame, out: Output) -> Report:
    """The output of a task that gets no negatives."""
    out.table("train", train.sort("pair_id"))
    out.table("ledger", pl.DataFrame(schema=_LEDGER))
    out.table("examples", pl.DataFrame(schema=_EXAMPLE))
    nothing: dict[str, Any] = {"targets": 0, "positives": 0, "index": None, "recall": None, "candidates": 0, "excluded": {}}
    nothing |= {"usable": 0, "added": 0, "added_by_language": {}}
    return Report(Rows(incoming=len(train), kept=len(train)), {"enabled": settings.mine.enabled, **nothing})


def _translator(settings: Settings, translated: Artifact) -> Translator | None:
    ref = translated.report.figures.get("translator")
    return open_translator(ref, translated.store, Machine(settings.serving, settings.engine)) if ref else None


def _targets(ingest: Artifact, train: pl.DataFrame, task: Task) -> pl.DataFrame:
    """The distinct targets (target, target_id), sorted, with `place`, their position; the id is the catalogue's if it has one."""
    catalogue = ingest.table("catalogue").filter(task=task)
    listed = [frame.select("target", "target_id").sort("target", "target_id") for frame in (catalogue, train)]
    distinct = pl.concat(listed).drop_nulls("target").unique("target", keep="first", maintain_order=True).sort("target")
    return distinct.with_columns(place=pl.int_range(pl.len(), dtype=pl.Int64))


class Found(NamedTuple):
    """What the search found; `positive` and `candidate` are places in the targets.

    positives: a row each, `origin_id query language group positive_text positive`, sorted by the first. near: `positive candidate
    similarity rank` for every place of a positive, `rank` from 1. kind: the index that was searched. recall: the share of the exact
    neighbours that it finds.
    """

    positives: pl.DataFrame
    near: pl.DataFrame
    kind: Kind
    recall: float


def find(settings: Settings, train: pl.DataFrame, targets: pl.DataFrame, out: Output) -> Found:
    """The `top_k` nearest targets of each positive's target."""
    from relevance_core.models.embedder import embed, open_embedder
    from relevance_core.models.index import neighbours

    vectors = embed(targets["target"], open_embedder(settings.mine.embedder, settings.engine), out.store, out.say)
    positives = train.filter(label=1).select("query", "language", "group", positive_text="target", origin_id="pair_id")
    positives = positives.join(targets.select(positive_text="target", positive="place"), on="positive_text").sort("origin_id")
    anchors = positives["positive"].unique().sort().to_numpy()
    kind = index_kind(settings.mine, len(targets))
    near, similarity, recall = neighbours(vectors, anchors, settings.mine.top_k, kind, settings.engine.threads)
    if kind != "flat":
        out.say(f"mine: {kind} index of {len(targets)} targets, {recall:.3f} of the nearest found")
    depth = near.shape[1]
    listed = pl.DataFrame(
        {
            "positive": np.repeat(anchors, depth),
            "candidate": near.reshape(-1),
            "similarity": similarity.reshape(-1),
            "rank": np.tile(np.arange(1, depth + 1, dtype=np.int32), len(anchors)),
        }
    )
    listed = listed.filter(pl.col("candidate") >= 0, pl.col("rank") > settings.mine.skip_ranks)
    return Found(positives, listed, kind, recall)


def index_kind(mine: MineSettings, targets: int) -> Kind:
    """The index for that many targets."""
    if mine.index == "auto":
        return "flat" if targets < mine.index_from else "ivf"
    return mine.index


class Fates(NamedTuple):
    """What became of the candidates.

    usable: those that may become negatives. reasons: how many each rule left out. examples: some of every fate, for people.
    """

    usable: pl.DataFrame
    reasons: Counter[str]
    examples: pl.DataFrame


def _fates(found: Found, targets: pl.DataFrame, guards: Guards) -> Fates:
    """Judges the candidates, some thousand positives at a time: all at once they would be the most that this stage ever holds."""
    named = targets.rename({"place": "candidate"})
    usable, examples, reasons = [], [], Counter[str]()
    for positives in found.positives.iter_slices(_SLICE):
        candidates = positives.join(found.near, on="positive").join(named, on="candidate").sort("origin_id", "rank")
        judged = candidates.with_columns(reason=guards.judge(candidates))
        usable.append(judged.filter(pl.col("reason").is_null()).drop("reason"))
        reasons.update(_counts(judged.drop_nulls("reason"), "reason"))
        examples.append(_first_of_each(judged.with_columns(pl.col("reason").fill_null("usable"))))
    shown = _first_of_each(pl.concat(examples)).sort("reason", "origin_id").with_columns(**_NAMED)
    return Fates(pl.concat(usable), reasons, shown.select(list(_EXAMPLE)))


def _first_of_each(judged: pl.DataFrame) -> pl.DataFrame:
    """The first candidate of each of the first positives with that fate."""
    one_each = judged.unique(["reason", "origin_id"], keep="first", maintain_order=True)
    return one_each.group_by("reason", maintain_order=True).head(_EXAMPLES)


def _as_rows(chosen: pl.DataFrame, train: pl.DataFrame) -> pl.DataFrame:
    """The negatives as training rows, with what the ledger says of them beside."""
    inherited = train.drop("target", "target_id", "label", "origin", "origin_id").rename({"pair_id": "origin_id"})
    rows = chosen.select("origin_id", "positive_text", "target", "target_id", "similarity", "rank").join(inherited, on="origin_id")
    rows = rows.with_columns(pair_id=pl.lit(""), label=pl.lit(0, pl.Int8), origin=pl.lit("negative"))
    return pairs.with_ids(rows).sort("pair_id")


def _counts(frame: pl.DataFrame, column: str) -> dict[str, int]:
    return dict(frame.group_by(column).len().sort(column).iter_rows())
