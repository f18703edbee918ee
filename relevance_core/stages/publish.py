"""*publish*: the adapter becomes an immutable version of the registry, and serves if the gate says so (contract 6)."""

from __future__ import annotations

from typing import Any

from relevance_core.config import Settings
from relevance_core.metrics import INTERVAL
from relevance_core.pairs import Task
from relevance_core.prompts import Prompt, prompt_from
from relevance_core.stages.base import Artifact, Inputs, Output, Report, Rows, stage
from relevance_core.store import AdapterMeta, BaseInfo, Manifest, PromptInfo, Registry, Release
from relevance_core.store.adapter_files import read_adapter

WHO = "gate"


@stage("publish", uses=("prompt", "base.model", "window"), by_task=True, pinned=("champion", "onboarded"))
def run(settings: Settings, inputs: Inputs, out: Output) -> Report:
    """Does what the gate decided and leaves `release.json`: the version, whether it serves, and since which release.

    How: *publish* writes the version and moves the alias, provided that the champion is still the one that the gate knew;
    *needs-approval* writes the version and leaves the alias to a person; *hold* writes nothing into the registry, and names the
    version that would have been. Everything it does may be done twice, so a run that was killed here just does it again. The two
    tasks may do it at the same moment.
    What it does not do: judge, or move an alias that somebody else moved meanwhile (Conflict; run the loop again).
    Known limits: a held adapter is kept in its *train* output only, where `relevance evaluate` does not look.
    """
    task = inputs.task
    assert task is not None  # noqa: S101 - by_task
    adapter, verdict = inputs["train"].folder("adapter"), inputs["gate"].json("verdict")
    meta, registry = describe(settings, inputs), Registry(out.store)
    version = Manifest.build(task, *read_adapter(adapter, meta.base), meta).version
    release = None
    if verdict["verdict"] != "hold":
        registry.publish(task, adapter, meta)
    if verdict["verdict"] == "publish":
        promoted = registry.promote({task: version}, who=WHO, why=_why(task, inputs), expect={task: inputs.champion.get(task)})
        release = since(registry, promoted, task)
    figures: dict[str, Any] = {"version": version, "promoted": release is not None, "number": release.number if release else None}
    out.say(
        f"publish {task}: {verdict['verdict']}, version {version}" + (f" serves since release {release.number}" if release else "")
    )
    out.json("release", figures | {"task": task, "verdict": verdict["verdict"]})
    return Report(Rows(), figures)


def describe(settings: Settings, inputs: Inputs) -> AdapterMeta:
    """What the registry is told about the adapter: all that decides its scores, and what was measured."""
    base, evaluate, translate = inputs["base"].json("base"), inputs["evaluate"], inputs["translate"]
    languages = inputs["denoise"].table("train", ["language"])["language"].unique().to_list()
    return AdapterMeta(
        base=BaseInfo(id=base["id"], revision=base["revision"], uri=base["address"] or base["model"]),
        prompt=prompt_info(prompt_from(settings), translate),
        threshold=evaluate.report.figures["threshold"],
        languages=tuple(languages),
        onboarded=tuple(language for language in inputs.onboarded if language in languages),
        data={
            "train": inputs["denoise"].files["train.parquet"]["sha256"],
            "dev": translate.files["dev.parquet"]["sha256"],
        },
        metrics=dict(evaluate.report.figures),
        gate=inputs["gate"].json("verdict"),
        created=settings.window.bounds()[1].isoformat(),
    )


def prompt_info(prompt: Prompt, translate: Artifact) -> PromptInfo:
    """How the registry records a prompt; with the translation in it, by which translator and from which memory."""
    info = PromptInfo(
        name=prompt.template, version=str(prompt.version), max_tokens=prompt.max_tokens, translation=prompt.translation
    )
    if not prompt.translation:
        return info
    reference = translate.report.figures["translator"]
    translator = f"{reference['name']}-{reference['version']}"
    return info.model_copy(update={"translator": translator, "memory": f"memory/{translator}"})


def since(registry: Registry, release: Release, task: Task) -> Release:
    """The release from which on the task has served what it serves at `release`; the other task may have moved since."""
    while release.previous is not None:
        before = registry.release(release.previous)
        if before.versions.get(task) != release.versions[task]:
            break
        release = before
    return release


def _why(task: Task, inputs: Inputs) -> str:
    """The reason in the alias log, with its numbers."""
    gain, figures = inputs["gate"].json("verdict")["gain"], inputs["evaluate"].report.figures
    told = f"{task} F1 {figures['f1']:.4f}, always yes {figures['always_yes_f1']:.4f}"
    if gain is None:
        return f"{told}; the first version"
    share = INTERVAL[1] - INTERVAL[0]
    return f"{told}; {gain['gain']:+.4f} over the champion ({share:.0f} % interval {gain['low']:+.4f} to {gain['high']:+.4f})"
