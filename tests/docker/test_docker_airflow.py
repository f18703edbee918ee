"""Airflow as docker/compose.yaml runs it, without the containers: its scripts, commands, secrets and environment, on PostgreSQL."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml

from relevance_core.machine import free_port
from relevance_core.tools.demo.client import Client
from tests.support.places import PROJECT
from tests.support.postgres_server import NEEDS_POSTGRES, QUOTED, postgres_server

DOCKER = PROJECT / "docker"
SERVICES = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
PROCESSES = ("airflow-api-server", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer")
SECONDS = 300.0

pytestmark = [pytest.mark.airflow, pytest.mark.slow, *NEEDS_POSTGRES]


@dataclass(frozen=True)
class Machine:
    """A folder in the place of the containers' file systems, and a port in the place of the API server's."""

    root: Path
    port: int

    def here(self, text: str) -> str:
        """A text of the compose file or an image, with what it names in a container as it is here; variables at their defaults."""
        text = re.sub(r"\$\{\w+:?-([^}]*)\}", r"\1", str(text))
        for there, here in {
            "s3://relevance": str(self.root / "store"),
            "/run/secrets": str(self.root / "secrets"),
            "/opt/airflow": str(self.root / "airflow"),
            "/opt/relevance": str(PROJECT),
            "/etc/relevance": str(self.root / "etc"),
            "/var/log/airflow": str(self.root / "logs"),
            "/var/lib/relevance": str(self.root / "scratch"),
            "airflow-api-server": "127.0.0.1",
            "0.0.0.0": "127.0.0.1",  # noqa: S104 - replaced, not bound
            "8080": str(self.port),
        }.items():
            text = text.replace(there, here)
        return text

    def environment(self, service: str) -> dict[str, str]:
        """What the service's processes are told: by the image, then by the compose file."""
        image = re.findall(r"(?:^ENV |^    )(\w+)=(\S+)", (DOCKER / "airflow.Dockerfile").read_text(), re.MULTILINE)
        own = {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW", "RELEVANCE_", "AWS_"))}
        told = dict(image) | SERVICES[service]["environment"]
        path = f"{Path(sys.executable).parent}{os.pathsep}{own['PATH']}"
        return own | {name: self.here(value) for name, value in told.items()} | {"PATH": path}

    def command(self, words: list[str]) -> list[str]:
        """A command line; a script of docker/ is run as a copy that finds the secrets here."""
        if words[0].endswith(".sh"):
            copy = self.root / Path(words[0]).name
            copy.write_text(self.here((PROJECT / words[0]).read_text()))
            return ["bash", str(copy)]
        return [self.here(word) for word in words]

    def run(self, service: str) -> None:
        """A service that runs once."""
        command = self.command(SERVICES[service]["command"])
        done = subprocess.run(command, env=self.environment(service), cwd=PROJECT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    @contextmanager
    def process(self, service: str) -> Iterator[None]:
        """A service, and what it starts, until the block ends."""
        command = self.command(SERVICES[service]["command"])
        with (self.root / f"{service}.out").open("wb") as out:
            started = subprocess.Popen(
                command, env=self.environment(service), cwd=PROJECT, stdout=out, stderr=out, start_new_session=True
            )
        try:
            yield
        finally:
            os.killpg(started.pid, signal.SIGTERM)
            try:
                started.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(started.pid, signal.SIGKILL)
                started.wait()

    def await_health(self, service: str, deadline: float) -> None:
        """Returns when the service's own health check says that it is healthy."""
        check = self.command(SERVICES[service]["healthcheck"]["test"][1:])
        while subprocess.run(check, env=self.environment(service), cwd=PROJECT, capture_output=True, check=False).returncode:
            wrote = (self.root / f"{service}.out").read_text(errors="replace")[-3000:]
            assert time.monotonic() < deadline, f"{service} is not healthy after {SECONDS} s: {wrote}"
            time.sleep(1)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """With the secrets of a first start, and the database that they name."""
    subprocess.run([DOCKER / "first-start.sh", tmp_path / "secrets"], check=True, capture_output=True)
    for folder in ("airflow", "logs", "scratch", "etc"):
        (tmp_path / folder).mkdir()
    with postgres_server() as address:
        database = tmp_path / "secrets" / "airflow_database"
        database.chmod(0o600)
        database.write_text(f"postgresql+psycopg2://shop:{QUOTED}@{address}/postgres")
        found = Machine(tmp_path, free_port())
        (tmp_path / "etc" / "settings.toml").write_text(found.here((DOCKER / "settings.toml").read_text()))
        yield found
    shutil.rmtree(tmp_path)


def test_airflow_comes_up_as_composed(machine: Machine) -> None:
    """After airflow-init, all four processes become healthy by their own checks; the generated login opens the API, and no other;
    both DAGs are read, the pool is there, and a task runs (the next one finds no release to go back from, and fails).
    """
    machine.run("airflow-init")
    with ExitStack() as stack:
        for service in PROCESSES:
            stack.enter_context(machine.process(service))
        deadline = time.monotonic() + SECONDS
        for service in PROCESSES:
            machine.await_health(service, deadline)
        password = json.loads((machine.root / "secrets" / "airflow_passwords.json").read_text())["admin"]
        url = f"http://127.0.0.1:{machine.port}"
        client = stack.enter_context(closing(Client(url, "admin", password)))
        assert client.call("GET", "pools/relevance_gpu")["slots"] == 1
        while not all(client.has_dag(dag) for dag in ("relevance_retrain", "relevance_rollback")):
            assert time.monotonic() < deadline, client.import_errors()
            time.sleep(1)
        client.unpause("relevance_rollback")
        client.trigger("relevance_rollback", "try", {"why": "a try"})
        while client.run_state("relevance_rollback", "try") != "failed":
            assert time.monotonic() < deadline, client.task_instances("relevance_rollback", "try")
            time.sleep(1)
        states = {task["task_id"]: task["state"] for task in client.task_instances("relevance_rollback", "try")}
        assert states == {"verify": "failed", "move": "upstream_failed"}
        assert httpx.post(f"{url}/auth/token", json={"username": "admin", "password": "admin"}).status_code == 401
        assert httpx.get(f"{url}/api/v2/dags").status_code == 401
