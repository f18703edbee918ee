"""A real PostgreSQL on loopback, started from Debian's packages."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from relevance_core.machine import free_port

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
PASSWORD = "s3cret word@1"
QUOTED = "s3cret%20word%401"

"""PASSWORD as it stands in an address."""

NEEDS_POSTGRES = [
    pytest.mark.postgres,
    pytest.mark.skipif(not BINARIES, reason="needs PostgreSQL's server (Debian's package postgresql)"),
]


def _command(user: str, *arguments: str) -> list[str]:
    """The command as `user`: the server refuses to run as root."""
    own = [] if user == getpass.getuser() else ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    return [*own, *arguments]


@contextmanager
def postgres_server() -> Iterator[str]:
    """A PostgreSQL on a free loopback port with a user whose password needs quoting; yields host:port."""
    # pytest's own temporary folders are closed to the server's user.
    with tempfile.TemporaryDirectory(prefix="relevance-postgres-") as folder:
        yield from _serve(Path(folder))


def _serve(folder: Path) -> Iterator[str]:
    bin_folder, user = BINARIES[-1].parent, "postgres" if os.getuid() == 0 else getpass.getuser()
    (folder / "password").write_text(PASSWORD + "\n")
    if os.getuid() == 0:
        for path in (folder, folder / "password"):
            shutil.chown(path, user, user)
    data, port = folder / "data", free_port()

    def run(name: str, *arguments: str) -> None:
        command = _command(user, str(bin_folder / name), "-D", str(data), *arguments)
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    run(
        "initdb", "-U", "shop", "-A", "scram-sha-256", "--pwfile", str(folder / "password"), "-E", "UTF8", "--locale=C", "--no-sync"
    )
    run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", f"-p {port} -c listen_addresses=127.0.0.1 -k {folder} -F", "start")
    try:
        yield f"127.0.0.1:{port}"
    finally:
        run("pg_ctl", "-m", "immediate", "stop")
