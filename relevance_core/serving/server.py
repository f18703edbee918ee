"""A vLLM server of this machine: its command, its environment, and its process from the start to the end.

The process leads a process group of its own, so that the engine's processes end with it, and it ends when this process does.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from relevance_core.config import ServingSettings
from relevance_core.errors import ServingError, SettingsError
from relevance_core.machine import (
    VLLM_ON_CPU,
    config_of,
    gpus_of,
    kill_group,
    lora_limit,
    parallel_of,
    require_free,
    require_python,
)
from relevance_core.processes import Pace
from relevance_core.registry import BaseInfo, Manifest
from relevance_core.serving.launch import STOP_SECONDS
from relevance_core.store import Store
from relevance_core.translators import Machine

log = logging.getLogger(__name__)
Device = Literal["cpu", "cuda"]

CPU_DEFAULTS: Final[Mapping[str, str]] = {
    **VLLM_ON_CPU,
    # Else the first request waits for a C++ compiler, which must be installed, to build a small function of the sampler.
    "TORCHDYNAMO_DISABLE": "1",
}
IN_ENGINE: Final = "vllm.v1.executor.uniproc_executor.UniProcExecutor"
"""The executor by its path: the CPU build takes the name `uni` for `mp`, to bind threads, which `nobind` switches off."""
_LEAST_TOKENS: Final = 512
_DRAIN_SECONDS: Final = 10
_LAST_LINES: Final = 30
_POLL_SECONDS: Final = 0.5


@dataclass(frozen=True)
class ServerSpec:
    """The specification of a server.

    store: URI of the registry's store. folder: the base model's, on this machine. gpus: 0 on the CPU; several share the model.
    dtype: float32 or bfloat16. max_tokens: longest prompt and answer. work: for the fetched adapters and the log; removed with the
    server if `temporary`. flags: further flags of vLLM, which take precedence.
    """

    store: str
    base: BaseInfo
    folder: Path
    host: str
    port: int
    device: Device
    gpus: int
    dtype: str
    max_tokens: int
    settings: ServingSettings
    work: Path
    temporary: bool = False
    flags: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """The address at which this machine reaches it."""
        return f"http://{'127.0.0.1' if self.host == '0.0.0.0' else self.host}:{self.port}"  # noqa: S104 - compared, not bound


def spec_for(
    store: Store,
    versions: Sequence[Manifest],
    settings: ServingSettings,
    *,
    host: str = "127.0.0.1",
    port: int,
    gpus: int | None = None,
    work: Path | None = None,
    flags: tuple[str, ...] = (),
) -> ServerSpec:
    """Specifies a server for published versions of one base on this machine; brings the base to a local folder.

    Args:
        store: of the registry.
        versions: the versions that it is started for. It has room for the longest prompt of any, and where `serving.dtype` leaves
            it open, it runs in their dtype.
        settings: of serving.
        host: to bind.
        port: to bind.
        gpus: 0 for the CPU; None for as many as there are and the base's heads can be shared among.
        work: a folder; None for a temporary one.
        flags: further flags of vLLM.

    Raises:
        SettingsError: there is no environment that has vLLM, or fewer GPUs.
        NotFound: a version or its base is not there.
        ModelError: a base can't be opened here.
        RegistryError: a version can't be opened here.
    """
    from relevance_core.scoring.opened import dtype_of, open_version

    there = gpus_of(require_python(settings))
    if gpus is not None and gpus > there:
        raise SettingsError(f"{gpus} GPUs are asked for", where="--gpus", expected=f"at most {there}, which vLLM's torch can use")
    opened = [open_version(store, version, Machine(settings)) for version in versions]
    folder = opened[0].local_base()
    used = gpus if gpus is not None else parallel_of(folder, there) if there else 0
    return ServerSpec(
        store=store.uri,
        base=versions[0].base,
        folder=folder,
        host=host,
        port=port,
        device="cuda" if used else "cpu",
        gpus=used,
        dtype=settings.dtype if settings.dtype != "auto" else dtype_of(versions) or ("bfloat16" if used else "float32"),
        max_tokens=_longest(folder, versions),
        settings=settings,
        work=work or Path(tempfile.mkdtemp(prefix="relevance-server-")),
        temporary=work is None,
        flags=flags,
    )


def _longest(folder: Path, versions: Sequence[Manifest]) -> int:
    """Returns room for the versions' longest prompt and the answer, and more, for versions to come, where the base has it."""
    most = int(config_of(folder).get("max_position_embeddings", _LEAST_TOKENS))
    longest = max(version.prompt.max_tokens or 0 for version in versions)
    return max(longest + 1, min(_LEAST_TOKENS, most))


def command(spec: ServerSpec, python: Path) -> list[str]:
    """Returns the command line of the server; its variables come from `environment`."""
    settings = spec.settings
    words: list[object] = [python, "-m", "relevance_core.serving.launch"]
    words += ["--model", spec.folder, "--served-model-name", spec.base.label, "--generation-config", "vllm"]
    words += ["--host", spec.host, "--port", spec.port, "--middleware", "relevance_core.serving.guard.Guard"]
    words += ["--disable-uvicorn-access-log", "--disable-fastapi-docs", "--shutdown-timeout", _DRAIN_SECONDS]
    words += ["--dtype", spec.dtype, "--max-model-len", spec.max_tokens, "--enable-prefix-caching"]
    words += ["--enable-lora", "--max-lora-rank", lora_limit(settings.max_rank), "--max-loras", settings.slots]
    words += ["--max-cpu-loras", max(settings.slots, settings.cached)]
    if spec.device == "cuda":
        words += ["--tensor-parallel-size", spec.gpus, "--gpu-memory-utilization", 0.9]
    else:
        # The CPU's default block of 128 tokens is longer than most prompts: the prefix cache would never hit.
        words += ["--block-size", 32]
        # One worker needs no process of its own: it would import torch and vLLM once more, and spin between steps.
        words += ["--distributed-executor-backend", IN_ENGINE]
    return [str(word) for word in words] + list(spec.flags)


def environment(spec: ServerSpec, inherited: Mapping[str, str]) -> dict[str, str]:
    """Returns the variables of the server's process: `inherited` (with the store's credentials), vLLM's own, and the plugin's.

    RELEVANCE_SERVING holds the settings of the plugin and the guard, as one JSON object.
    """
    settings = spec.settings
    about = {
        "store": spec.store,
        "base": spec.base.to_json(),
        "base_folder": str(spec.folder),
        "cache": str(spec.work / "adapters"),
        "dtype": spec.dtype,
        "max_rank": settings.max_rank,
        "cached": settings.cached,
        "verify_key": str(Path(settings.verify_key).expanduser().absolute()) if settings.verify_key else "",
    }
    defaults = CPU_DEFAULTS if spec.device == "cpu" else {}
    fixed = {
        "RELEVANCE_SERVING": json.dumps(about, sort_keys=True),
        "VLLM_PLUGINS": "relevance",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    return {**defaults, **inherited, **fixed}


class LocalServer:
    """A running server. Use it in a `with`, which kills it at the end in any case; call `stop` first where it has users."""

    def __init__(self, spec: ServerSpec, process: subprocess.Popen[bytes], log: Path | None) -> None:
        self.spec, self._process, self._log, self._over = spec, process, log, False

    @classmethod
    def start(cls, spec: ServerSpec, python: Path, *, to_file: bool = True) -> Self:
        """Starts the process and returns at once. to_file: True sends its output to server.log in `spec.work`, False to stderr.

        Raises ServingError when the port is taken.
        """
        require_free(spec.host, spec.port)
        spec.work.mkdir(parents=True, exist_ok=True)
        log = spec.work / "server.log" if to_file else None
        # vLLM builds kernels at run time with programs of its own environment.
        path = os.pathsep.join([str(python.parent), os.environ.get("PATH", os.defpath)])
        with log.open("wb") if log else os.fdopen(os.dup(2), "wb") as stream:
            process = subprocess.Popen(
                command(spec, python),
                env=environment(spec, os.environ) | {"PATH": path},
                stdin=subprocess.PIPE,  # held open and never written to: see launch.py
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        return cls(spec, process, log)

    @property
    def url(self) -> str:
        """Its address, for example http://127.0.0.1:8000."""
        return self.spec.url

    @property
    def pid(self) -> int:
        """The id of its process, and of its process group."""
        return self._process.pid

    def alive(self) -> bool:
        """Tells whether its process runs."""
        return self._process.poll() is None

    def wait(self) -> None:
        """Waits until it is healthy. Raises ServingError, with the last lines of its log, when it ends or is too slow."""
        from relevance_core.serving.wire import Server

        pace = Pace()
        with Server(self.url, timeout=5) as server:
            while not server.healthy():
                self.require_alive()
                if pace.seconds > self.spec.settings.start_seconds:
                    raise self._error(f"the server was not ready within {self.spec.settings.start_seconds:g} s")
                if pace.due():
                    log.info("vLLM starts on %s: %.0f s", self.url, pace.seconds)
                time.sleep(_POLL_SECONDS)
        log.info("vLLM is up on %s after %.0f s", self.url, pace.seconds)

    def require_alive(self) -> None:
        """Raises ServingError, with the last lines of its log, when it has ended."""
        if not self.alive():
            raise self._error(f"the server ended with status {self._process.returncode}")

    def stop(self) -> int:
        """Lets it finish the requests in flight and end; kills it when that takes too long. Returns its exit status."""
        if self.alive():
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        return self.kill()

    def kill(self) -> int:
        """Kills every process of its group at once (SIGKILL). Returns its exit status."""
        if not self._over:  # Only once: the id of a group that has ended may be reused.
            kill_group(self.pid)
            self._over = True
        status = self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()
        if self.spec.temporary:
            shutil.rmtree(self.spec.work, ignore_errors=True)
        return status

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()

    def _error(self, what: str) -> ServingError:
        wrote = "\n".join(self._log.read_text(errors="replace").splitlines()[-_LAST_LINES:]) if self._log else "see above"
        return ServingError(f"{what}; the last lines that it wrote:\n{wrote}\n", where=self.url, expected="/health with 200")
