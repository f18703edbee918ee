"""A client of the few calls of Airflow's REST API that the demo and the tests make."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any, Final
from urllib.parse import quote

import httpx

from relevance_core.errors import RelevanceError

FINAL: Final = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
"""States that a task instance does not leave by itself."""

TOKEN_SECONDS: Final = 1800.0


class AirflowError(RelevanceError, RuntimeError):
    """The error of an Airflow that could not be started, or did not answer."""


class Client:
    """A client of Airflow's API at `url`, logged in as `user`. Errors are httpx's own."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self.url, self._user, self._password = url, user, password
        self._http = httpx.Client(base_url=url, timeout=60, trust_env=False)
        self._token_until = 0.0

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def healthy(self) -> bool:
        """Tells whether the API answers and reports all of Airflow's processes as healthy."""
        try:
            parts = self._http.get("/api/v2/monitor/health").raise_for_status().json()
        except httpx.HTTPError:
            return False
        names = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        return all((parts.get(name) or {}).get("status") == "healthy" for name in names)

    def call(self, method: str, path: str, json: Any = None, **query: Any) -> Any:
        """Makes one call under /api/v2 and returns the decoded answer.

        Args:
            method: of HTTP.
            path: below /api/v2.
            json: the body.
            query: the query's parameters.
        """
        if time.monotonic() > self._token_until:
            login = {"username": self._user, "password": self._password}
            token = self._http.post("/auth/token", json=login).raise_for_status().json()["access_token"]
            self._http.headers["Authorization"] = f"Bearer {token}"
            self._token_until = time.monotonic() + TOKEN_SECONDS
        answer = self._http.request(method, f"/api/v2/{path}", json=json, params=query).raise_for_status()
        return answer.json() if answer.content else None

    def import_errors(self) -> list[str]:
        """Returns the errors of the DAG files that could not be imported."""
        return [f"{error['filename']}: {error['stack_trace']}" for error in self.call("GET", "importErrors")["import_errors"]]

    def has_dag(self, dag_id: str) -> bool:
        """Tells whether the DAG processor has read this DAG."""
        return any(dag["dag_id"] == dag_id for dag in self.call("GET", "dags", limit=100, exclude_stale=True)["dags"])

    def await_dags(self, dags: Iterable[str], seconds: float) -> None:
        """Waits until the DAG processor has read the DAGs. Raises AirflowError for a file with errors, or after `seconds`."""
        deadline = time.monotonic() + seconds
        while not all(self.has_dag(dag) for dag in dags):
            errors = self.import_errors()
            if errors or time.monotonic() > deadline:
                raise AirflowError("the DAGs can't be read", where="\n".join(errors) or f"nothing read after {seconds:.0f} s")
            time.sleep(0.5)

    def await_scheduled(self, dag_id: str, seconds: float) -> str:
        """Waits for the first run that the scheduler makes, and returns its id. Raises AirflowError after `seconds`."""
        deadline = time.monotonic() + seconds
        while not (runs := self.call("GET", f"dags/{dag_id}/dagRuns", limit=1)["dag_runs"]):
            if time.monotonic() > deadline:
                raise AirflowError("the scheduler has made no run", where=dag_id, expected=f"a run within {seconds:.0f} s")
            time.sleep(0.5)
        return str(runs[0]["dag_run_id"])

    def await_run(self, dag_id: str, run_id: str, seconds: float) -> str:
        """Waits for the end of a run, and returns its state. Raises AirflowError with the tasks' states after `seconds`."""
        deadline = time.monotonic() + seconds
        while (state := self.run_state(dag_id, run_id)) not in {"success", "failed"}:
            if time.monotonic() > deadline:
                states = {f"{task['task_id']}[{task['map_index']}]": task["state"] for task in self.task_instances(dag_id, run_id)}
                raise AirflowError(f"{run_id} is still {state} after {seconds:.0f} s", where=f"{dag_id}: {states}")
            time.sleep(1)
        return state

    def set_pool(self, name: str, slots: int, description: str) -> None:
        """Makes a pool, or resizes it."""
        pool = {"name": name, "slots": slots, "description": description, "include_deferred": False}
        known = {entry["name"] for entry in self.call("GET", "pools")["pools"]}
        if name in known:
            self.call("PATCH", f"pools/{name}", pool)
        else:
            self.call("POST", "pools", pool)

    def unpause(self, dag_id: str) -> None:
        """Lets the scheduler run the DAG."""
        self.call("PATCH", f"dags/{dag_id}", {"is_paused": False})

    def trigger(self, dag_id: str, run_id: str, conf: dict[str, Any]) -> None:
        """Makes a run, which the scheduler picks up."""
        self.call("POST", f"dags/{dag_id}/dagRuns", {"dag_run_id": run_id, "logical_date": None, "conf": conf})

    def run_state(self, dag_id: str, run_id: str) -> str | None:
        """Returns a run's state; None where there is no such run."""
        runs = self.call("GET", f"dags/{dag_id}/dagRuns", limit=100, order_by="-run_after")["dag_runs"]
        return next((str(run["state"]) for run in runs if run["dag_run_id"] == run_id), None)

    def delete_run(self, dag_id: str, run_id: str) -> None:
        """Deletes a run in Airflow. Its outputs in the store stay."""
        self.call("DELETE", f"dags/{dag_id}/dagRuns/{quote(run_id)}")

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Returns the run's task instances, a mapped task's each by itself."""
        return list(self.call("GET", f"dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances", limit=200)["task_instances"])

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """Returns an XCom that a task left."""
        path = f"dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances/{task_id}/xcomEntries/{key}"
        return self.call("GET", path, map_index=map_index, deserialize=True)["value"]

    def log(self, instance: dict[str, Any]) -> list[str]:
        """Returns the lines that a task instance's latest try logged."""
        path = f"dags/{instance['dag_id']}/dagRuns/{quote(instance['dag_run_id'])}/taskInstances/{instance['task_id']}"
        path += f"/logs/{max(instance['try_number'], 1)}"
        answer = self.call("GET", path, map_index=instance["map_index"], full_content=True)
        return [text for line in answer["content"] for text in _log_lines(line)]

    def follow(self, dag_id: str, run_id: str, interval: float = 2.0) -> Iterator[dict[str, Any]]:
        """Yields a task instance whenever its state has changed, until the run has ended."""
        seen: dict[tuple[str, int], tuple[str | None, int]] = {}
        while True:
            ended = self.run_state(dag_id, run_id) in FINAL
            instances = self.task_instances(dag_id, run_id)
            for instance in sorted(instances, key=lambda found: found["start_date"] or "9999"):
                key, state = (instance["task_id"], instance["map_index"]), (instance["state"], instance["try_number"])
                if seen.get(key) != state:
                    seen[key] = state
                    yield instance
            if ended:
                return
            time.sleep(interval)


def _log_lines(line: str | dict[str, Any]) -> list[str]:
    """Returns the readable lines of one entry of a log: its text, and the errors that it carries."""
    if isinstance(line, str):
        return [line]
    errors = [f"{error['exc_type']}: {error['exc_value']}" for error in line.get("error_detail") or []]
    return [str(line.get("event", "")), *errors]
