"""*publish*: writes the adapter into the registry as an immutable version, if the gate lets it (contract 6)."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from relevance_core.config import Settings
from relevance_core.metrics import INTERVAL
from relevance_core.pairs import Task
from relevance_core.processes import PartLogger
from relevance_core.prompts import Prompt, prompt_from
from relevance_core.registry import AdapterMeta, BaseInfo, Manifest, PromptInfo, Registry
from relevance_core.registry.adapter_files import read_adapter
from relevance_core.registry.signing import Key
from relevance_core.runs.artifacts import Artifact, Output, Report, Rows
from relevance_core.runs.stage import Inputs, stage
from relevance_core.translators import memory_folder

log = PartLogger(logging.getLogger(__name__))


def _held(inputs: Inputs, found: Artifact) -> Report | None:
    """Lets a finished output stand while the version that it wrote is in the registry, undamaged."""
    figures, registry = found.report.figures, Registry(found.store)
    lacking = figures["published"] and registry.verify(str(inputs.task), figures["version"])
    return None if lacking else found.report


@stage(
    "publish",
    uses=("prompt", "base.model", "window"),
    machine=("serving.sign_key",),
    version=3,
    pinned=("champion", "onboarded"),
    held=_held,
)
def run(settings: Settings, inputs: Inputs, out: Output) -> Report:
    """Writes the version that the gate lets into the registry, and leaves `version.json`: its id, and the reason for the alias log.

    How: *publish* and *needs-approval* write the version; *hold* writes nothing and names the id that the version would have.
    *rollout*, or a person, decides later which version serves. Publishing is idempotent.
    What it does not do: judge, or move an alias.
    Known limits: a held adapter is kept in its *train* output only, where `relevance evaluate` does not look.
    """
    task = inputs.task
    assert task is not None  # noqa: S101 - a stage that runs per task is given its task
    adapter, verdict = inputs["adapter"].folder("adapter"), inputs["verdict"].json("verdict")
    meta = describe(settings, inputs)
    version = Manifest.build(task, *read_adapter(adapter, meta.base), meta).version
    published = verdict["verdict"] != "hold"
    if published:
        key = Key.load(Path(settings.serving.sign_key)) if settings.serving.sign_key else None
        Registry(out.store).publish(task, adapter, meta, sign=key)
    figures: dict[str, Any] = {"version": version, "published": published}
    log.info("%s, version %s%s", verdict["verdict"], version, "" if published else " not written")
    out.json("version", figures | {"task": task, "verdict": verdict["verdict"], "why": _why(task, inputs)})
    return Report(Rows(), figures)


def describe(settings: Settings, inputs: Inputs) -> AdapterMeta:
    """Returns the adapter's description for the registry: all that its scores depend on, and its measurements."""
    base, evaluate = inputs["base"].json("base"), inputs["evaluation"]
    languages = inputs["rows"].table("train", ["language"])["language"].unique().to_list()
    return AdapterMeta(
        base=BaseInfo(
            id=base["id"], revision=base["revision"], digest=base.get("digest", ""), uri=base["address"] or base["model"]
        ),
        dtype=inputs["adapter"].json("training")["dtype"],
        prompt=prompt_info(prompt_from(settings), inputs["translator"]),
        threshold=evaluate.report.figures["threshold"],
        languages=tuple(languages),
        onboarded=tuple(language for language in inputs.onboarded if language in languages),
        data={
            "train": inputs["rows"].files["train.parquet"]["sha256"],
            "dev": inputs["dev"].files["dev.parquet"]["sha256"],
        },
        metrics=dict(evaluate.report.figures),
        gate=inputs["verdict"].json("verdict"),
        created=settings.window.bounds()[1].isoformat(),
    )


def prompt_info(prompt: Prompt, translate: Artifact) -> PromptInfo:
    """Returns the registry's record of a prompt; for a prompt with the translation, with translator and translation memory."""
    info = PromptInfo(
        name=prompt.template,
        version=str(prompt.version),
        max_tokens=prompt.max_tokens,
        translation=prompt.translation,
        text_rule=prompt.text_rule,
    )
    if not prompt.translation:
        return info
    kept = translate.report.figures["translator"]
    name, version = kept["name"], kept["version"]
    return info.model_copy(update={"translator": f"{name}-{version}", "memory": memory_folder(name, version)})


def _why(task: Task, inputs: Inputs) -> str:
    """Returns the reason for the alias log, with its numbers."""
    gain, figures = inputs["verdict"].json("verdict")["gain"], inputs["evaluation"].report.figures
    told = f"{task} F1 {figures['f1']:.4f}, always yes {figures['always_yes_f1']:.4f}"
    if gain is None:
        return f"{told}; the first version"
    share = INTERVAL[1] - INTERVAL[0]
    return f"{told}; {gain['gain']:+.4f} over the champion ({share:.0f} % interval {gain['low']:+.4f} to {gain['high']:+.4f})"
