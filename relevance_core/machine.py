"""This machine: its environment with vLLM and the values that vLLM takes, its GPUs, ports, process groups, and scratch folder."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from relevance_core.config import ServingSettings
from relevance_core.errors import ServingError, SettingsError

ENVIRONMENT: Final = ".venv-serving"
VLLM_ON_CPU: Final[Mapping[str, str]] = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
    # Bound threads would use the same cores for every process of a machine, and each spins while it waits for work.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}
"""Environment variables of a vLLM process on the CPU, where they are not set already."""
_LORA_RANKS: Final = (8, 16, 32, 64, 128, 256, 320, 512)
"""The values that vLLM takes as the largest rank of its adapters."""
_DRIVER: Final = Path("/dev/nvidiactl")
_CLEARING_SECONDS: Final = 5.0
_COUNT: Final = "import torch; print(torch.cuda.device_count())"


def python_of(settings: ServingSettings) -> Path | None:
    """Returns the interpreter of the environment that has vLLM (`serving.python`); None where there is none.

    auto: this interpreter if it has vLLM, else that of `.venv-serving` beside this environment's folder. Empty: None in any case.
    Raises SettingsError for a named interpreter that does not exist.
    """
    if not settings.python:
        return None
    if settings.python != "auto":
        named = Path(settings.python).expanduser()
        if not named.is_file():
            raise SettingsError(
                "there is no such interpreter", where=f"serving.python = {settings.python}", expected="Python with vLLM, or auto"
            )
        return named.absolute()
    if importlib.util.find_spec("vllm") is not None:
        return Path(sys.executable)
    beside = Path(sys.prefix).parent / ENVIRONMENT / "bin" / "python"
    return beside if beside.is_file() else None


def require_python(settings: ServingSettings) -> Path:
    """Returns what `python_of` does; raises SettingsError where that is None."""
    python = python_of(settings)
    if python is None:
        raise SettingsError(
            "no environment with vLLM is here",
            where=f"serving.python = {settings.python or repr('')}",
            expected=f"vllm beside this package, or an environment {ENVIRONMENT} beside {sys.prefix}",
            do="`make install-serving` sets up the CPU build; on a GPU machine install vllm and this package into one environment",
        )
    return python


def gpus_of(python: Path) -> int:
    """Returns the number of GPUs usable by an environment's torch; 0 for a build without CUDA or a machine without NVIDIA's driver.

    Raises ServingError when that torch can't be asked.
    """
    if not _DRIVER.exists():
        return 0
    asked = subprocess.run([str(python), "-c", _COUNT], capture_output=True, text=True, check=False)
    if asked.returncode:
        raise ServingError("the GPUs can't be counted", where=str(python), expected=f"a number; it wrote: {asked.stderr[-500:]}")
    return int(asked.stdout.split()[-1])


def parallel_of(folder: Path, gpus: int) -> int:
    """Returns the most of `gpus` GPUs that divide a model's attention heads evenly (vLLM's tensor parallelism)."""
    config = config_of(folder)
    heads = int(config["num_attention_heads"])
    shared = int(config.get("num_key_value_heads") or heads)
    return max(n for n in range(1, gpus + 1) if heads % n == 0 and (shared % n == 0 or n % shared == 0))


def lora_limit(rank: int) -> int:
    """Returns the least value that vLLM takes as the largest rank of its adapters and that allows `rank`; 512 for all above."""
    return next((limit for limit in _LORA_RANKS if limit >= rank), _LORA_RANKS[-1])


def config_of(folder: Path) -> dict[str, Any]:
    """Returns a base model's config.json. Raises ServingError where there is none."""
    path = folder / "config.json"
    try:
        return dict(json.loads(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise ServingError(
            f"the base model has no config.json: {error}", where=str(folder), do="save it with save_pretrained"
        ) from error


def free_port(host: str = "127.0.0.1") -> int:
    """Returns a port on which nothing listens at the moment."""
    with socket.create_server((host, 0)) as listener:
        return int(listener.getsockname()[1])


def require_free(host: str, port: int) -> None:
    """Raises ServingError when something listens there: a new server would die, and the old one would answer in its place."""
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        raise ServingError(
            f"the address can't be taken: {error.strerror}",
            where=f"{host}:{port}",
            expected="a free port",
            do="give another --port",
        ) from error


def kill_group(group: int) -> None:
    """Kills every process of a group, and returns once none is left.

    Python's resource trackers are left for last: they end by themselves, after freeing the shared memory that the others leave
    behind.
    """
    for pid in members(group):
        with suppress(OSError):  # it ended meanwhile
            if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + _CLEARING_SECONDS
    while members(group):
        if time.monotonic() > deadline:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        time.sleep(0.02)


def members(group: int) -> list[int]:
    """Returns the running processes of a group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            state, _, its = path.read_text().rpartition(")")[2].split()[:3]
            if int(its) == group and state not in "ZX":
                found.append(int(path.parent.name))
    return found


def scratch(kind: str) -> Path:
    """Returns this machine's folder for caches ("cache") or unfinished work ("work") in RELEVANCE_SCRATCH or ~/.cache/relevance.

    Raises SettingsError where it can't be made or written to.
    """
    path = Path(os.environ.get("RELEVANCE_SCRATCH") or "~/.cache/relevance") / kind
    try:
        path = path.expanduser()
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
        raise SettingsError(
            f"the scratch folder can't be used: {getattr(error, 'strerror', None) or error}",
            where=str(path),
            expected="a folder that this user may write to",
            do="set RELEVANCE_SCRATCH to such a folder",
        ) from error
    return path
