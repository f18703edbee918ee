"""`relevance serve` as a separate process that outlives its starter."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from relevance_core.config import ServingSettings
from relevance_core.errors import ServingError
from relevance_core.serving.launch import STOP_SECONDS

_LAST_LINES = 15
_STOP_SECONDS = STOP_SECONDS + 15


@dataclass(frozen=True)
class Supervisor:
    """A running `relevance serve` and the server's address."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    @classmethod
    def start(cls, store: str, base: str, settings: ServingSettings) -> Self:
        """Starts it on a free port of this machine.

        Args:
            store: the registry's address.
            base: the name of a version whose base it shall run.
            settings: of serving.
        """
        from relevance_core.machine import free_port

        port, log = free_port(), Path(tempfile.mkdtemp(prefix="relevance-serve-")) / "serve.log"
        command = [sys.executable, "-m", "relevance_core", "serve", "--store", store, "--base", base, "--port", str(port)]
        command += ["--until-replaced", "--set", f"serving={settings.model_dump_json()}"]
        with log.open("wb") as stream:
            process = subprocess.Popen(command, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL, start_new_session=True)
        return cls(process, f"http://127.0.0.1:{port}", log)

    def require_alive(self) -> None:
        """Raises ServingError, with the last lines of its log, when it has ended."""
        if self.process.poll() is not None:
            told = "\n".join(self.log.read_text(errors="replace").splitlines()[-_LAST_LINES:])
            raise ServingError(f"`relevance serve` ended with status {self.process.returncode}:\n{told}", where=str(self.log))

    def stop(self) -> None:
        """Asks it to end, and its server with it; kills both when they do not."""
        if self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
