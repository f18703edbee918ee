"""*denoise*: takes out training rows whose label a model trained on the other rows confidently contradicts."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from relevance_core import review
from relevance_core.config import DenoiseSettings, Settings
from relevance_core.engine import map_processes
from relevance_core.errors import SettingsError
from relevance_core.pairs import fold_of
from relevance_core.prompts import prompt_from
from relevance_core.stages.base import Inputs, Output, Report, Rows, stage
from relevance_core.stages.bases import open_base
from relevance_core.stages.scorers import open_scorer

if TYPE_CHECKING:
    from relevance_core.models.base_ref import BaseRef
    from relevance_core.models.trainer import Job

REASON: Final = "a confident prediction contradicts the label"
LEDGER: Final = {
    "pair_id": pl.String(),
    "query": pl.String(),
    "target": pl.String(),
    "language": pl.String(),
    "label": pl.Int8(),
    "reason": pl.String(),
    "score": pl.Float64(),
    "action": pl.String(),
    "model": pl.String(),
}
"""The columns of the ledger: `score` is p(yes), `label` the one the row came with, `model` the fold and digest of who said so."""

_SCORES: Final = {"pair_id": pl.String(), "p": pl.Float64(), "model": pl.String()}
_GROUP: Final = ("label", "language")


@stage(
    "denoise",
    uses=("denoise", "train", "prompt", "base.model", "base.dtype", "engine.scorer", "seed"),
    by_task=True,
    version=2,
    pinned=("decisions",),
)
def run(settings: Settings, inputs: Inputs, out: Output) -> Report:
    """Self-validation filtering (arXiv 2510.21671, strategy 3): `train`, `ledger` of the rows acted on, `scores` of all.

    How: training rows are dealt into folds by their query's group, so that a query, its translations and its negatives are in one
    fold. For each fold an adapter is trained on the other folds (on the base that has not seen this fold's labels, where there is
    one) and scores it; in-sample, the paper's way, one adapter is trained on all rows and scores them. A row is contradicted when p
    of the other label reaches `confidence`; of each label and language the most contradicted ones, up to `max_share` of
    its rows, are dropped, get the other label (flip), or stay in training and are listed (review). A pair that a person has decided
    has the decided label, translations and negatives too, and is never acted on.
    What it does not do: touch dev rows, judge a label that nothing contradicts, tell a wrong label from a hard pair.
    Known limits: errors that many rows share fool the model too; in-sample the model has learned part of the noise by heart; a base
    without models of its own for each fold may have seen held-out positives in its pretraining, which costs recall.
    """
    decided = review.decisions(out.store, inputs.decisions).filter(task=inputs.task)
    rows = review.labelled(inputs["mine"].table("train"), decided)
    if not settings.denoise.enabled:
        out.table("train", rows)
        out.table("ledger", pl.DataFrame(schema=LEDGER))
        return Report(Rows(incoming=len(rows), kept=len(rows)), {"enabled": False})
    scores = _scores(settings, inputs, out, rows)
    scored = rows.join(scores, on="pair_id", how="left", validate="1:1")
    found = contradictions(scored.join(decided, on="pair_id", how="anti", maintain_order="left"), settings.denoise)
    ledger = (
        found.filter("acted").with_columns(reason=pl.lit(REASON), action=pl.lit(settings.denoise.action)).rename({"p": "score"})
    )
    ledger = ledger.select(pl.col(name).cast(kind) for name, kind in LEDGER.items()).sort("pair_id")
    kept = act(rows, ledger["pair_id"], settings.denoise.action)
    out.table("train", kept)
    out.table("ledger", ledger)
    out.table("scores", scores)
    dropped = len(rows) - len(kept)
    reasons = {f"dropped: {REASON}": dropped} if dropped else {}
    figures = _figures(scored, found, settings.denoise)
    if inputs.decisions:
        figures["reviewed"] = len(rows.join(decided, on="pair_id", how="semi"))
    return Report(Rows(len(rows), kept=len(kept), dropped=dropped, reasons=reasons), figures)


def contradictions(scored: pl.DataFrame, settings: DenoiseSettings) -> pl.DataFrame:
    """The rows whose label `p` contradicts, with `doubt` (p of the other label) and `acted`: whether the cap leaves them in.

    scored: a row's pair_id, label, language and p(yes). Of each label × language at most `max_share` of its rows are acted on, the
    most doubtful first, equal ones by pair_id.
    """
    cap = (pl.len().over(_GROUP) * settings.max_share + 1e-9).floor()
    doubt = pl.when(pl.col("label") == 1).then(1 - pl.col("p")).otherwise(pl.col("p"))
    found = scored.with_columns(doubt=doubt, cap=cap).filter(pl.col("doubt") >= settings.confidence)
    found = found.sort(pl.col("doubt").neg(), "pair_id")
    return found.with_columns(acted=pl.int_range(pl.len()).over(_GROUP) < pl.col("cap")).drop("cap")


def act(rows: pl.DataFrame, pair_ids: pl.Series, action: str) -> pl.DataFrame:
    """The rows after `action` (drop, flip or review) on those with `pair_ids`."""
    chosen = pl.col("pair_id").is_in(pair_ids.implode())
    if action == "drop":
        return rows.filter(~chosen)
    if action == "flip":
        flipped = pl.when(chosen).then(1 - pl.col("label")).otherwise(pl.col("label")).cast(rows.schema["label"])
        return rows.with_columns(label=flipped)
    return rows


@dataclass(frozen=True)
class Fold:
    """One adapter to train and the rows that it scores; `job` says where it works. Travels to a process of its own."""

    name: str
    train: pl.DataFrame
    held_out: pl.DataFrame
    job: Job
    settings: Settings
    say: Callable[[str], None]

    @property
    def scores(self) -> Path:
        """Where its scores lie once it is finished; a stage that was killed finds them there."""
        return self.job.work / f"{self.name}.parquet"


def score_fold(fold: Fold) -> pl.DataFrame:
    """Trains the fold's adapter and scores its held-out rows: pair_id, p, model. Finished scores are read again."""
    if not fold.scores.exists():
        fold.job.work.mkdir(parents=True, exist_ok=True)
        unfinished = fold.scores.with_suffix(".part")
        _train_and_score(fold).write_parquet(unfinished)
        unfinished.rename(fold.scores)
    return pl.read_parquet(fold.scores)


def _train_and_score(fold: Fold) -> pl.DataFrame:
    import hashlib

    from relevance_core.models.trainer import train

    job, say = fold.job, functools.partial(_prefixed, fold.say, f"denoise {fold.name}: ")
    train(fold.train, job, say)
    digest = hashlib.sha256((job.out / "adapter_model.safetensors").read_bytes()).hexdigest()
    scorer = open_scorer(fold.settings, job.base, job.out, job.prompt)
    p = scorer.score(fold.held_out.select("task", "query", "target", "english").iter_rows(), say)
    return fold.held_out.select("pair_id").with_columns(p=pl.Series(p), model=pl.lit(f"{fold.name}:{digest[:12]}"))


def _prefixed(say: Callable[[str], None], prefix: str, text: str) -> None:
    say(prefix + text)


def _scores(settings: Settings, inputs: Inputs, out: Output, rows: pl.DataFrame) -> pl.DataFrame:
    """p(yes) of every row and the model that said so, by pair_id."""
    base = open_base(inputs["base"], settings.base.dtype)
    folds = _folds(settings, base, out, rows)
    tables = map_processes(score_fold, folds, settings.engine.workers)
    return pl.concat([pl.DataFrame(schema=_SCORES), *tables]).sort("pair_id")


def _folds(settings: Settings, base: BaseRef, out: Output, rows: pl.DataFrame) -> list[Fold]:
    """The adapters to train; a fold without rows needs none."""
    from relevance_core.models.trainer import Job

    def fold(name: str, train: pl.DataFrame, held_out: pl.DataFrame, ref: BaseRef) -> Fold:
        training = settings.train.model_copy(update={"epochs": settings.denoise.epochs})
        work = out.work / name
        job = Job(ref, prompt_from(settings), training, settings.engine, settings.seed, work, work / "adapter")
        return Fold(name, train, held_out, job, settings, out.say)

    if settings.denoise.mode == "in-sample":
        return [fold("in-sample", rows, rows, base)]
    count = settings.denoise.folds
    if base.folds and len(base.folds) != count:
        raise SettingsError(
            f"the base {base.id} was built for {len(base.folds)} folds, not {count}",
            where="denoise.folds",
            do=f"set denoise.folds={len(base.folds)}, or run the base stage again with the new number",
        )
    groups = rows["group"].unique().to_list()
    number = rows["group"].replace_strict(groups, [fold_of(group, count) for group in groups], return_dtype=pl.Int64)
    return [
        fold(f"fold-{j}", rows.filter(number != j), rows.filter(number == j), base.fold(j))
        for j in sorted(number.unique().to_list())
    ]


def _figures(scored: pl.DataFrame, found: pl.DataFrame, settings: DenoiseSettings) -> dict[str, Any]:
    counts = scored.group_by(_GROUP).len("rows")
    acted = found.group_by(_GROUP).agg(pl.len().alias("contradicted"), pl.col("acted").sum())
    by_group = counts.join(acted, on=_GROUP, how="left").fill_null(0).sort("language", "label")
    return {
        "enabled": True,
        "mode": settings.mode,
        "folds": settings.folds if settings.mode == "out-of-fold" else 0,
        "confidence": settings.confidence,
        "action": settings.action,
        "contradicted": len(found),
        "acted": int(found["acted"].sum()),
        "by_label_and_language": by_group.to_dicts(),
    }
