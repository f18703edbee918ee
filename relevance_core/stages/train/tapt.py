"""Task-adaptive pretraining: what *train* teaches an adapter before the task itself (`train.tapt`).

The other task first: arXiv 2510.25428.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from relevance_core.config import Settings
from relevance_core.pairs import Task
from relevance_core.processes import part
from relevance_core.runs.stage import Artifact

if TYPE_CHECKING:
    from relevance_core.models.trainer import Job

log = logging.getLogger(__name__)

OTHER: Final[dict[Task, Task]] = {"QC": "QI", "QI": "QC"}


def first_training(settings: Settings, task: Task, translate: Artifact, job: Job) -> tuple[Path | None, dict[str, Any]]:
    """The folder of an adapter to begin the task's training with, and what is told of how it was made.

    It is trained on the other task's training rows, translated ones too, as they leave *translate*: without mined negatives and not
    filtered, since the two tasks' stages run side by side. The adapter has the shape of `job`, the training its settings but
    `train.tapt_epochs`; it lies beside `job.work`, checkpoints and all. Where there is nothing to learn from, the folder is None
    and `skipped` says why.
    """
    from relevance_core.models.trainer import train

    kind = settings.train.tapt
    rows, lacking = _rows(task, translate)
    if lacking:
        log.info("train %s: %s training left out: %s", task, kind, lacking)
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
    """The rows of the first training, and why there is none ("" where there is one). Training side only."""
    rows = translate.table("train").filter(task=OTHER[task]).sort("pair_id")
    labels = rows.filter(pl.col("weight") > 0)["label"].unique().sort().to_list()
    return rows, "" if labels == [0, 1] else f"{OTHER[task]} has no training rows of both labels"
