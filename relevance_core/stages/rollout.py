"""*rollout*: proves that published versions can be served, then moves the alias for all tasks at once (contract 6)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from relevance_core.config import Settings
from relevance_core.pairs import Task
from relevance_core.processes import PartLogger
from relevance_core.registry import Registry, Release
from relevance_core.runs.approval import NEEDED, Approval
from relevance_core.runs.artifacts import Artifact, Output, Report, Rows
from relevance_core.runs.stage import Inputs, stage
from relevance_core.serving.rollout import Proof, bases_after, roll_out

log = PartLogger(logging.getLogger(__name__))

WHO: Final = "gate"


def _held(inputs: Inputs, found: Artifact) -> Report | None:
    """Returns a finished output as it is true now: `promoted` and `number` stay what happened, `serves` is read from the registry.

    None, for another try, only where versions waited and the champions are still those that the gate knew: finding an old output
    never moves an alias back, and never fails because somebody else has moved it.
    """
    tasks = found.report.figures["tasks"]
    current = Registry(found.store).current()
    serving = current.versions if current else {}
    waited = tasks and not any(about["promoted"] for about in tasks.values())
    if waited and all(serving.get(task) == inputs.champion.get(task) for task in tasks):
        return None
    now = {task: about | {"serves": serving.get(task) == about["version"]} for task, about in tasks.items()}
    return replace(found.report, figures={**found.report.figures, "tasks": now})


@stage("rollout", uses=("serving.mixed_bases",), machine=("engine", "serving"), pinned=("champion", "approvals"), held=_held)
def run(settings: Settings, inputs: Inputs, out: Output) -> Report:
    """Promotes the versions with the verdict *publish*, and those with *needs-approval* that a person has approved.

    Leaves `rollout.json`: the release, and the proof of each version.

    How: `serving.rollout`: every version answers its golden pairs on every server of its base, in a vLLM of its own where there is
    no server, or in the trainer's scorer where there is no vLLM; then one entry of the alias log lets all of them serve, provided
    that the champions are still those that the gate knew. Tasks stay on one base: where a release would have two, a new version
    waits until the other task's is there too (`serving.mixed_bases` allows two bases).
    What it does not do: judge, or move an alias that somebody else moved meanwhile (Conflict; run the loop again).
    Known limits: a waiting version is not retried by itself; a later night, or `relevance registry promote`, lets it serve.
    """
    candidates = _candidates(inputs)
    answers = {asked: {"approved": answer.approved, "told": answer.told()} for asked, answer in sorted(inputs.approvals.items())}
    for asked, answer in answers.items():
        log.info("%s was %s", asked, answer["told"])
    registry = Registry(out.store)
    versions: dict[str, str] = {task: found["version"] for task, found in candidates.items()}
    waits = _waits(registry, versions) if versions and not settings.serving.mixed_bases else ""
    release: Release | None = None
    proofs: list[Proof] = []
    if versions and not waits:
        why = "; ".join(found["why"] for found in candidates.values())
        expect = _expected(registry, versions, inputs)
        release, proofs = roll_out(
            registry, versions, lambda: registry.promote(versions, who=WHO, why=why, expect=expect), settings
        )
    figures: dict[str, Any] = {"waits": waits, "proofs": [proof.as_json() for proof in proofs], "tasks": {}, "answers": answers}
    for task, version in versions.items():
        promoted = release is not None
        figures["tasks"][task] = {"version": version, "promoted": promoted, "serves": promoted}
        figures["tasks"][task]["number"] = since(registry, release, task).number if release else None
    log.info("%s", _told(release, waits))
    out.json("rollout", figures)
    return Report(Rows(), figures)


def _expected(registry: Registry, versions: dict[str, str], inputs: Inputs) -> dict[str, str | None]:
    """Returns the champions that the gate knew; for a version that serves already, as after a late approval, the version itself."""
    current = registry.current()
    serving = current.versions if current else {}
    return {task: version if serving.get(task) == version else inputs.champion.get(task) for task, version in versions.items()}


def _candidates(inputs: Inputs) -> dict[Task, dict[str, Any]]:
    """Returns the versions to promote by task: the `version.json` of each *publish* that the gate or a person lets through."""
    candidates: dict[Task, dict[str, Any]] = {}
    for artifact in inputs.artifacts.values():
        task, about = artifact.report.task, artifact.json("version")
        answer = inputs.approvals.get(task) if task else None
        if task and about["verdict"] == "publish":
            candidates[task] = about
        elif task and answer and _lets(answer, about):
            candidates[task] = about | {"why": f"{about['why']}; {answer.told()}"}
    return dict(sorted(candidates.items()))


def _lets(answer: Approval, about: Mapping[str, Any]) -> bool:
    """Tells whether an answer lets this version serve: the gate asked for it, and the answer approves this very version."""
    return about["verdict"] == NEEDED and answer.approved and answer.version == about["version"]


def _waits(registry: Registry, versions: dict[str, str]) -> str:
    """Returns the reason why these versions have to wait: the release would stand on two bases. Empty when it would not."""
    bases = bases_after(registry, versions)
    if len(set(bases.values())) < 2:
        return ""
    standing = ", ".join(f"{task} on {base}" for task, base in sorted(bases.items()))
    return f"the tasks would stand on different bases ({standing}); they move together, or with serving.mixed_bases"


def _told(release: Release | None, waits: str) -> str:
    if release is not None:
        versions = " ".join(f"{task}={version}" for task, version in sorted(release.versions.items()))
        return f"release {release.number} serves: {versions}"
    return waits or "nothing to let serve; what served goes on"


def since(registry: Registry, release: Release, task: str) -> Release:
    """Returns the release since which the task has served its version of `release`; other tasks may have moved later."""
    while release.previous is not None:
        before = registry.release(release.previous)
        if before.versions.get(task) != release.versions[task]:
            break
        release = before
    return release
