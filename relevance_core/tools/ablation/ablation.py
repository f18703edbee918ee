"""*ablate*: each strategy's gain, measured on one's own rows (the ablation of arXiv 2510.21671 as one command).

A table begins with plain fine-tuning, and each further row switches one strategy on and keeps those before it. A cell is one
training: a row, a seed and a task. Cells are runs of the loop as far as *evaluate*, in a separate part of the store (`ablation/`)
without a registry: nothing that is trained here can serve, and no champion is involved. Outputs are found again as in every run, so
a finished cell costs nothing the second time, and outputs that two cells share are made once.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field, replace
from typing import Final, cast

import polars as pl

from relevance_core import config, loop
from relevance_core.config import Settings
from relevance_core.errors import DataError, NotFound
from relevance_core.pairs import Task, map_distinct, query_group
from relevance_core.runs.artifacts import Output, Report, Rows, open_artifact
from relevance_core.runs.run import Run, pin
from relevance_core.runs.stage import Inputs, stage
from relevance_core.scoring.english import with_english
from relevance_core.scoring.opened import TEXT, open_candidate
from relevance_core.sources import read_labelled
from relevance_core.stages.ingest import fingerprint
from relevance_core.store import Store, open_store
from relevance_core.tools.ablation.strategies import Row

log = logging.getLogger(__name__)

CORNER: Final = "ablation"
ANSWERS: Final = ("pair_id", "group", "language", "label", "p")


@dataclass(frozen=True)
class Plan:
    """The cells to make. judge: a labelled file whose rows judge instead of the split's judgement rows; '' for none."""

    settings: Settings
    rows: tuple[Row, ...]
    seeds: tuple[int, ...]
    judge: str = ""


@dataclass(frozen=True)
class Cell:
    """The answers of one training.

    answers: ANSWERS of the rows that judge; calibration: of the split's calibration rows, which judge nothing; threshold: the one
    that they give.
    """

    row: str
    seed: int
    task: Task
    answers: pl.DataFrame = field(repr=False)
    threshold: float
    calibration: pl.DataFrame = field(repr=False)


def check(plan: Plan) -> None:
    """Raises errors that would otherwise occur after hours: of a row's settings, a seed's rows, or the file that judges."""
    for seed in plan.seeds:
        for row in plan.rows:
            settings_of(plan, row, seed)
        fingerprint(settings_of(plan, plan.rows[0], seed))
    if plan.judge:
        for task in plan.settings.tasks:
            _judging(plan.judge, task)


def _judging(uri: str, task: Task) -> pl.DataFrame:
    """Reads the task's rows of the file that judges, with `group`. Raises NotFound and DataError."""
    rows = read_labelled(uri, task=task).filter(task=task)
    if rows.is_empty():
        raise DataError(
            f"the file that judges has no row of the task {task}", where=uri, do="leave the task out, or give another file"
        )
    return rows.with_columns(map_distinct(rows["query"], query_group, "group"))


def cells(plan: Plan, store: Store) -> list[Cell]:
    """Makes every cell, or finds it; a row that only moves the threshold reuses the answers of the row before it."""
    corner = open_store(f"{store.uri.rstrip('/')}/{CORNER}")
    found, trained = [], 0
    total = len(plan.seeds) * len({_key(row) for row in plan.rows})
    for seed in plan.seeds:
        made: dict[str, dict[Task, Cell]] = {}
        for row in plan.rows:
            if _key(row) not in made:
                trained += 1
                log.info("ablate: %s, seed %s: training %s of %s", row.name, seed, trained, total)
                made[_key(row)] = _train(plan, row, seed, corner)
            found += [replace(cell, row=row.name) for cell in made[_key(row)].values()]
    return found


def _key(row: Row) -> str:
    return json.dumps(row.settings, sort_keys=True)


def settings_of(plan: Plan, row: Row, seed: int) -> Settings:
    """Returns the settings of a cell: the user's own, then the row's, then the seed, which also replaces `{seed}` in the source.

    Args:
        plan: has the user's settings.
        row: of the table.
        seed: of the cell.
    """
    values = config.merge(plan.settings.model_dump(), row.settings)
    uri = plan.settings.source.uri.replace("{seed}", str(seed))
    return config.build(config.merge(values, {"seed": seed, "source": {"uri": uri}}))


def _train(plan: Plan, row: Row, seed: int, store: Store) -> dict[Task, Cell]:
    settings = settings_of(plan, row, seed)
    run = pin(settings, store, loop.default_run_id(settings))
    loop.learn(run)
    found = {}
    for task in settings.tasks:
        evaluated = run.artifact("evaluate", task)
        scores = evaluated.table("scores", [*ANSWERS, "part"])
        answers, calibration = (scores.filter(part=part).drop("part") for part in ("judgement", "calibration"))
        if plan.judge:
            answers = _judged(plan.judge, run, task)
        found[task] = Cell(row.name, seed, task, answers, evaluated.report.figures["threshold"], calibration)
    return found


def _judged(uri: str, run: Run, task: Task) -> pl.DataFrame:
    """Returns the scores of a cell's adapter for the rows of a file, computed once.

    Raises NotFound when the scores were deleted.
    """
    settings = run.settings.model_copy(update={"source": config.SourceSettings(uri=uri, task=task)})
    inputs = Inputs(
        {"adapter": run.artifact("train", task), "base": run.artifact("base"), "translator": run.artifact("translate")}, task
    )
    report = judge(settings, inputs, run.store)
    found = open_artifact(run.store, report.address)
    if found is None:
        raise NotFound("the scores of the judging file are gone", where=run.store.uri_of(report.address), do="run it again")
    return found.table("answers")


@stage(
    "judge",
    uses=("prompt", "base.model", "engine.scorer", "source"),
    machine=("engine", "serving"),
    fingerprint=fingerprint,
)
def judge(settings: Settings, inputs: Inputs, out: Output) -> Report:
    """Scores the task's rows of the labelled file `source.uri` with an adapter that is in no registry: `answers` (ANSWERS)."""
    rows = _judging(settings.source.uri, cast(Task, inputs.task))
    scorer = open_candidate(settings, inputs["base"], inputs["adapter"]).scorer
    p = scorer.score(with_english(rows, settings, inputs["translator"]).select(TEXT).iter_rows())
    out.table("answers", rows.with_columns(p=pl.Series(p, dtype=pl.Float64)).select(ANSWERS))
    return Report(Rows(len(rows), kept=len(rows)), {})
