"""The loop: which stage follows which, what a run pins when it begins, and how a stage finds what it reads.

A run is a folder `runs/<run id>/` in the store: `run.json` (settings, the champion, the onboarded languages and the decisions on
labels when it began), `plan.json` (what it then meant to do), what people have answered, and one small file a stage that holds its
report and the address of its output. The DAG runs `Run.stage` once a task, by the command `relevance stage NAME`; `retrain` below
is its flat twin.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final, cast

from relevance_core import config
from relevance_core.config import Settings
from relevance_core.errors import NotFound, RelevanceError, SettingsError, ValidationFailed
from relevance_core.pairs import Task
from relevance_core.processes import cores, map_processes
from relevance_core.registry import Registry
from relevance_core.runs import approval, review
from relevance_core.runs.approval import Approval, Question
from relevance_core.runs.stage import Artifact, Inputs, Report, label, open_artifact, print_nothing
from relevance_core.runs.stage import Run as StageFunction
from relevance_core.store import Store, open_store

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
"""What each stage reads, whatever the settings. *report* reads whatever is there."""

Say = Callable[[str], None]


def needs(name: str, settings: Settings) -> tuple[str, ...]:
    """What a stage reads in a run with these settings: NEEDS, and what a strategy asks for besides.

    That is always finished before the stage begins, so that the DAG's arrows are the same whatever the settings.
    """
    more = {
        "train": ("translate",) if settings.train.tapt != "off" else (),
    }
    return (*NEEDS[name], *more.get(name, ()))


def stage_function(name: str) -> StageFunction:
    """The `run` of a stage. Raises SettingsError for a name that is none."""
    if name not in NEEDS and name != "report":
        raise SettingsError(f"no stage {name!r}", expected=", ".join([*NEEDS, "report"]))
    return cast(StageFunction, importlib.import_module(f"relevance_core.stages.{name}").run)


@dataclass(frozen=True)
class Run:
    """One run of the loop in a store."""

    store: Store
    run_id: str
    settings: Settings
    champion: Mapping[str, str]
    onboarded: tuple[str, ...]
    say: Say = print_nothing
    decisions: tuple[str, ...] = ()

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

    def artifact(self, name: str, task: Task | None = None, verify: bool = True) -> Artifact:
        """The output of a stage that this run has finished. verify: as of `open_artifact`. Raises NotFound."""
        ref = self._ref(name, task)
        where = self.store.uri_of(ref)
        if not self.store.exists(ref):
            raise NotFound(f"run {self.run_id} has no {label(name, task)}", where=where, do=f"run `relevance stage {name}` first")
        found = self._found(name, task, verify)
        if found is None:
            raise NotFound(
                f"the output of {label(name, task)} is damaged or gone", where=where, do=f"run `relevance stage {name}` again"
            )
        return found

    def _found(self, name: str, task: Task | None = None, verify: bool = True) -> Artifact | None:
        """The output of a stage that this run has recorded, or None where it is damaged or gone."""
        return open_artifact(self.store, json.loads(self.store.read(self._ref(name, task)))["address"], verify)

    def plan(self) -> dict[str, Any]:
        """What the run will do for the languages that come in (`relevance_core.plan`), reckoned when it is first asked for.

        Kept as `plan.json` of the run. Says it too.
        """
        from relevance_core.plan import forecast, unknown
        from relevance_core.sources import open_source
        from relevance_core.stages.translate.stage import translator_beside

        key = f"runs/{self.run_id}/plan.json"
        if not self.store.exists(key):
            made = unknown(self.settings, self.onboarded)
            if earlier := self._earlier():
                try:
                    translator = translator_beside(self.settings, open_source(self.settings))
                    made = forecast(self.settings, self.onboarded, self._served(), *earlier, translator)
                except (RelevanceError, ValueError, EOFError, OSError) as error:  # a forecast must not fail a run
                    self.say(f"plan: run {earlier[0]} can't be reckoned with: {error}")
            self.store.create(key, json.dumps(made, indent=1, sort_keys=True).encode())
        plan: dict[str, Any] = json.loads(self.store.read(key))
        for line in plan["text"]:
            self.say(f"plan: {line}")
        return plan

    def question(self, task: Task) -> Question | None:
        """What a person has to be asked about the task's version; None where the verdict asks nobody, or somebody has answered."""
        verdict = self.artifact("gate", task).json("verdict")
        version = self.artifact("publish", task).json("version")["version"]
        answer = approvals(self.store, self.run_id).get(task)
        if verdict["verdict"] != approval.NEEDED or (answer and answer.version == version):
            return None
        metrics = self.artifact("evaluate", task).json("metrics")
        return approval.question(task, version, verdict, metrics, self.settings.approval.hours)

    def _earlier(self) -> tuple[str, Artifact] | None:
        """The newest other run, by name, that has split its rows: its name, and its *split*."""
        keys = [entry.key for entry in self.store.list("runs/") if entry.key.endswith("/split.json")]
        for run_id in sorted({key.split("/")[1] for key in keys} - {self.run_id}, reverse=True):
            if split := replace(self, run_id=run_id)._found("split"):
                return run_id, split
        return None

    def _served(self) -> dict[Task, tuple[str, ...]]:
        """Task → the languages that its champion was trained on."""
        registry = Registry(self.store)
        found = {cast(Task, task): version for task, version in self.champion.items()}
        return {task: registry.resolve(task, version).languages for task, version in found.items()}

    def _inputs(self, name: str, task: Task | None) -> Inputs:
        if name == "report":
            artifacts = self.outputs()
        elif name in TOGETHER:
            artifacts = {key: found for key, found in self.outputs().items() if key.partition(":")[0] in NEEDS[name]}
            return Inputs(artifacts, task, self.champion, self.onboarded, approvals(self.store, self.run_id), self.decisions)
        else:
            artifacts = {need: self._need(need, task) for need in needs(name, self.settings)}
        return Inputs(artifacts, task, self.champion, self.onboarded, decisions=self.decisions)

    def _need(self, need: str, task: Task | None) -> Artifact:
        return self.artifact(need, task if need in BY_TASK else None)

    @property
    def steps(self) -> list[tuple[str, Task | None]]:
        """Every stage of this run with its task, in the order of the flat twin, without *report*."""
        found: list[tuple[str, Task | None]] = [(name, None) for name in COMMON]
        found += [(name, task) for task in self.settings.tasks for name in BY_TASK]
        return found + [(name, None) for name in TOGETHER]

    def finished(self) -> dict[str, dict[str, Any]]:
        """What the stages that have finished by now say of themselves (`Report.as_json`), `mine:QC` for that of a task."""
        present = {entry.key for entry in self.store.list(f"runs/{self.run_id}/")}
        steps = [*self.steps, ("report", None)]
        refs = {f"{name}:{task}" if task else name: self._ref(name, task) for name, task in steps}
        there = {name: ref for name, ref in refs.items() if ref in present}
        with ThreadPoolExecutor() as pool:
            return dict(zip(there, map(json.loads, pool.map(self.store.read, there.values())), strict=True))

    def outputs(self) -> dict[str, Artifact]:
        """Every output that the run has by now, `mine:QC` for that of a task."""
        present = [(name, task) for name, task in self.steps if self.store.exists(self._ref(name, task))]
        return {f"{name}:{task}" if task else name: self.artifact(name, task) for name, task in present}

    def _ref(self, name: str, task: Task | None) -> str:
        return f"runs/{self.run_id}/{name}{'-' + task.lower() if task else ''}.json"


def begin(settings: Settings, store: Store, run_id: str = "", say: Say = print_nothing, dag_run: str = "") -> Run:
    """Begins a run, or finds it again: what it pinned the first time holds.

    run_id: default, a digest of the settings and the source's content, so that the same inputs are the same run. dag_run: Airflow's
    name of the run, kept for people. Raises SettingsError for a run that was begun with other settings.
    """
    run_id = run_id or default_run_id(settings)
    values = _values(settings)
    key = f"runs/{run_id}/run.json"
    if not store.exists(key):
        champion, onboarded = _champion(store)
        record = {
            "settings": values,
            "champion": champion,
            "onboarded": sorted(onboarded | set(settings.onboard)),
            "dag_run": dag_run,
        }
        if decisions := review.names(store):
            record["decisions"] = decisions
        store.create(key, json.dumps(record, indent=1, sort_keys=True).encode())
    record = json.loads(store.read(key))
    # A setting that the record lacks came to be after it was written, and had its default then.
    begun = _values(config.of_record(record["settings"]))
    if begun != values:
        changed = sorted(name for name in values if begun[name] != values[name])
        raise SettingsError(
            f"run {run_id} was begun with other settings", where=", ".join(changed), do="take another run id, or the run's settings"
        )
    return Run(store, run_id, settings, record["champion"], tuple(record["onboarded"]), say, tuple(record.get("decisions", ())))


def open_run(store: Store, run_id: str, here: Settings, say: Say = print_nothing) -> Run:
    """A run that was begun before, with its own settings; only those of the machine (`engine`, `serving`, the database's URL) are
    `here`'s.

    Raises NotFound that names the newest runs.
    """
    machine = {"engine": here.engine.model_dump(), "serving": here.serving.model_dump()}
    values = record(store, run_id)["settings"] | machine
    values["source"]["connection"] = here.source.connection
    return begin(config.of_record(values), store, run_id, say)


def record(store: Store, run_id: str) -> dict[str, Any]:
    """What a run pinned when it began: settings, champion, onboarded, dag_run. Raises NotFound that names the newest runs."""
    key = f"runs/{run_id}/run.json"
    if not store.exists(key):
        known = run_ids(store)
        raise NotFound(f"no run {run_id!r}", where=store.uri, expected=", ".join(known[-5:]) or "a run: this store has none yet")
    found: dict[str, Any] = json.loads(store.read(key))
    return found | {"dag_run": found.get("dag_run", "")}


def run_ids(store: Store) -> list[str]:
    """Every run of the store, by the end of its window."""
    return store.folders("runs/")


def approvals(store: Store, run_id: str) -> dict[Task, Approval]:
    """What people have answered about the versions of a run, by task."""
    return approval.approvals(store, run_id)


def _values(settings: Settings) -> dict[str, Any]:
    """The settings that make a run what it is, as plain JSON values."""
    return settings.model_dump(mode="json", exclude={"engine", "serving"})


def default_run_id(settings: Settings) -> str:
    """`<window end>-<digest of settings and source>`."""
    from relevance_core.stages import ingest

    values = json.dumps(_values(settings), sort_keys=True)
    what = hashlib.sha256("\n".join(filter(None, (values, ingest.fingerprint(settings)))).encode()).hexdigest()[:8]
    return f"{settings.window.bounds()[1]:%Y-%m-%d}-{what}"


def retrain(settings: Settings, store: Store, run_id: str = "", dry_run: bool = False, say: Say = print_nothing) -> dict[str, Any]:
    """The whole loop on one machine: the flat twin of the DAG `relevance_retrain`.

    dry_run: stops before a model is built or trained. Returns what `relevance retrain --json` prints. Raises the first stage's
    error, after the report of what there is.
    """
    started = time.monotonic()
    run = begin(settings, store, run_id, say)
    say(f"run {run.run_id} in {store.uri}")
    run.plan()
    try:
        run.stage("ingest")
        run.stage("validate")
        run.stage("split")
        run.stage("translate")
        if not dry_run:
            run.stage("base")
            _each_task(run, BY_TASK)
            run.stage("rollout")
    except RelevanceError:
        run.stage("report")
        raise
    run.stage("report")
    return summary(run) | {"seconds": round(time.monotonic() - started, 1)}


def learn(run: Run) -> None:
    """The loop as far as *evaluate*: an adapter for each task and its figures, and nothing that could serve."""
    for name in COMMON:
        run.stage(name)
    _each_task(run, BY_TASK[: BY_TASK.index("gate")])


_Work = tuple[str, str, Task, Settings, Say, tuple[str, ...]]


def _each_task(run: Run, stages: tuple[str, ...]) -> None:
    """Runs these stages of every task, in a process of its own when there are two tasks."""
    settings = run.settings.model_copy(update={"engine": _share(run.settings.engine, len(run.settings.tasks))})
    work = [(run.store.uri, run.run_id, task, settings, run.say, stages) for task in settings.tasks]
    map_processes(_run_stages, work, run.settings.engine.workers)


def _run_stages(work: _Work) -> None:
    uri, run_id, task, settings, say, stages = work
    run = open_run(open_store(uri), run_id, settings, say)
    for name in stages:
        run.stage(name, task)


def _share(engine: config.EngineSettings, tasks: int) -> config.EngineSettings:
    """Each task's share of the machine's processes, so that tasks side by side do not start more than it has cores."""
    return engine.model_copy(update={"workers": max(1, (engine.workers or cores()) // tasks)})


def summary(run: Run) -> dict[str, Any]:
    """The result of a run as far as it is: verdicts and figures by task, rows by stage."""
    everything = run.outputs()
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
    """Whether the task's version of this run serves, since which release, and if it does not, why: '' where nobody has decided."""
    rollout: Mapping[str, Any] = {"waits": "", "tasks": {}}
    if "rollout" in everything:
        rollout = everything["rollout"].report.figures
    mine = rollout["tasks"].get(task, {"promoted": False, "number": None})
    failed = "; ".join(everything[f"gate:{task}"].report.figures["failed"])
    why = "" if mine["promoted"] else failed or rollout["waits"]
    return {"promoted": mine["promoted"], "number": mine["number"], "why": why}


def _champion(store: Store) -> tuple[dict[str, str], set[str]]:
    """The version that serves each task now, and every language that those versions were onboarded for."""
    registry = Registry(store)
    release = registry.current()
    versions = dict(release.versions) if release else {}
    manifests = [registry.resolve(cast(Task, task), version) for task, version in versions.items()]
    return versions, {language for manifest in manifests for language in manifest.onboarded}
