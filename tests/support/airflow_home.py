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

import httpx

from relevance_core.tools.demo.client import Client
from relevance_core.tools.demo.launcher import USER, Airflow
from relevance_core.tools.demo.nights import DAG, POOL, PROJECT
from relevance_core.tools.simulator.market import Market, write

DAGS = (DAG, "relevance_rollback")
FIRST_DAY = date(2026, 10, 1)
MARKET = Market(pairs_per_day=400, clicks_per_day=400, items=400)
VIEWER = "viewer"
"""A user who may see everything and change nothing; `launcher.USER` may do everything."""

# Small enough for a minute, large enough that every stage has something to do.
SETTINGS: Mapping[str, Any] = {
    "validation": {"rate_min_rows": 10_000, "max_language_drift": 1.0},
    "translate": {"min_rows": 20, "rows": {"QC": 40, "QI": 40}},
    "base": {"builtin": {"hidden": 64, "layers": 1, "vocabulary": 1024, "contrastive_steps": 20, "documents": 400}},
    "denoise": {"enabled": True, "epochs": 1},
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

    def password(self, user: str) -> str:
        """What the user types into the login form."""
        return str(json.loads((self.folder / "airflow" / "passwords.json").read_text())[user])

    def token(self, user: str, kind: str = "token") -> str:
        """A fresh login of the user, as the cookie or a bearer header carries it. kind: `token/cli` has a lifetime of its own."""
        login = {"username": user, "password": self.password(user)}
        answer = httpx.post(f"{self.client.url}/auth/{kind}", json=login, trust_env=False)
        return str(answer.raise_for_status().json()["access_token"])

    def run(self, run_id: str, conf: Mapping[str, Any], dag: str = DAG, seconds: float = 800) -> str:
        """Triggers a run, waits for its end, and returns its state."""
        self.client.trigger(dag, run_id, dict(conf))
        return self.ended(run_id, dag, seconds)

    def ended(self, run_id: str, dag: str = DAG, seconds: float = 800) -> str:
        """Waits for the end of a run, and returns its state."""
        return self.client.await_run(dag, run_id, seconds)

    def await_state(self, run_id: str, task: str, wanted: str, seconds: float = 800) -> None:
        """Waits until a task instance, named as in `states`, is in a state."""
        deadline = time.monotonic() + seconds
        while (state := self.states(run_id).get(task)) != wanted:
            assert self.client.run_state(DAG, run_id) not in {"success", "failed"}, self.states(run_id)
            assert time.monotonic() < deadline, f"{task} of {run_id} is still {state}"
            time.sleep(1)
        # Airflow takes a task for failed when it is answered before the scheduler has heard that its process ended well.
        time.sleep(8)

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

    def kill_stage(self, name: str, seconds: float = 600) -> None:
        """Kills the process of a stage of this Airflow (SIGKILL) as soon as there is one."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for pid in _processes_of(f"relevance\0stage\0{name}\0", f"AIRFLOW_HOME={self.folder / 'airflow'}\0"):
                os.kill(pid, signal.SIGKILL)
                return
            time.sleep(0.02)
        raise AssertionError(f"no process of stage {name} within {seconds} s")


@contextmanager
def airflow_home(
    folder: Path, environment: Mapping[str, str] | None = None, market: Market = MARKET, settings: Mapping[str, Any] = SETTINGS
) -> Iterator[Home]:
    """Airflow in `folder`, over its own store and four days of a small market, until the block ends."""
    write(market, FIRST_DAY, 4, folder / "market")
    in_force = json.dumps({**settings, "source": {"uri": str(folder / "market" / "logs")}})
    variables = {
        "RELEVANCE_STORE": str(folder / "store"),
        "RELEVANCE_SETTINGS": in_force,
        "RELEVANCE_SCRATCH": str(folder / "scratch"),
        "RELEVANCE_SCHEDULE": "",
        "OMP_NUM_THREADS": "1",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",  # nobody edits a DAG meanwhile
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin,{VIEWER}:viewer",
        **(environment or {}),
    }
    airflow = Airflow(folder / "airflow", PROJECT, variables)
    try:
        with closing(airflow.start(0)) as client:
            client.await_dags(DAGS, 120)
            client.set_pool(POOL, 2, "for the test")
            for dag in DAGS:
                client.unpause(dag)
            yield Home(folder, client, in_force)
    finally:
        airflow.stop()


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
