"""The loop as one function, `retrain`: the flat twin of the DAG `relevance_retrain`, stage by stage the same.

The DAG runs `begin` and `run_stage` once a task, by the command `relevance stage NAME`.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import time
from collections.abc import Mapping
from typing import Any, cast

from relevance_core import config
from relevance_core.config import Settings
from relevance_core.errors import ProgramError, RelevanceError, SettingsError, ValidationFailed
from relevance_core.pairs import Task
from relevance_core.processes import cores, map_processes
from relevance_core.registry import Registry
from relevance_core.runs.artifacts import Artifact, Report
from relevance_core.runs.run import Run, identity, open_run, pin
from relevance_core.runs.stage import Run as StageFunction
from relevance_core.runs.steps import COMMON, PER_TASK, REPORT, TOGETHER, step_of
from relevance_core.sources import Source
from relevance_core.store import Store, open_store

log = logging.getLogger(__name__)


def retrain(settings: Settings, store: Store, run_id: str = "", dry_run: bool = False) -> dict[str, Any]:
    """The whole loop on one machine.

    Args:
        settings: the run's.
        store: gets all outputs of the run.
        run_id: its name; default, a digest of the settings and the source's content, so that the same inputs are the same run.
        dry_run: stops before a model is built or trained.

    Returns:
        The object that `relevance retrain --json` prints.

    Raises:
        RelevanceError: the error of the stage that failed, after the report on the outputs so far.
    """
    started = time.monotonic()
    run = begin(settings, store, run_id)
    log.info("run %s in %s", run.run_id, store.uri)
    try:
        for name in COMMON:
            if not (dry_run and step_of(name).gpu):
                run_stage(run, name)
        if not dry_run:
            _each_task(run, PER_TASK)
            for name in TOGETHER:
                run_stage(run, name)
    except RelevanceError:
        run_stage(run, REPORT.name)
        raise
    run_stage(run, REPORT.name)
    return summary(run) | {"seconds": round(time.monotonic() - started, 1)}


def begin(settings: Settings, store: Store, run_id: str = "", dag_run: str = "") -> Run:
    """Begins a run, or finds it again, and says what it will do (`relevance_core.plan`).

    The source is opened once, for the run's name, the check of the languages that come in, and the plan. Where a named run has no
    source to open, a warning says why: it may be there when *ingest* opens it.

    Args:
        settings: the run's.
        store: where its folder and its outputs lie.
        run_id: its name; default, a digest of the settings and the source's content.
        dag_run: Airflow's name of the run, kept for people.

    Raises:
        SettingsError: a language that comes in is unknown or can't be translated into, or the run was begun with other settings.
    """
    from relevance_core import plan

    source = _source(settings, needed=not run_id)
    translator = plan.check_onboarded(settings, source)
    run = pin(settings, store, run_id or default_run_id(settings, source), dag_run)
    plan.make(run, source, translator)
    return run


def _source(settings: Settings, needed: bool) -> Source | None:
    from relevance_core.sources import open_source

    try:
        return open_source(settings)
    except RelevanceError as error:
        if needed:
            raise
        log.warning("the source can't be opened, and *ingest* will fail unless it can be by then: %s", error)
        return None


def default_run_id(settings: Settings, source: Source | None = None) -> str:
    """Returns `<window end>-<digest of settings and source>`. source: passed where it is open already."""
    from relevance_core.sources import open_source

    content = (source or open_source(settings)).fingerprint()
    what = hashlib.sha256(f"{identity(settings)}\n{content}".encode()).hexdigest()[:8]
    return f"{settings.window.bounds()[1]:%Y-%m-%d}-{what}"


def run_stage(run: Run, name: str, task: Task | None = None) -> Report:
    """Runs one stage of a run, or finds its finished output, and records it in the run.

    A run that was begun with a setting that does not exist any more gets its report alone: its other stages would do something else
    than its record says.

    Raises the stage's errors, SettingsError for a name that is no stage, a task that does not fit or a run with such a setting, and
    ValidationFailed for an output that says the run can't go on.
    """
    step = step_of(name)
    if step.per_task != (task is not None):
        raise SettingsError(f"stage {name} {'needs a task' if task is None else 'takes no task'}", where="--task")
    if run.lost and step is not REPORT:
        raise SettingsError(
            f"run {run.run_id} was begun with settings that were removed since: stage {name} would do something else",
            where=", ".join(run.lost),
            expected="a run with settings that this release has",
            do="begin a new run; the pages and `relevance report` still show this one",
        )
    report = stage_function(name)(run.settings, run.inputs(name, task), run.store)
    run.keep(report)
    if report.failure:
        raise ValidationFailed(**report.failure)
    return report


def stage_function(name: str) -> StageFunction:
    """Returns the `run` of a stage's module or folder. Raises ProgramError for a module without it, or with another stage's."""
    module = f"relevance_core.stages.{name}"
    try:
        run = getattr(importlib.import_module(module), "run", None)
    except ModuleNotFoundError as error:
        if error.name != module:  # a library that it imports
            raise
        raise ProgramError(f"stage {name} has no module", expected=module, do="add it (docs/extending.md)") from error
    declared = getattr(run, "stage", None)
    if declared != name:
        what = "has no function `run` that @stage decorates" if declared is None else f"declares stage {declared!r}"
        raise ProgramError(f"the module of stage {name} {what}", where=module, expected=f'@stage("{name}", …) above `def run`')
    return cast(StageFunction, run)


def learn(run: Run) -> None:
    """Runs the loop up to *evaluate*: trains and measures an adapter for each task, and publishes nothing."""
    for name in COMMON:
        run_stage(run, name)
    _each_task(run, PER_TASK[: PER_TASK.index("gate")])


_Work = tuple[str, str, Task, Settings, tuple[str, ...]]


def _each_task(run: Run, stages: tuple[str, ...]) -> None:
    """Runs these stages for every task; two tasks run in a process each."""
    settings = run.settings.model_copy(update={"engine": _share(run.settings.engine, len(run.settings.tasks))})
    work = [(run.store.uri, run.run_id, task, settings, stages) for task in settings.tasks]
    map_processes(_run_stages, work, run.settings.engine.workers)


def _run_stages(work: _Work) -> None:
    uri, run_id, task, settings, stages = work
    run = open_run(open_store(uri), run_id, settings)
    for name in stages:
        run_stage(run, name, task)


def _share(engine: config.EngineSettings, tasks: int) -> config.EngineSettings:
    """Returns each task's share of the machine's processes, so that concurrent tasks together start no more than it has cores."""
    return engine.model_copy(update={"workers": max(1, (engine.workers or cores()) // tasks)})


def summary(run: Run) -> dict[str, Any]:
    """Returns the result of a run so far: verdicts and figures by task, rows by stage."""
    everything, current = run.outputs(), Registry(run.store).current()
    serving = current.versions if current else {}
    tasks = {}
    for task in run.settings.tasks:
        if f"publish:{task}" in everything:
            figures = everything[f"evaluate:{task}"].report.figures
            verdict = everything[f"gate:{task}"].report.figures["verdict"]
            published = everything[f"publish:{task}"].report.figures
            served = _served(everything, task, serving.get(task))
            tasks[task] = {"verdict": verdict} | dict(published) | served | dict(figures)
    rows: dict[str, dict[str, int]] = {}
    for name, artifact in everything.items():
        total = rows.setdefault(name.partition(":")[0], {})
        for what, number in artifact.report.rows.as_json().items():
            if what != "reasons":
                total[what] = total.get(what, 0) + number
    report = run.artifact(REPORT.name) if run.has(REPORT.name) else None
    return {
        "run_id": run.run_id,
        "tasks": tasks,
        "rows": rows,
        "report": run.store.uri_of(report.key("report.html")) if report else None,
    }


def _served(everything: Mapping[str, Artifact], task: Task, serving: str | None) -> dict[str, Any]:
    """Returns whether the task's version of this run serves, since which release, and the reason if not ('' before a decision).

    serving: the version that serves the task now.
    """
    rollout: Mapping[str, Any] = {"waits": "", "tasks": {}}
    if "rollout" in everything:
        rollout = everything["rollout"].report.figures
    mine = rollout["tasks"].get(task, {"promoted": False, "number": None})
    if mine["promoted"] and mine["version"] != serving:
        return {"promoted": False, "number": mine["number"], "why": f"replaced by {serving} after release {mine['number']}"}
    failed = "; ".join(everything[f"gate:{task}"].report.figures["failed"])
    why = "" if mine["promoted"] else failed or rollout["waits"]
    return {"promoted": mine["promoted"], "number": mine["number"], "why": why}
