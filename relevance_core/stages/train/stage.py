"""*train*: trains the LoRA adapter of a task."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from relevance_core.config import Settings
from relevance_core.prompts import prompt_from
from relevance_core.runs.artifacts import Output, Report, Rows
from relevance_core.runs.stage import Inputs, stage
from relevance_core.scoring.bases import open_base
from relevance_core.scoring.opened import open_adapter, trainers
from relevance_core.stages.train.tapt import first_training

_USES: Final = ("train", "prompt", "base.model", "base.dtype", "seed")


@stage("train", uses=_USES, machine=("engine", "serving"), version=4)
def run(settings: Settings, inputs: Inputs, out: Output) -> Report:
    """Fine-tunes the base on the rows that *denoise* left.

    Leaves the folder `adapter/` and `training.json`: the loss by step and the base's dtype. `adapter/golden.json` holds a few of
    the rows with the new adapter's p(yes), which every server must reproduce before it serves the adapter.

    How: `models.trainer`: LoRA on all seven projections, −log p of the answer at the last position, weighted by `weight`.
    Checkpoints lie in the scratch folder, so a training that was killed goes on from the last one and ends with the same bytes.
    With `train.tapt` it begins with the weights of a first training (`stages.train.tapt`), on the other task's training rows,
    which this stage's report does not count.
    What it does not do: look at dev rows, choose a threshold, stop early.
    Known limits: every GPU holds the whole model; a checkpoint is only found again on the machine that wrote it, elsewhere the
    training begins anew.
    """
    from relevance_core.models.trainer import Job, train
    from relevance_core.registry import golden

    task = inputs.task
    rows = inputs["rows"].table("train").sort("pair_id")
    base, folder = open_base(inputs["base"], settings.base.dtype), out.work / "adapter"
    tapt = None
    job = Job(base, prompt_from(settings), settings.train, settings.engine, settings.seed, out.work / "checkpoints", folder)
    if task is not None and settings.train.tapt != "off":
        begin, tapt = first_training(settings, task, inputs["other_rows"], job)
        job = replace(job, start=begin)
    result = train(rows, job)
    scorer = open_adapter(base, folder, job.prompt, trainers(settings)).scorer
    golden.write(folder, golden.choose(rows), scorer)
    out.folder("adapter", folder)
    out.json("training", result | {"dtype": scorer.dtype})
    figures = {name: result[name] for name in ("steps", "rows", "parameters", "final_loss")} | {"base": base.id}
    if tapt:
        figures["tapt"] = tapt
    dropped = len(rows) - result["rows"]
    return Report(
        Rows(len(rows), kept=result["rows"], dropped=dropped, reasons={"dropped: weight 0": dropped} if dropped else {}), figures
    )
