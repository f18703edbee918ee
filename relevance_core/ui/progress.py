"""The progress of a run, for its page and the page's script."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from relevance_core.config import Settings
from relevance_core.pairs import Task
from relevance_core.runs import approval, folder
from relevance_core.runs.approval import NEEDED, Approval
from relevance_core.runs.artifacts import Artifact, open_artifact
from relevance_core.runs.run import Run, open_run
from relevance_core.runs.steps import COMMON, PER_TASK, REPORT, TOGETHER, step_of
from relevance_core.store import Store

_STAGES: Final = (*COMMON, *PER_TASK, *TOGETHER, REPORT.name)


@dataclass(frozen=True)
class State:
    """The state of a run from one listing. digest: changes with the page; finished: stages as people name them, `mine QC`."""

    digest: str = ""
    finished: tuple[str, ...] = ()

    @classmethod
    def of(cls, store: Store, run_id: str) -> State:
        """Reads the state of a run; the empty state before it has begun, or for a name that no run can have."""
        records = folder.entries(store, run_id) if folder.NAME.fullmatch(run_id) else {}
        if folder.RUN not in records:
            return cls()
        seen = repr([(entry.key, entry.size, entry.tag) for entry in records.values()])
        found = [(name, task.upper()) for name, _, task in (record.partition("-") for record in records) if name in _STAGES]
        found.sort(key=lambda stage: (stage[0] in (*TOGETHER, REPORT.name), stage[1], _STAGES.index(stage[0])))
        return cls(hashlib.sha256(seen.encode()).hexdigest()[:16], tuple(f"{name} {task}".strip() for name, task in found))

    @property
    def begun(self) -> bool:
        """True once the run has begun."""
        return bool(self.digest)

    @property
    def over(self) -> bool:
        """True once the run has ended: its report is the last thing that it writes, whatever went wrong."""
        return "report" in self.finished

    def as_json(self) -> dict[str, Any]:
        """Returns the JSON that the page's script polls every few seconds."""
        return {"begun": self.begun, "over": self.over, "digest": self.digest, "finished": self.finished}


def opened(store: Store, run_id: str) -> Run:
    """Opens a run that has begun, for reading: no setting of this machine matters."""
    return open_run(store, run_id, Settings())


@dataclass(frozen=True)
class View:
    """A run so far. finished: the reports of the finished stages (`Run.finished`). plan: its lines."""

    run: Run
    finished: Mapping[str, Mapping[str, Any]]
    approvals: Mapping[Task, Approval]
    plan: tuple[str, ...]

    @classmethod
    def of(cls, store: Store, run_id: str) -> View:
        """Reads the view of a run that has begun."""
        run = opened(store, run_id)
        lines = folder.read(store, run_id, folder.PLAN)["text"] if folder.has(store, run_id, folder.PLAN) else ()
        return cls(run, run.finished(), approval.approvals(store, run_id), tuple(lines))

    @property
    def over(self) -> bool:
        """True once the run has ended: its report is the last thing that it writes, whatever went wrong."""
        return "report" in self.finished

    def outputs(self) -> dict[str, Artifact]:
        """Returns the outputs of the finished stages, unverified; leaves out those that are gone."""
        addresses = {name: report["address"] for name, report in self.finished.items() if name != "report"}
        with ThreadPoolExecutor() as pool:
            found = pool.map(lambda address: open_artifact(self.run.store, address, verify=False), addresses.values())
            return {name: artifact for name, artifact in zip(addresses, found, strict=True) if artifact is not None}

    def asks(self, task: Task) -> bool:
        """Tells whether the verdict needs a person's answer, given or not."""
        gate = self.finished.get(f"gate:{task}")
        return gate is not None and gate["figures"]["verdict"] == NEEDED

    def waits_for_person(self, task: Task) -> bool:
        """Tells whether a person's answer is needed now."""
        gate, ended = self.finished.get(f"gate:{task}"), "rollout" in self.finished or self.over
        return gate is not None and approval.waits(gate["figures"]["verdict"], "", self.approvals.get(task), ended)


@dataclass(frozen=True)
class Step:
    """A stage on the strip. state: done, failed, next (its inputs are there), waiting, or left where the run is over."""

    name: str
    state: str


def way(view: View) -> list[tuple[str, list[Step]]]:
    """Returns the stages in the rows of the strip: common ones, those of each task, and those after."""
    tasks = view.run.settings.tasks
    rows: list[tuple[str, list[Step]]] = [("rows", [_step(view, name, None) for name in COMMON])]
    rows += [(task, [*(_step(view, name, task) for name in PER_TASK), *_answer(view, task)]) for task in tasks]
    return [*rows, ("release", [_step(view, name, None) for name in (*TOGETHER, REPORT.name)])]


def _answer(view: View, task: Task) -> list[Step]:
    if not view.asks(task):
        return []
    return [Step("approval", "done" if task in view.approvals else "left" if view.over else "next")]


def _step(view: View, name: str, task: Task | None) -> Step:
    report = view.finished.get(f"{name}:{task}" if task else name)
    if report is not None:
        return Step(name, "failed" if report["failure"] else "done")
    if view.over:
        return Step(name, "left")
    return Step(name, "next" if _ready(view, name, task) else "waiting")


def _ready(view: View, name: str, task: Task | None) -> bool:
    """Tells whether all inputs of the stage are finished, and no answer is needed first."""
    if name == "report":
        return "rollout" in view.finished
    if name in TOGETHER and any(view.waits_for_person(task) for task in view.run.settings.tasks):
        return False
    tasks = [task] if task else view.run.settings.tasks
    needs = {f"{need}:{one}" if need in PER_TASK else need for need in step_of(name).needs.values() for one in tasks}
    return all(need in view.finished and not view.finished[need]["failure"] for need in needs)
