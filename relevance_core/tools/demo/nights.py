"""Two nights of the loop in a real Airflow, for `make demo`.

Everything lies in one folder: `market/` (the simulated shop), `store/`, `airflow/`, `scratch/`, `reports/` and `settings.toml`.
A second demo finds the nights that it has run and shows them again; a night that did not end well is run again, and its finished
stages are found.
"""

from __future__ import annotations

import functools
import logging
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

from relevance_core import config, loop
from relevance_core.errors import RelevanceError
from relevance_core.processes import cores
from relevance_core.runs.run import open_run
from relevance_core.store import open_store
from relevance_core.tools.demo.client import Client
from relevance_core.tools.demo.launcher import Airflow

log = logging.getLogger(__name__)

PROJECT: Final = Path(__file__).resolve().parents[3]
DAG: Final = "relevance_retrain"
ROLLBACK: Final = "relevance_rollback"
POOL: Final = "relevance_gpu"
FIRST_DAY: Final = date(2026, 10, 1)
DAYS: Final = 8
DAG_SECONDS: Final = 120.0
TOLD: Final = frozenset({"running", "success", "failed", "up_for_retry", "awaiting_input", "skipped", "upstream_failed"})


@dataclass(frozen=True)
class Night:
    """One run of the DAG. name: Airflow's. end: of its window. onboard: languages. title: for people."""

    name: str
    end: date
    onboard: tuple[str, ...]
    title: str

    def conf(self) -> dict[str, Any]:
        """Returns the run's params, as a person would give them in the form."""
        # A demo asks nobody: a version that needs an approval is held after three minutes.
        return {"window.end": f"{self.end:%Y-%m-%d}", "onboard": list(self.onboard), "approval.hours": 0.05}


NIGHTS: Final = (
    Night("night-1", FIRST_DAY + timedelta(days=DAYS - 1), (), "a week of logs, nothing served yet"),
    Night("night-2", FIRST_DAY + timedelta(days=DAYS), ("de",), "one more day, and German comes in"),
)


class NightFailed(RelevanceError):
    """The error of a run of the DAG that did not end well."""


@dataclass(frozen=True)
class Demo:
    """The demo in `folder`, which is made where it is missing. What it does is logged, a line for a person to read."""

    folder: Path

    @functools.cached_property
    def airflow(self) -> Airflow:
        """The Airflow of this demo."""
        environment = {
            "RELEVANCE_STORE": str(self.folder / "store"),
            "RELEVANCE_SETTINGS_FILE": str(self.folder / "settings.toml"),
            "RELEVANCE_SCRATCH": str(self.folder / "scratch"),
            "RELEVANCE_SCHEDULE": "",  # the simulated days are over: tonight would have no rows
            "OMP_NUM_THREADS": "1",
        }
        return Airflow(self.folder / "airflow", PROJECT, environment)

    def up(self, port: int) -> Client:
        """Simulates the week and starts Airflow, each only where that has not been done. Raises AirflowError."""
        self.prepare()
        log.info("starting Airflow (SQLite, LocalExecutor, 127.0.0.1 only)")
        client = self.airflow.start(port)
        client.await_dags((DAG, ROLLBACK), DAG_SECONDS)
        client.set_pool(POOL, cores(), "tasks that want a GPU; here, one a core")
        for dag in (DAG, ROLLBACK):
            client.unpause(dag)
        return client

    def prepare(self) -> None:
        """Simulates the week, and writes the settings that point to it."""
        market = self.folder / "market"
        if not market.exists():
            partial = self.folder / "market.partial"
            shutil.rmtree(partial, ignore_errors=True)
            log.info("simulating %s days of a marketplace from %s", DAYS, FIRST_DAY)
            command = [sys.executable, "-m", "relevance_core", "simulate", "--out", str(partial)]
            subprocess.run([*command, "--start", f"{FIRST_DAY}", "--days", f"{DAYS}"], check=True)
            partial.rename(market)
        # The filter, off by default, is on so that the demo shows it.
        text = f'[source]\nuri = "{market / "logs"}"\n\n[denoise]\nenabled = true\n\n[engine]\nworkers = 1\n'
        (self.folder / "settings.toml").write_text(text)

    def run(self, port: int) -> None:
        """Runs both nights and shows their results; stops Airflow again if it was started here.

        Raises NightFailed and AirflowError.
        """
        started, was_running = time.monotonic(), self.airflow.running()
        try:
            client = self.up(port)
            log.info("Airflow: %s  (login in %s)", client.url, self.airflow.login_file)
            results = [self.night(client, night) for night in NIGHTS]
            client.close()
        finally:
            if not was_running:
                log.info("stopping Airflow")
                self.airflow.stop()
        for line in summary_lines(results):
            log.info("%s", line)
        log.info("")
        for night, result in zip(NIGHTS, results, strict=True):
            log.info("report of %s: %s", night.name, self._copy_report(night, result))
        log.info("the UI with both runs: make up  (and make down)")
        log.info("done in %.0f s", time.monotonic() - started)

    def night(self, client: Client, night: Night) -> dict[str, Any]:
        """Runs one night through the scheduler, or finds it; says every change of a task's state. Raises NightFailed."""
        log.info("")
        log.info(
            "=== %s: %s (window until %s, onboard %s)", night.name, night.title, night.end, ", ".join(night.onboard) or "nothing"
        )
        state = client.run_state(DAG, night.name)
        if state == "success":
            log.info("found finished; `make clean` starts anew")
        elif state != "running":
            if state is not None:
                client.delete_run(DAG, night.name)
            client.trigger(DAG, night.name, night.conf())
        self._follow(client, night, quiet=state == "success")
        if client.run_state(DAG, night.name) != "success":
            raise NightFailed(f"{night.name} failed", where="\n".join(failure_lines(client, night.name)), do=f"see {client.url}")
        return self._result(str(client.xcom(DAG, night.name, "begin", "run_id")))

    def _follow(self, client: Client, night: Night, quiet: bool) -> None:
        started = time.monotonic()
        for instance in client.follow(DAG, night.name):
            if instance["state"] in TOLD and not quiet:
                tasks = client.xcom(DAG, night.name, "begin") if instance["map_index"] >= 0 else []
                log.info("%7.1f s  %s", time.monotonic() - started, _instance_line(instance, tasks))

    def _result(self, run_id: str) -> dict[str, Any]:
        """Reads a run's results from the store as `relevance retrain` does."""
        settings = config.load(self.folder / "settings.toml")
        return loop.summary(open_run(open_store(str(self.folder / "store")), run_id, settings))

    def _copy_report(self, night: Night, result: Mapping[str, Any]) -> Path:
        copy = self.folder / "reports" / f"{night.name}.html"
        copy.parent.mkdir(exist_ok=True)
        settings, store = config.load(self.folder / "settings.toml"), open_store(str(self.folder / "store"))
        report = open_run(store, str(result["run_id"]), settings).artifact("report")
        copy.write_bytes(store.read(report.key("report.html")))
        return copy


def failure_lines(client: Client, run_id: str, lines: int = 25) -> list[str]:
    """Returns the end of the log of every task that failed by itself.

    Args:
        client: of Airflow.
        run_id: of the run.
        lines: of each log.
    """
    found = []
    for instance in client.task_instances(DAG, run_id):
        if instance["state"] == "failed":
            found += [f"--- {_name(instance, ())} {instance['rendered_map_index'] or ''}", *client.log(instance)[-lines:]]
    return found


def summary_lines(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns rows by stage, F1 by task and language, verdicts and versions of the nights, as lines of text."""
    lines = []
    for night, result in zip(NIGHTS, results, strict=True):
        lines += ["", f"rows of {night.name}", f"  {'stage':<10}{'in':>9}{'kept':>9}{'quarantined':>13}{'dropped':>9}"]
        for stage, rows in result["rows"].items():
            if rows["in"]:
                lines.append(f"  {stage:<10}{rows['in']:>9}{rows['kept']:>9}{rows['quarantined']:>13}{rows['dropped']:>9}")
    lines += ["", "F1 on the judgement rows", f"  {'':<18}" + "".join(f"{night.name:>10}" for night in NIGHTS)]
    for task in sorted({task for result in results for task in result["tasks"]}):
        lines += _task_lines(task, [result["tasks"].get(task, {}) for result in results])
    for night, result in zip(NIGHTS, results, strict=True):
        lines += ["", f"verdicts of {night.name}"]
        for task, figures in result["tasks"].items():
            served = "serves now" if figures["promoted"] else "not served, the champion stays"
            lines.append(f"  {task}: {figures['verdict']:<15} version {figures['version']} ({served})")
            if figures["why"]:
                lines.append(f"      because: {figures['why']}")
    return lines


def _task_lines(task: str, nights: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns one line a language for one task: its F1 in every night."""
    overall = [("overall", "f1"), ("macro-F1", "macro_f1"), ("always yes", "always_yes_f1")]
    lines = [f"  {task} {label:<15}" + "".join(_cell(figures.get(key)) for figures in nights) for label, key in overall]
    for language in sorted({language for figures in nights for language in figures.get("per_language", {})}):
        cells = [figures.get("per_language", {}).get(language, {}).get("f1") for figures in nights]
        lines.append(f"  {task} {language:<15}" + "".join(map(_cell, cells)))
    return lines


def _cell(value: float | None) -> str:
    return f"{'-':>10}" if value is None else f"{value:>10.4f}"


def _instance_line(instance: Mapping[str, Any], tasks: Sequence[str]) -> str:
    ended = f"{instance['duration']:8.1f} s" if instance["duration"] and instance["state"] != "running" else ""
    again = f"  (try {instance['try_number']})" if instance["try_number"] > 1 else ""
    return f"{_name(instance, tasks):<14}{instance['state']:<16}{ended}{again}".rstrip()


def _name(instance: Mapping[str, Any], tasks: Sequence[str]) -> str:
    """Returns a task's name for people: `mine QC`. tasks: those that the run is mapped over."""
    name, index = str(instance["task_id"]).rpartition(".")[2], int(instance["map_index"])
    return f"{name} {tasks[index]}" if 0 <= index < len(tasks) else name
