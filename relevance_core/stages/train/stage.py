"""*train*: the LoRA adapter of a task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import polars as pl

from relevance_core.config import Settings
from relevance_core.prompts import prompt_from
from relevance_core.registry import Manifest, Registry
from relevance_core.runs.stage import Inputs, Output, Report, Rows, label, scratch, stage
from relevance_core.scoring.bases import open_base
from relevance_core.scoring.opened import open_adapter, prompt_of, trainers
from relevance_core.stages.train.tapt import first_training
from relevance_core.store import Store

if TYPE_CHECKING:
    from relevance_core.models.base_ref import BaseRef

_USES: Final = ("train", "prompt", "base.model", "base.dtype", "seed")


def _pinned(settings: Settings) -> tuple[str, ...]:
    """The champion counts only for a training that begins with its weights."""
    return ("champion",) if settings.train.warm_start else ()


@stage("train", uses=_USES, by_task=True, version=4, pinned=_pinned)
def run(settings: Settings, inputs: Inputs, out: Output) -> Report:
    """Fine-tunes the base on the rows that *denoise* left: the folder `adapter/` and `training.json`, the loss by step
    and the dtype that the base was in.

    `adapter/golden.json` holds a few of the rows with the new adapter's p(yes): what every server is held to before it serves.

    How: `models.trainer`: LoRA on all seven projections, −log p of the answer at the last position, weighted by `weight`.
    Checkpoints lie in the scratch folder, so a training that was killed goes on from the last one and ends with the same bytes.
    With `train.warm_start` it begins with the weights of the champion that the run pinned, where that one's base, prompt, rank and
    alpha are this run's; where not, from nothing, and `start` in the report says why. With `train.tapt` it begins with the weights
    of a first training (`stages.train.tapt`), on rows or texts of the training side, which are no rows of this stage's report. With
    `train.shared` it has no task: the adapter is trained on the rows of every task, and each task evaluates and publishes it.
    What it does not do: look at dev rows, choose a threshold, stop early.
    Known limits: every GPU holds the whole model; a checkpoint is only found again on the machine that wrote it, elsewhere the
    training begins anew.
    """
    from relevance_core.models.trainer import Job, train
    from relevance_core.registry import golden

    task = inputs.task
    parts = [found.table("train") for name, found in inputs.artifacts.items() if name.startswith("denoise")]
    rows = pl.concat(parts).sort("pair_id")
    base, folder = open_base(inputs["base"], settings.base.dtype), out.work / "adapter"
    begun, start = _start(settings, inputs, base, out.store) if settings.train.warm_start else ("", None)
    say, tapt = partial(_say, out.say, label("train", task)), None
    if begun:
        say(f"begins {begun}")
    job = Job(base, prompt_from(settings), settings.train, settings.engine, settings.seed, out.work / "checkpoints", folder, start)
    if task is not None and settings.train.tapt != "off":
        begin, tapt = first_training(settings, task, inputs["translate"], job, say)
        job = replace(job, start=begin)
    result = train(rows, job, say)
    scorer = open_adapter(base, folder, job.prompt, trainers(settings)).scorer
    golden.write(folder, golden.choose(rows), scorer, out.say)
    out.folder("adapter", folder)
    out.json("training", result | {"dtype": scorer.dtype})
    figures = {name: result[name] for name in ("steps", "rows", "parameters", "final_loss")} | {"base": base.id}
    if begun:
        figures["start"] = begun
    if tapt:
        figures["tapt"] = tapt
    if task is None:
        figures["shared"] = {name: len(part) for (name,), part in rows.group_by("task", maintain_order=True)}
    dropped = len(rows) - result["rows"]
    return Report(
        Rows(len(rows), kept=result["rows"], dropped=dropped, reasons={"dropped: weight 0": dropped} if dropped else {}), figures
    )


def _say(say: Callable[[str], None], who: str, text: str) -> None:
    """Importable by name, since it goes along into the processes of a training on several GPUs."""
    say(f"{who}: {text}")


def _start(settings: Settings, inputs: Inputs, base: BaseRef, store: Store) -> tuple[str, Path | None]:
    """How a warm training begins, in words, and the folder of the adapter that it begins with; None for from nothing."""
    version = inputs.champion.get(inputs.task or "")
    if version is None:
        return "from nothing: no version of the task serves", None
    registry = Registry(store)
    champion = registry.manifest(str(inputs.task), version)
    differing = _differing(champion, settings, base)
    if differing:
        return f"from nothing: the champion {version} has another {differing}", None
    folder = registry.fetch(champion.task, version, scratch("cache") / "adapters" / version)
    return f"with the champion {version}", folder


def _differing(champion: Manifest, settings: Settings, base: BaseRef) -> str:
    """The first thing in which a version is not what this run trains; "" where its weights fit."""
    ours = {
        "base": (champion.base.id, champion.base.revision) == (base.id, base.revision),
        "prompt": prompt_of(champion.prompt) == prompt_from(settings),
        "rank": champion.lora.r == settings.train.r,
        "alpha": champion.lora.alpha == settings.train.alpha,
    }
    return next((name for name, same in ours.items() if not same), "")
