"""*denoise*: takes out training rows whose label a model trained on the other rows confidently contradicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from relevance_core.config import DenoiseSettings, Settings, TrainSettings
from relevance_core.errors import SettingsError
from relevance_core.pairs import fold_of, matched
from relevance_core.processes import map_processes, part
from relevance_core.prompts import prompt_from
from relevance_core.runs import review
from relevance_core.runs.artifacts import Output, Report, Rows
from relevance_core.runs.stage import Inputs, stage
from relevance_core.scoring.bases import open_base
from relevance_core.scoring.opened import machine_of, open_adapter

if TYPE_CHECKING:
    from relevance_core.models.base_ref import BaseRef
    from relevance_core.models.trainer import Job

REASON: Final = "a confident prediction contradicts the label"
REASONS: Final[Mapping[str, str]] = {
    "confidence": REASON,
    "cleanlab": "confident learning contradicts the label",
    "both": "a confident prediction and confident learning contradict the label",
}
"""The ledger's reason, by detector."""

LEAST_WEIGHT: Final = 0.05
"""Share of its weight that a down-weighted row keeps, however sure the model is: a row of weight 0 would not be trained on."""

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
"""The columns of the ledger. `score` is p(yes), averaged over several models; `label` is the label that the row came with; `model`
is the fold and the adapter's digest, several joined by +.
"""

_SCORES: Final = {"pair_id": pl.String(), "p": pl.Float64(), "model": pl.String()}
_GROUP: Final = ("label", "language")
_DOUBT: Final = pl.when(pl.col("label") == 1).then(1 - pl.col("p")).otherwise(pl.col("p"))
_APART: Final = 1000
"""Distance between the seeds of a row's models, so that runs with neighbouring seeds do not share a model."""


#: Settings of *train* that the filter's adapters don't use: they start from scratch, and the filter has its own number of epochs.
_NOT_ITS_TRAINING: Final = {"epochs", "save_steps", "tapt", "tapt_epochs"}
_USES: Final = (
    *("denoise", "prompt", "base.model", "base.dtype", "engine.scorer", "seed"),
    *(f"train.{name}" for name in TrainSettings.model_fields if name not in _NOT_ITS_TRAINING),
)


@stage(
    "denoise",
    uses=_USES,
    machine=("engine", "serving", "train.save_steps"),
    version=2,
    pinned=("decisions",),
)
def run(settings: Settings, inputs: Inputs, out: Output) -> Report:
    """Self-validation filtering (arXiv 2510.21671, strategy 3): `train`, `ledger` of the rows acted on, `scores` of all rows.

    How: training rows are dealt into folds by their query's group, so that a query, its translations and its negatives are in one
    fold. For each fold an adapter is trained on the other folds (on the base that has not seen this fold's labels, where there is
    such a base) and scores the fold; in-sample, the paper's way, a single adapter is trained on all rows and scores them. A row is
    contradicted when p of the other label reaches `confidence`, when confident learning finds an issue, or both (`detector`). With
    several `votes` each fold has that many adapters, with different seeds, and more than half of them must contradict the row. For
    each label and language the most contradicted rows, up to `max_share` of all its rows, are dropped, get the other label (flip),
    get a lower weight, or stay in training and are listed (review). A pair that a person has decided keeps the decided label, as do
    its translations and negatives, and is never acted on.
    What it does not do: touch dev rows, judge a label that nothing contradicts, tell a wrong label from a hard pair.
    Known limits: errors that many rows share fool the model too; in-sample the model has memorised part of the noise; a base
    without a model for each fold may have seen held-out positives in its pretraining, which lowers recall; confident learning
    compares a model with its own average, so an untrained model contradicts many labels; voters differ only in the seed of their
    adapter, so they share the errors of the base and of the rows.
    """
    rows = inputs["rows"].table("train")
    decided = matched(review.decisions(out.store, inputs.decisions).filter(task=inputs.task), rows)
    rows = review.labelled(rows, decided)
    if not settings.denoise.enabled:
        out.table("ledger", pl.DataFrame(schema=LEDGER))
        return _leave(out, rows, rows, {}, {"enabled": False})
    scores = _scores(settings, inputs, out, rows)
    scored = rows.join(together(scores), on="pair_id", how="left", validate="1:1")
    found = contradictions(scored.join(decided, on="pair_id", how="anti", maintain_order="left"), settings.denoise)
    reason, action = REASONS[settings.denoise.detector], settings.denoise.action
    ledger = found.filter("acted").with_columns(reason=pl.lit(reason), action=pl.lit(action)).rename({"p": "score"})
    ledger = ledger.select(pl.col(name).cast(kind) for name, kind in LEDGER.items()).sort("pair_id")
    kept = act(rows, ledger, action)
    out.table("ledger", ledger)
    out.table("scores", scores)
    dropped = len(rows) - len(kept)
    reasons = {f"dropped: {reason}": dropped} if dropped else {}
    figures = _figures(scored, found, settings.denoise)
    if action == "weight":
        figures["weight"] = {name: _weight(frame, ledger) for name, frame in (("before", rows), ("after", kept))}
    if inputs.decisions:
        figures["reviewed"] = len(rows.join(decided, on="pair_id", how="semi"))
    return _leave(out, rows, kept, reasons, figures)


def _leave(out: Output, rows: pl.DataFrame, kept: pl.DataFrame, reasons: dict[str, int], figures: dict[str, Any]) -> Report:
    """Writes the training rows, `kept` of `rows`, and reports them.

    Args:
        out: the stage's output.
        rows: the rows that came in.
        kept: the rows to train on.
        reasons: reason → number of rows that are not kept.
        figures: of the report.
    """
    out.table("train", kept)
    return Report(Rows(len(rows), kept=len(kept), dropped=sum(reasons.values()), reasons=reasons), figures)


def together(scores: pl.DataFrame) -> pl.DataFrame:
    """Merges the models' scores of each pair: `p` is the mean, `votes` each model's p, `model` their names joined by +.

    scores: pair_id, p and model, a row a pair and model.
    """
    by_pair = scores.group_by("pair_id", maintain_order=True)
    return by_pair.agg(pl.col("p").mean(), pl.col("model").str.join("+"), votes=pl.col("p"))


def contradictions(scored: pl.DataFrame, settings: DenoiseSettings) -> pl.DataFrame:
    """Returns the rows whose label more than half of the models contradict, with `doubt` (p of the other label) and `acted`.

    scored: a row's pair_id, label, language, p(yes) and `votes`, the `settings.votes` values of p(yes) whose mean is p. In each
    label × language at most `max_share` of its rows are `acted` on, the most doubtful first, ties by pair_id.
    """
    cap = (pl.len().over(_GROUP) * settings.max_share + 1e-9).floor()
    votes = [contradicted(scored.with_columns(p=pl.col("votes").list.get(n)), settings) for n in range(settings.votes)]
    against = pl.DataFrame([vote.alias(str(n)) for n, vote in enumerate(votes)]).sum_horizontal()
    found = scored.with_columns(doubt=_DOUBT, cap=cap).filter(2 * against > settings.votes)
    found = found.sort(pl.col("doubt").neg(), "pair_id")
    return found.with_columns(acted=pl.int_range(pl.len()).over(_GROUP) < pl.col("cap")).drop("cap")


def contradicted(scored: pl.DataFrame, settings: DenoiseSettings) -> pl.Series:
    """Marks the rows (columns `p` and `label`) whose label one model's p(yes) contradicts, by the settings' detector."""
    relevant, other = settings.confidence, settings.confidence_not_relevant
    limit = pl.when(pl.col("label") == 1).then(relevant).otherwise(relevant if other is None else other)
    confident = scored.with_columns(doubt=_DOUBT).select(pl.col("doubt") >= limit).to_series()
    if settings.detector == "confidence":
        return confident
    learned = confident_learning(scored)
    return learned if settings.detector == "cleanlab" else confident & learned


def confident_learning(scored: pl.DataFrame) -> pl.Series:
    """Marks the rows (columns `p` and `label`) that are off the diagonal of the confident joint (arXiv 1911.00068), by cleanlab.

    A label's threshold is the mean p of that label over the rows that have it. All languages share the two thresholds: thresholds
    by language would be lower in a language that the model hardly knows, and take most rows where the model is least reliable.
    Where only one label occurs there is nothing to compare with, and no row is marked.
    """
    if scored["label"].n_unique() < 2:
        return pl.repeat(value=False, n=len(scored), eager=True)
    from cleanlab.filter import find_label_issues

    p = scored["p"].to_numpy()
    # One job: cleanlab would fork this process, which has used torch's threads.
    found = find_label_issues(scored["label"].to_numpy(), np.column_stack([1 - p, p]), filter_by="confident_learning", n_jobs=1)
    return pl.Series(found)


def act(rows: pl.DataFrame, acted: pl.DataFrame, action: str) -> pl.DataFrame:
    """Returns the rows after `action` (drop, flip, weight or review) on the rows of `acted`.

    Args:
        rows: the training rows.
        acted: pair_id and `score`, p(yes), of the rows to act on.
        action: drop removes, flip sets the other label, weight multiplies the weight by p of the label, at least by
            `LEAST_WEIGHT`; review changes nothing.
    """
    chosen = pl.col("pair_id").is_in(acted["pair_id"].implode())
    if action == "drop":
        return rows.filter(~chosen)
    if action == "flip":
        flipped = pl.when(chosen).then(1 - pl.col("label")).otherwise(pl.col("label")).cast(rows.schema["label"])
        return rows.with_columns(label=flipped)
    if action == "weight":
        scored = rows.join(acted.select("pair_id", "score"), on="pair_id", how="left", maintain_order="left", validate="1:1")
        right = pl.when(pl.col("label") == 1).then("score").otherwise(1 - pl.col("score")).clip(LEAST_WEIGHT)
        weight = (pl.col("weight") * right.fill_null(1)).cast(rows.schema["weight"])
        return scored.with_columns(weight=weight).drop("score")
    return rows


@dataclass(frozen=True)
class Fold:
    """An adapter to train and the rows that it scores, picklable for a process of its own; `job` holds its folders."""

    name: str
    train: pl.DataFrame
    held_out: pl.DataFrame
    job: Job
    settings: Settings

    @property
    def scores(self) -> Path:
        """The file that holds the fold's scores once it is finished; a stage that was killed finds them there."""
        return self.job.work / f"{self.name}.parquet"


def score_fold(fold: Fold) -> pl.DataFrame:
    """Trains the fold's adapter and scores its held-out rows: pair_id, p, model. Reads finished scores again."""
    if not fold.scores.exists():
        fold.job.work.mkdir(parents=True, exist_ok=True)
        unfinished = fold.scores.with_suffix(".part")
        with part(fold.name):
            _train_and_score(fold).write_parquet(unfinished)
        unfinished.rename(fold.scores)
    return pl.read_parquet(fold.scores)


def _train_and_score(fold: Fold) -> pl.DataFrame:
    import hashlib

    from relevance_core.models.trainer import train

    job = fold.job
    train(fold.train, job)
    digest = hashlib.sha256((job.out / "adapter_model.safetensors").read_bytes()).hexdigest()
    scorer = open_adapter(job.base, job.out, job.prompt, machine_of(fold.settings)).scorer
    p = scorer.score(fold.held_out.select("task", "query", "target", "english").iter_rows())
    return fold.held_out.select("pair_id").with_columns(p=pl.Series(p), model=pl.lit(f"{fold.name}:{digest[:12]}"))


def _scores(settings: Settings, inputs: Inputs, out: Output, rows: pl.DataFrame) -> pl.DataFrame:
    """Returns p(yes) and the model for every row, by pair_id; the scores of several models in the order of their votes."""
    base = open_base(inputs["base"], settings.base.dtype)
    folds = _folds(settings, base, out, rows)
    tables = map_processes(score_fold, folds, settings.engine.workers)
    return pl.concat([pl.DataFrame(schema=_SCORES), *tables]).sort("pair_id", maintain_order=True)


def _folds(settings: Settings, base: BaseRef, out: Output, rows: pl.DataFrame) -> list[Fold]:
    """Lists the adapters to train, one for each fold and vote; skips a fold without rows.

    Raises SettingsError for a base that was built for another number of folds.
    """
    from relevance_core.models.trainer import Job

    def voters(name: str, train: pl.DataFrame, held_out: pl.DataFrame, ref: BaseRef) -> list[Fold]:
        training = TrainSettings(**settings.train.values() | {"epochs": settings.denoise.epochs})
        folds = []
        for vote in range(settings.denoise.votes):
            named = f"{name}-vote-{vote}" if vote else name
            work, seed = out.work / named, settings.seed + _APART * vote
            job = Job(ref, prompt_from(settings), training, settings.engine, seed, work, work / "adapter")
            folds.append(Fold(named, train, held_out, job, settings))
        return folds

    if settings.denoise.mode == "in-sample":
        return voters("in-sample", rows, rows, base)
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
        fold
        for j in sorted(number.unique().to_list())
        for fold in voters(f"fold-{j}", rows.filter(number != j), rows.filter(number == j), base.fold(j))
    ]


def _figures(scored: pl.DataFrame, found: pl.DataFrame, settings: DenoiseSettings) -> dict[str, Any]:
    counts = scored.group_by(_GROUP).len("rows")
    acted = found.group_by(_GROUP).agg(pl.len().alias("contradicted"), pl.col("acted").sum())
    by_group = counts.join(acted, on=_GROUP, how="left").fill_null(0).sort("language", "label")
    return {
        "enabled": True,
        "mode": settings.mode,
        "folds": settings.folds if settings.mode == "out-of-fold" else 0,
        "detector": settings.detector,
        "confidence": settings.confidence,
        "confidence_not_relevant": settings.confidence_not_relevant,
        "votes": settings.votes,
        "action": settings.action,
        "contradicted": len(found),
        "acted": int(found["acted"].sum()),
        "by_label_and_language": by_group.to_dicts(),
    }


def _weight(rows: pl.DataFrame, acted: pl.DataFrame) -> float:
    """Sums the weights of the rows whose pair_id is in `acted`."""
    return round(float(rows.join(acted, on="pair_id", how="semi")["weight"].cast(pl.Float64).sum()), 4)
