"""The loop: which stage follows which, what a run pins when it begins, and how a stage finds what it reads.

A run is a folder `runs/<run id>/` in the store: `run.json` (settings, the champion and the onboarded languages when it began) and
one small file a stage that holds its report and the address of its output. The DAG runs `Run.stage` once a task, by the command
`relevance stage NAME`; `retrain` below is its flat twin.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from relevance_core import config
from relevance_core.config import Settings
from relevance_core.engine import cores, map_processes
from relevance_core.errors import NotFound, RelevanceError, SettingsError, ValidationFailed
from relevance_core.pairs import Task
from relevance_core.stages.base import Artifact, Inputs, Report, label, open_artifact, print_nothing
from relevance_core.stages.base import Run as StageFunction
from relevance_core.store import Registry, Store, open_store

COMMON: Final = ("ingest", "validate", "split", "translate", "base")
"""Stages that run once, in their order."""

BY_TASK: Final = ("mine", "denoise", "train", "evaluate", "gate", "publish")
"""Stages that run once for each of QC and QI, in their order."""

TOGETHER: Final = ("rollout",)
"""Stages that run once after those of all tasks, with what these have finished."""

NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "ingest": (),
    "validate": ("ingest",),
    "split": ("validate",),
    "translate": ("ingest", "split"),
    "base": ("ingest", "translate"),
    "mine": ("ingest", "translate"),
    "denoise": ("base", "mine"),
    "train": ("base", "denoise"),
    "evaluate": ("base", "train", "translate"),
    "gate": ("evaluate", "translate"),
    "publish": ("base", "train", "evaluate", "gate", "translate", "denoise"),
    "rollout": ("publish",),
}
"""What each stage reads. *report* reads whatever is there."""

MODULES: Final = {"base": "base_model"}
"""Stages whose module has another name than theirs."""

Say = Callable[[str], None]


def stage_function(name: str) -> StageFunction:
    """The `run` of a stage. Raises SettingsError for a name that is none."""
    if name not in NEEDS and name != "report":
        raise SettingsError(f"no stage {name!r}", expected=", ".join([*NEEDS, "report"]))
    return cast(StageFunction, importlib.import_module(f"relevance_core.stages.{MODULES.get(name, name)}").run)


@dataclass(frozen=True)
class Run:
    """One run of the loop in a store."""

    store: Store
    run_id: str
    settings: Settings
    champion: Mapping[str, str]
    onboarded: tuple[str, ...]
    say: Say = print_nothing

    def stage(self, name: str, task: Task | None = None) -> Report:
        """Runs one stage, or finds its finished output, and records it in the run.

        Raises what the stage raises, and ValidationFailed for an output that says the run can't go on.
        """
        if (name in BY_TASK) != (task is not None):
            raise SettingsError(f"stage {name} {'needs a task' if task is None else 'takes no task'}", where="--task")
        report = stage_function(name)(self.settings, self._inputs(name, task), self.store, say=self.say)
        self.store.write(self._ref(name, task), json.dumps(report.as_json(), sort_keys=True).encode())
        if report.failure:
            raise ValidationFailed(**report.failure)
        return report

    def artifact(self, name: str, task: Task | None = None) -> Artifact:
        """The output of a stage that this run has finished. Raises NotFound."""
        ref = self._ref(name, task)
        where = self.store.uri_of(ref)
        if not self.store.exists(ref):
            raise NotFound(f"run {self.run_id} has no {label(name, task)}", where=where, do=f"run `relevance stage {name}` first")
        found = open_artifact(self.store, json.loads(self.store.read(ref))["address"])
        if found is None:
            raise NotFound(
                f"the output of {label(name, task)} is damaged or gone", where=where, do=f"run `relevance stage {name}` again"
            )
        return found

    def _inputs(self, name: str, task: Task | None) -> Inputs:
        if name == "report":
            artifacts = self._everything()
        elif name in TOGETHER:
            artifacts = {key: found for key, found in self._everything().items() if key.partition(":")[0] in NEEDS[name]}
        else:
            artifacts = {need: self._need(need, task) for need in NEEDS[name]}
        return Inputs(artifacts, task, self.champion, self.onboarded)

    def _need(self, need: str, task: Task | None) -> Artifact:
        return self.artifact(need, task if need in BY_TASK else None)

    def _everything(self) -> dict[str, Artifact]:
        """Every output that the run has by now, `mine:QC` for that of a task."""
        wanted: list[tuple[str, Task | None]] = [(name, None) for name in COMMON]
        wanted += [(name, task) for task in self.settings.tasks for name in BY_TASK]
        wanted += [(name, None) for name in TOGETHER]
        present = [(name, task) for name, task in wanted if self.store.exists(self._ref(name, task))]
        return {f"{name}:{task}" if task else name: self.artifact(name, task) for name, task in present}

    def _ref(self, name: str, task: Task | None) -> str:
        return f"runs/{self.run_id}/{name}{'-' + task.lower() if task else ''}.json"


def begin(settings: Settings, store: Store, run_id: str = "", say: Say = print_nothing) -> Run:
    """Begins a run, or finds it again: what it pinned the first time holds.

    run_id: default, a digest of the settings and the source's content, so that the same inputs are the same run. Raises
    SettingsError for a run that was begun with other settings.
    """
    run_id = run_id or default_run_id(settings)
    values = settings.model_dump(mode="json", exclude={"engine", "serving"})
    key = f"runs/{run_id}/run.json"
    if not store.exists(key):
        champion, onboarded = _champion(store)
        record = {"settings": values, "champion": champion, "onboarded": sorted(onboarded | set(settings.onboard))}
        store.create(key, json.dumps(record, indent=1, sort_keys=True).encode())
    record = json.loads(store.read(key))
    if record["settings"] != values:
        changed = sorted(name for name in values if record["settings"].get(name) != values[name])
        raise SettingsError(
            f"run {run_id} was begun with other settings", where=", ".join(changed), do="take another run id, or the run's settings"
        )
    return Run(store, run_id, settings, record["champion"], tuple(record["onboarded"]), say)


def open_run(store: Store, run_id: str, here: Settings, say: Say = print_nothing) -> Run:
    """A run that was begun before, with its own settings; only those of the machine (`engine`, `serving`, the database's URL) are
    `here`'s.

    Raises NotFound that names the newest runs.
    """
    key = f"runs/{run_id}/run.json"
    if not store.exists(key):
        known = [entry.key.split("/")[1] for entry in store.list("runs/") if entry.key.endswith("/run.json")]
        raise NotFound(f"no run {run_id!r}", where=store.uri, expected=", ".join(known[-5:]) or "a run: this store has none yet")
    machine = {"engine": here.engine.model_dump(), "serving": here.serving.model_dump()}
    values = json.loads(store.read(key))["settings"] | machine
    values["source"]["connection"] = here.source.connection
    return begin(config.build(values), store, run_id, say)


def default_run_id(settings: Settings) -> str:
    """`<window end>-<digest of settings and source>`."""
    from relevance_core.stages.ingest import fingerprint

    values = json.dumps(settings.model_dump(mode="json", exclude={"engine", "serving"}), sort_keys=True)
    what = hashlib.sha256(f"{values}\n{fingerprint(settings)}".encode()).hexdigest()[:8]
    return f"{settings.window.bounds()[1]:%Y-%m-%d}-{what}"


def retrain(settings: Settings, store: Store, run_id: str = "", dry_run: bool = False, say: Say = print_nothing) -> dict[str, Any]:
    """The whole loop on one machine: the flat twin of the DAG `relevance_retrain`.

    dry_run: stops before a model is built or trained. Returns what `relevance retrain --json` prints. Raises the first stage's
    error, after the report of what there is.
    """
    started = time.monotonic()
    run = begin(settings, store, run_id, say)
    say(f"run {run.run_id} in {store.uri}")
    try:
        run.stage("ingest")
        run.stage("validate")
        run.stage("split")
        run.stage("translate")
        if not dry_run:
            run.stage("base")
            here = settings.model_copy(update={"engine": _share(settings.engine, len(settings.tasks))})
            work = [(store.uri, run.run_id, task, here, say) for task in settings.tasks]
            map_processes(_retrain_task, work, settings.engine.workers)
            run.stage("rollout")
    except RelevanceError:
        run.stage("report")
        raise
    run.stage("report")
    return summary(run) | {"seconds": round(time.monotonic() - started, 1)}


def _retrain_task(work: tuple[str, str, Task, Settings, Say]) -> None:
    """The stages of one task, in a process of its own when there are two tasks."""
    uri, run_id, task, settings, say = work
    run = open_run(open_store(uri), run_id, settings, say)
    run.stage("mine", task)
    run.stage("denoise", task)
    run.stage("train", task)
    run.stage("evaluate", task)
    run.stage("gate", task)
    run.stage("publish", task)


def _share(engine: config.EngineSettings, tasks: int) -> config.EngineSettings:
    """Each task's share of the machine's processes, so that tasks side by side do not start more than it has cores."""
    return engine.model_copy(update={"workers": max(1, (engine.workers or cores()) // tasks)})


def summary(run: Run) -> dict[str, Any]:
    """The result of a run as far as it is: verdicts and figures by task, rows by stage."""
    everything = run._everything()
    tasks = {}
    for task in run.settings.tasks:
        if f"publish:{task}" in everything:
            figures = everything[f"evaluate:{task}"].report.figures
            verdict = everything[f"gate:{task}"].report.figures["verdict"]
            published = everything[f"publish:{task}"].report.figures
            tasks[task] = {"verdict": verdict} | dict(published) | _served(everything, task) | dict(figures)
    rows: dict[str, dict[str, int]] = {}
    for name, artifact in everything.items():
        total = rows.setdefault(name.partition(":")[0], {})
        for what, number in artifact.report.rows.as_json().items():
            if what != "reasons":
                total[what] = total.get(what, 0) + number
    report = run.artifact("report") if run.store.exists(run._ref("report", None)) else None
    return {
        "run_id": run.run_id,
        "tasks": tasks,
        "rows": rows,
        "report": run.store.uri_of(report.key("report.html")) if report else None,
    }


def _served(everything: Mapping[str, Artifact], task: Task) -> dict[str, Any]:
    """Whether the task's version of this run serves, and since which release."""
    tasks = everything["rollout"].report.figures["tasks"] if "rollout" in everything else {}
    return {name: tasks.get(task, {}).get(name, default) for name, default in (("promoted", False), ("number", None))}


def _champion(store: Store) -> tuple[dict[str, str], set[str]]:
    """The version that serves each task now, and every language that those versions were onboarded for."""
    registry = Registry(store)
    release = registry.current()
    versions = dict(release.versions) if release else {}
    manifests = [registry.resolve(cast(Task, task), version) for task, version in versions.items()]
    return versions, {language for manifest in manifests for language in manifest.onboarded}
