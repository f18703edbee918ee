"""A run: its pinned settings and champion, the inputs of each of its stages, and the stages finished so far."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self, cast

from relevance_core import config
from relevance_core.config import Settings
from relevance_core.errors import NotFound, SettingsError
from relevance_core.pairs import Task
from relevance_core.registry import Registry
from relevance_core.runs import approval, folder, review
from relevance_core.runs.approval import Question
from relevance_core.runs.artifacts import Artifact, Report, label, open_artifact
from relevance_core.runs.folder import stage_record
from relevance_core.runs.stage import Inputs
from relevance_core.runs.steps import COMMON, PER_TASK, REPORT, TOGETHER, step_of
from relevance_core.store import Store


@dataclass(frozen=True)
class Run:
    """One run of the loop in a store.

    Attributes:
        champion: task → the version that served when the run began.
        onboarded: the languages onboarded before the run, and those that it onboards.
        decisions: names of the objects that held people's decisions about labels when the run began.
        dag_run: Airflow's name of the run; empty for a run from the command line.
        lost: removed settings, with their values, without which its stages can't be run as they were meant (`config.lost`).
    """

    store: Store
    run_id: str
    settings: Settings
    champion: Mapping[str, str]
    onboarded: tuple[str, ...]
    decisions: tuple[str, ...] = ()
    dag_run: str = ""
    lost: tuple[str, ...] = ()

    @classmethod
    def of_record(cls, store: Store, run_id: str, settings: Settings, record: Mapping[str, Any]) -> Self:
        """Builds a run from its record. record: by `folder.read_run`. settings: the record's, with this machine's."""
        return cls(
            store,
            run_id,
            settings,
            record["champion"],
            tuple(record["onboarded"]),
            tuple(record.get("decisions", ())),
            record["dag_run"],
            config.lost(record["settings"]),
        )

    def inputs(self, name: str, task: Task | None) -> Inputs:
        """Returns the inputs of a stage. Raises NotFound for an output that does not exist yet, is damaged or gone."""
        step, answers = step_of(name), {}
        if step is REPORT:
            found = self.outputs()
        elif name in TOGETHER:
            found = {f"{role}:{of}": artifact for role, stage in step.needs.items() for of, artifact in self._of_tasks(stage)}
            answers = approval.approvals(self.store, self.run_id)
        else:
            found = {role: self._need(stage, task) for role, stage in step.inputs(self.settings).items()}
        return Inputs(found, task, self.champion, self.onboarded, answers, self.decisions, name)

    def keep(self, report: Report) -> None:
        """Writes the record of a finished stage."""
        folder.write(self.store, self.run_id, stage_record(report.stage, report.task), report.as_json())

    def artifact(self, name: str, task: Task | None = None, verify: bool = True) -> Artifact:
        """Returns the output of a stage that this run has finished. verify: see `open_artifact`. Raises NotFound."""
        where = self.store.uri_of(folder.key_of(self.run_id, stage_record(name, task)))
        if not self.has(name, task):
            raise NotFound(f"run {self.run_id} has no {label(name, task)}", where=where, do=f"run `relevance stage {name}` first")
        found = self.found(name, task, verify)
        if found is None:
            raise NotFound(
                f"the output of {label(name, task)} is damaged or gone", where=where, do=f"run `relevance stage {name}` again"
            )
        return found

    def has(self, name: str, task: Task | None = None) -> bool:
        """Tells whether the run has the record of a stage."""
        return folder.has(self.store, self.run_id, stage_record(name, task))

    def found(self, name: str, task: Task | None = None, verify: bool = True) -> Artifact | None:
        """Returns the recorded output of a stage, or None where it is damaged or gone."""
        return open_artifact(self.store, folder.read(self.store, self.run_id, stage_record(name, task))["address"], verify)

    def question(self, task: Task) -> Question | None:
        """Returns the question for a person about the task's version; None where the verdict needs nobody or an answer exists."""
        verdict = self.artifact("gate", task).json("verdict")
        version = self.artifact("publish", task).json("version")["version"]
        if not approval.waits(verdict["verdict"], version, approval.approvals(self.store, self.run_id).get(task)):
            return None
        metrics = self.artifact("evaluate", task).json("metrics")
        return approval.question(task, version, verdict, metrics, self.settings.approval.hours)

    @property
    def steps(self) -> list[tuple[str, Task | None]]:
        """Every stage of this run with its task, in the order of the flat twin, without *report*."""
        found: list[tuple[str, Task | None]] = [(name, None) for name in COMMON]
        found += [(name, task) for task in self.settings.tasks for name in PER_TASK]
        return found + [(name, None) for name in TOGETHER]

    def finished(self) -> dict[str, dict[str, Any]]:
        """Returns the report (`Report.as_json`) of every stage finished so far, under `mine` or, for a task's stage, `mine:QC`."""
        present = folder.entries(self.store, self.run_id)
        records = {
            f"{name}:{task}" if task else name: stage_record(name, task) for name, task in [*self.steps, (REPORT.name, None)]
        }
        there = {name: folder.key_of(self.run_id, record) for name, record in records.items() if record in present}
        with ThreadPoolExecutor() as pool:
            return dict(zip(there, map(json.loads, pool.map(self.store.read, there.values())), strict=True))

    def outputs(self) -> dict[str, Artifact]:
        """Returns every output so far, under `mine` or, for a task's stage, `mine:QC`."""
        present = [(name, task) for name, task in self.steps if self.has(name, task)]
        return {f"{name}:{task}" if task else name: self.artifact(name, task) for name, task in present}

    def _of_tasks(self, stage: str) -> list[tuple[Task, Artifact]]:
        return [(task, self.artifact(stage, task)) for task in self.settings.tasks if self.has(stage, task)]

    def _need(self, stage: str, task: Task | None) -> Artifact:
        return self.artifact(stage, task if stage in PER_TASK else None)


def pin(settings: Settings, store: Store, run_id: str, dag_run: str = "") -> Run:
    """Begins a run, or finds it again: what it pinned the first time holds.

    Args:
        settings: the run's; a later call may change only those of the machine.
        store: holds the run's folder and outputs.
        run_id: its name in the store.
        dag_run: Airflow's name of the run, kept for people.

    Raises:
        SettingsError: the id can't name a run, or the run was begun with other settings.
    """
    if not folder.NAME.fullmatch(run_id):
        raise SettingsError(
            f"{run_id!r} can't name a run",
            where="--run-id, --run",
            expected="up to 200 letters, digits and signs of _ . + : = @ ~ - and the blank, a letter or digit first",
        )
    values = _values(settings)
    record = folder.find_run(store, run_id)
    if record is None:
        champion, onboarded = _champion(store)
        pinned = {
            "settings": values,
            "champion": champion,
            "onboarded": sorted(onboarded | set(settings.onboard)),
            "dag_run": dag_run,
        }
        if decisions := review.names(store):
            pinned["decisions"] = decisions
        folder.create(store, run_id, folder.RUN, pinned)
        record = folder.read_run(store, run_id)  # another process may have begun the run first
    # A setting that the record lacks is newer than the record: its default was in force.
    begun = _values(config.of_record(record["settings"]))
    if begun != values:
        changed = sorted(name for name in values if begun[name] != values[name])
        raise SettingsError(
            f"run {run_id} was begun with other settings", where=", ".join(changed), do="take another run id, or the run's settings"
        )
    return Run.of_record(store, run_id, settings, record)


def open_run(store: Store, run_id: str, here: Settings) -> Run:
    """A run that was begun before, with its own settings; only those of the machine (`engine`, `serving`, the database's URL) are
    `here`'s.

    Raises NotFound that names the newest runs.
    """
    machine = {"engine": here.engine.model_dump(), "serving": here.serving.model_dump()}
    record = folder.read_run(store, run_id)
    values = config.merge(record["settings"], {"source": {"connection": here.source.connection}}) | machine
    return Run.of_record(store, run_id, config.of_record(values), record)


def identity(settings: Settings) -> str:
    """Returns the settings that determine a run's results, as one text."""
    return json.dumps(_values(settings), sort_keys=True)


def _values(settings: Settings) -> dict[str, Any]:
    return settings.model_dump(mode="json", exclude={"engine", "serving"})


def _champion(store: Store) -> tuple[dict[str, str], set[str]]:
    """Returns the version that serves each task now, and every language that those versions were onboarded for."""
    registry = Registry(store)
    release = registry.current()
    versions = dict(release.versions) if release else {}
    manifests = [registry.resolve(cast(Task, task), version) for task, version in versions.items()]
    return versions, {language for manifest in manifests for language in manifest.onboarded}
