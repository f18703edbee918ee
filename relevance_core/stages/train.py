"""*train*: the LoRA adapter of a task."""

from __future__ import annotations

from relevance_core.config import Settings
from relevance_core.prompts import prompt_from
from relevance_core.stages.base import Inputs, Output, Report, Rows, stage
from relevance_core.stages.bases import open_base


@stage("train", uses=("train", "prompt", "base.model", "base.dtype", "seed"), by_task=True, version=3)
def run(settings: Settings, inputs: Inputs, out: Output) -> Report:
    """Fine-tunes the base on the rows that *denoise* left: the folder `adapter/` and `training.json`, the loss by step.

    `adapter/golden.json` holds a few of the rows with the new adapter's p(yes): what every server is held to before it serves.

    How: `models.trainer`: LoRA on all seven projections, −log p of the answer at the last position, weighted by `weight`.
    Checkpoints lie in the scratch folder, so a training that was killed goes on from the last one and ends with the same bytes.
    What it does not do: look at dev rows, choose a threshold, stop early.
    Known limits: one device; a checkpoint is only found again on the machine that wrote it, elsewhere the training begins anew.
    """
    from relevance_core import golden
    from relevance_core.models.scorer import Scorer
    from relevance_core.models.trainer import Job, train

    rows = inputs["denoise"].table("train").sort("pair_id")
    base, folder = open_base(inputs["base"], settings.base.dtype), out.work / "adapter"
    job = Job(base, prompt_from(settings), settings.train, settings.engine, settings.seed, out.work / "checkpoints", folder)
    result = train(rows, job, lambda text: out.say(f"train {inputs.task}: {text}"))
    scorer = Scorer(base.source, folder, job.prompt, settings.engine, revision=base.revision, dtype=base.dtype)
    golden.write(folder, golden.choose(rows), scorer, out.say)
    out.folder("adapter", folder)
    out.json("training", result)
    figures = {name: result[name] for name in ("steps", "rows", "parameters", "final_loss")} | {"base": base.id}
    dropped = len(rows) - result["rows"]
    return Report(
        Rows(len(rows), kept=result["rows"], dropped=dropped, reasons={"dropped: weight 0": dropped} if dropped else {}), figures
    )
