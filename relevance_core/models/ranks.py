"""One training in several processes of a machine, each with a GPU of its own (on a CPU: with its own threads)."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import distributed
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, start_processes

from relevance_core.errors import ModelError
from relevance_core.processes import LogConfig, forked, log_as, log_config, take_on

Item = TypeVar("Item")


@dataclass(frozen=True)
class Rank:
    """The number of this process among those of a training."""

    number: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """True for the rank that logs and writes."""
        return self.number == 0

    def part(self, batch: Sequence[Item]) -> Sequence[Item]:
        """Returns this process's items of a batch: every count-th one."""
        return batch[self.number :: self.count]


def run_ranks(function: Callable[..., None], arguments: tuple[Any, ...], count: int, device: torch.device) -> None:
    """Calls `function(Rank, *arguments)` in `count` further processes, a process group of torch.distributed as torchrun makes it.

    Args:
        function: is pickled.
        arguments: are pickled.
        count: of processes.
        device: cuda, which gives each process the GPU of its number, or cpu.

    Raises:
        ModelError: a process failed; has its error. The others are ended.
    """
    # CUDA does not work in a forked process once any library has initialised its driver.
    method = "spawn" if device.type == "cuda" else forked().get_start_method()
    with tempfile.TemporaryDirectory() as folder:
        job = (dict(os.environ), log_config(), function, arguments, count, device.type, Path(folder))
        try:
            start_processes(_rank, job, nprocs=count, start_method=method)  # type: ignore[no-untyped-call]
        except (ProcessRaisedException, ProcessExitedException) as error:
            lines = str(error).strip().splitlines()
            raise ModelError(
                f"a process of the training failed: {lines[-1]}",
                where=f"engine.gpus = {count}",
                do="run it with engine.gpus=1, which shows where",
            ) from error


def _rank(
    number: int,
    environment: dict[str, str],
    logs: LogConfig,
    function: Callable[..., None],
    arguments: tuple[Any, ...],
    count: int,
    device: str,
    folder: Path,
) -> None:
    take_on(environment)
    if number == 0:
        log_as(logs)
    ranks = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    os.environ |= {name: str(value) for name, value in ranks.items()}
    # All processes are on this machine; accelerate would choose the number of threads by itself.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if device == "cuda":
        torch.cuda.set_device(number)
    backend = "nccl" if device == "cuda" else "gloo"
    distributed.init_process_group(backend, init_method=f"file://{folder}/meeting", rank=number, world_size=count)
    try:
        function(Rank(number, count), *arguments)
    finally:
        distributed.destroy_process_group()
