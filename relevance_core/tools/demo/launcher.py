"""Starts and stops a whole small Airflow: SQLite, LocalExecutor, loopback only, a generated password.

Airflow is four processes (API server, scheduler, DAG processor, triggerer), each a process group of its own with its log in
`<home>/logs/`. Their ids stand in `<home>/processes.json`, so that a later command finds and stops them. Linux only: the processes
that belong to it are found by their environment in /proc.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from relevance_core.errors import ServingError
from relevance_core.machine import free_port, require_free
from relevance_core.tools.demo.client import AirflowError, Client

log = logging.getLogger(__name__)

COMPONENTS = {
    "api-server": ("api-server", "--workers", "1"),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}
"""Process → its command line. Without --skip-serve-logs, scheduler and triggerer would listen on every interface."""

START_SECONDS = 180.0
STOP_SECONDS = 15.0
USER = "admin"


@dataclass(frozen=True)
class Airflow:
    """An Airflow in a folder. `environment`: its tasks' variables beside Airflow's own."""

    home: Path
    project: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    _children: list[subprocess.Popen[bytes]] = field(default_factory=list, init=False, repr=False, compare=False)

    def start(self, port: int) -> Client:
        """Starts Airflow, or finds it running. `port`: the UI's; a free one is taken, and said, where that is in use.

        Returns a client that is logged in, once every process is healthy. Raises AirflowError with the log's tail.
        """
        if self.running():
            log.info("Airflow is running already at %s", self.login()["url"])
            return self.client()
        self.stop()
        port = ui_port(port)
        self._write_login(port)
        variables = self.variables(port)
        self._check(["db", "migrate"], variables)
        processes = {name: self._spawn(name, arguments, variables) for name, arguments in COMPONENTS.items()}
        _write_private(self.home / "processes.json", json.dumps(processes))
        return self._wait()

    def stop(self) -> None:
        """Ends Airflow and every process of its tasks: SIGTERM first, SIGKILL after a while. Does nothing where none runs."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + STOP_SECONDS
            for pid in self._alive():
                _send(pid, number)
            while self._alive() and time.monotonic() < deadline:
                time.sleep(0.1)
        while self._children:
            self._children.pop().wait()
        (self.home / "processes.json").unlink(missing_ok=True)

    def running(self) -> bool:
        """Tells whether all of its processes run."""
        file = self.home / "processes.json"
        if not file.exists():
            return False
        return set(json.loads(file.read_text()).values()) <= set(self._alive())

    def client(self) -> Client:
        """Returns a client of the running Airflow, logged in."""
        login = self.login()
        return Client(login["url"], login["user"], login["password"])

    def login(self) -> dict[str, str]:
        """Returns `url`, `user` and `password` of the UI."""
        return dict(line.split(" ", 1) for line in self.login_file.read_text().splitlines())

    @property
    def login_file(self) -> Path:
        """The file with the generated login, readable by this user only."""
        return self.home / "login.txt"

    def variables(self, port: int) -> dict[str, str]:
        """Returns the environment of every process of this Airflow, without another Airflow's variables."""
        own = {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW", "RELEVANCE_"))}
        path = f"{Path(sys.executable).parent}{os.pathsep}{own.get('PATH', os.defpath)}"
        return own | {
            "PATH": path,
            "AIRFLOW_HOME": str(self.home),
            "SPT_NOENV": "1",  # keeps the environment readable of a process that renames itself: `_alive` knows it by that
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.project / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(self.project / "plugins"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.home / "passwords.json"),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": own.get("LOG_LEVEL", "INFO").upper(),  # a name in lower case crashes every component
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",  # at 0.1 the scheduler takes a fifth of a core
            **self.environment,
        }

    def _write_login(self, port: int) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        password = secrets.token_urlsafe(12)
        _write_private(self.home / "passwords.json", json.dumps({USER: password}))
        _write_private(self.login_file, f"url http://127.0.0.1:{port}\nuser {USER}\npassword {password}\n")

    def _check(self, arguments: list[str], variables: Mapping[str, str]) -> None:
        """Runs an Airflow command to its end. Raises AirflowError with the end of its output."""
        command = [sys.executable, "-m", "airflow", *arguments]
        done = subprocess.run(command, env=dict(variables), capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stdout + done.stderr)[-2000:]
            raise AirflowError(f"`airflow {' '.join(arguments)}` ended with {done.returncode}", where=said)

    def _spawn(self, name: str, arguments: tuple[str, ...], variables: Mapping[str, str]) -> int:
        log = self._log(name)
        log.parent.mkdir(exist_ok=True)
        with log.open("ab") as stream:
            command = [sys.executable, "-m", "airflow", *arguments]
            process = subprocess.Popen(
                command, env=dict(variables), stdout=stream, stderr=stream, stdin=subprocess.DEVNULL, start_new_session=True
            )
        self._children.append(process)
        return process.pid

    def _log(self, name: str) -> Path:
        return self.home / "logs" / f"{name}.log"

    def _wait(self) -> Client:
        """Waits until every process is healthy. Raises AirflowError with the log's tail."""
        deadline = time.monotonic() + START_SECONDS
        client = self.client()
        while not client.healthy():
            alive = set(self._alive())
            dead = [name for name, pid in json.loads((self.home / "processes.json").read_text()).items() if pid not in alive]
            if dead or time.monotonic() > deadline:
                name = next(iter(dead), "api-server")
                client.close()
                tail = "\n".join(self._log(name).read_text(errors="replace").splitlines()[-20:])
                self.stop()
                raise AirflowError(f"Airflow's {name} did not come up", where=f"{self._log(name)}\n{tail}")
            time.sleep(0.5)
        return client

    def _alive(self) -> list[int]:
        """Lists every process whose environment names this home: Airflow's own, its workers, and their tasks' processes."""
        mark = f"AIRFLOW_HOME={self.home}".encode()
        return [pid for pid in _processes() if mark in _environment(pid) and pid != os.getpid()]


def ui_port(wanted: int) -> int:
    """Returns `wanted` if nothing listens there on loopback, else a free port, and logs it; 0 means any."""
    if wanted == 0:
        return free_port()
    try:
        require_free("127.0.0.1", wanted)
    except ServingError:
        found = free_port()
        log.info("port %s is in use; the UI takes %s", wanted, found)
        return found
    return wanted


def _processes() -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            yield int(entry.name)


def _environment(pid: int) -> list[bytes]:
    """Returns the environment that a process was started with; empty for one that is gone, finished, or another user's."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return []


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # it has ended by itself since it was listed


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)
