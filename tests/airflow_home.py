"""A real Airflow for a test, in a folder of its own, with the checkout's DAGs and a marketplace of a few hundred rows."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from relevance_core.demo.client import Client
from relevance_core.demo.launcher import Airflow
from relevance_core.demo.nights import DAG, POOL, PROJECT
from relevance_core.simulator.market import Market, write

DAGS = (DAG, "relevance_rollback")
FIRST_DAY = date(2026, 10, 1)

# Small enough for a minute, large enough that every stage has something to do.
SETTINGS: Mapping[str, Any] = {
    "validation": {"rate_min_rows": 10_000, "max_language_drift": 1.0},
    "translate": {"min_rows": 20, "rows": {"QC": 40, "QI": 40}},
    "base": {"hidden": 64, "layers": 1, "vocabulary": 1024, "contrastive_steps": 20, "documents": 400},
    "denoise": {"epochs": 1},
    "train": {"epochs": 1, "r": 4, "alpha": 8, "save_steps": 2},
    "gate": {"min_f1": 0.0, "min_over_always_yes": -1.0, "resamples": 100},
    "serving": {"python": ""},
    "engine": {"workers": 1},
}


@dataclass(frozen=True)
class Home:
    """A running Airflow, the folder that it works in, and the settings of its runs as RELEVANCE_SETTINGS takes them."""

    folder: Path
    client: Client
    settings: str

    def run(self, run_id: str, conf: Mapping[str, Any], dag: str = DAG, seconds: float = 800) -> str:
        """Triggers a run, waits for its end, and returns its state."""
        self.client.trigger(dag, run_id, dict(conf))
        deadline = time.monotonic() + seconds
        while (state := self.client.run_state(dag, run_id)) not in {"success", "failed"}:
            assert time.monotonic() < deadline, f"{run_id} is still {state}: {self.states(run_id, dag)}"
            time.sleep(0.5)
        return state

    def states(self, run_id: str, dag: str = DAG) -> dict[str, str]:
        """The state of every task instance; `adapter.mine[0]` for a mapped one."""
        instances = self.client.task_instances(dag, run_id)
        return {f"{i['task_id']}[{i['map_index']}]" if i["map_index"] >= 0 else i["task_id"]: i["state"] for i in instances}

    def log(self, run_id: str, task_id: str, dag: str = DAG, map_index: int = -1) -> str:
        """What the latest try of a task logged."""
        for instance in self.client.task_instances(dag, run_id):
            if (instance["task_id"], instance["map_index"]) == (task_id, map_index):
                return "\n".join(self.client.log(instance))
        raise AssertionError(f"{run_id} has no {task_id}")

    def kill_stage(self, name: str, seconds: float = 300) -> int:
        """Kills the process of a stage of this Airflow (SIGKILL) as soon as there is one; its id."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for pid in _processes_of(f"relevance\0stage\0{name}\0", f"AIRFLOW_HOME={self.folder / 'airflow'}\0"):
                os.kill(pid, signal.SIGKILL)
                return pid
            time.sleep(0.02)
        raise AssertionError(f"no process of stage {name} within {seconds} s")


@contextmanager
def airflow_home(folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[Home]:
    """Airflow in `folder`, over its own small market and store, until the block ends."""
    write(Market(pairs_per_day=400, clicks_per_day=400, items=400), FIRST_DAY, 4, folder / "market")
    settings = json.dumps({**SETTINGS, "source": {"uri": str(folder / "market" / "logs")}})
    variables = {
        "RELEVANCE_STORE": str(folder / "store"),
        "RELEVANCE_SETTINGS": settings,
        "RELEVANCE_SCRATCH": str(folder / "scratch"),
        "RELEVANCE_SCHEDULE": "",
        "OMP_NUM_THREADS": "1",
        "AIRFLOW__CORE__PARALLELISM": "2",
        **(environment or {}),
    }
    airflow = Airflow(folder / "airflow", PROJECT, variables)
    try:
        with closing(airflow.start(0)) as client:
            _await_dags(client)
            client.set_pool(POOL, 2, "for the test")
            for dag in DAGS:
                client.unpause(dag)
            yield Home(folder, client, settings)
    finally:
        airflow.stop()


def _await_dags(client: Client) -> None:
    deadline = time.monotonic() + 120
    while not all(client.has_dag(dag) for dag in DAGS):
        assert not client.import_errors()
        assert time.monotonic() < deadline, "the DAGs were not read"
        time.sleep(0.5)


def _processes_of(command: str, variable: str) -> Iterator[int]:
    """Processes with `command` in their command line and `variable` in their environment, as /proc separates them."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line, environment = ((entry / name).read_text(errors="replace") for name in ("cmdline", "environ"))
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            if command in line and variable in environment:
                yield int(entry.name)
