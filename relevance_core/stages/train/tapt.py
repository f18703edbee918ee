"""Task-adaptive pretraining (`train.tapt`): a first training of the adapter on the other task (arXiv 2510.25428)."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from relevance_core.config import Settings
from relevance_core.pairs import Task
from relevance_core.processes import PartLogger, part
from relevance_core.runs.artifacts import Artifact

if TYPE_CHECKING:
    from relevance_core.models.trainer import Job

log = PartLogger(logging.getLogger(__name__))

OTHER: Final[dict[Task, Task]] = {"QC": "QI", "QI": "QC"}


def first_training(settings: Settings, task: Task, translate: Artifact, job: Job) -> tuple[Path | None, dict[str, Any]]:
    """Trains an adapter on the other task, for *train* to start from.

    Its rows are the other task's training rows, translated ones too, as they leave *translate*: without mined negatives and not
    filtered, since the two tasks' stages run side by side. The adapter has the shape and settings of `job`, but trains for
    `train.tapt_epochs`; it lies beside `job.work`, with its checkpoints.

    Args:
        settings: `train.tapt` and `train.tapt_epochs`.
        task: the task to train afterwards.
        translate: the output with the other task's rows.
        job: the task's own training.

    Returns:
        The adapter's folder and its figures; None, and figures whose `skipped` gives the reason, where there is nothing to learn
        from.
    """
    from relevance_core.models.trainer import train

    kind = settings.train.tapt
    rows, lacking = _rows(task, translate)
    if lacking:
        log.info("%s training left out: %s", kind, lacking)
        return None, {"kind": kind, "skipped": lacking}
    first = replace(
        job,
        settings=job.settings.model_copy(update={"epochs": settings.train.tapt_epochs}),
        work=job.work.with_name("first-checkpoints"),
        out=job.out.with_name("first-adapter"),
    )
    with part(kind):
        result = train(rows, first)
    return first.out, {"kind": kind} | {name: result[name] for name in ("rows", "steps", "final_loss")}


def _rows(task: Task, translate: Artifact) -> tuple[pl.DataFrame, str]:
    """Returns the rows of the first training, and the reason where there can be none (else ""). Training side only."""
    rows = translate.table("train").filter(task=OTHER[task]).sort("pair_id")
    labels = rows.filter(pl.col("weight") > 0)["label"].unique().sort().to_list()
    return rows, "" if labels == [0, 1] else f"{OTHER[task]} has no training rows of both labels"
