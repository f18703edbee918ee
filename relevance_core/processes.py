"""The processes of one machine: how new ones start, and a parallel map over several."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.context import ForkServerContext
from typing import Final, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


_IMPORTED: Final = ("peft", "transformers.trainer", "transformers.models.qwen3.modeling_qwen3")
"""Modules whose import takes most of the start of a process that trains or scores."""


def cores() -> int:
    """Returns the number of processors that this process may use."""
    return len(os.sched_getaffinity(0))


def collect_rarely() -> None:
    """Makes Python's garbage collector run less often for the rest of this process.

    By default it scans all objects of torch and transformers repeatedly during their import, which takes a fifth of the import's
    time.
    """
    gc.set_threshold(100_000)


def forked() -> ForkServerContext:
    """Returns the context that starts processes by forking a server process that has only imported the libraries.

    A fork of this process would hang once it has used torch's threads, and a fresh interpreter would import torch again. The server
    starts with the first process and ends with this one; each function that runs in a forked process calls `take_on` first.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*_IMPORTED])
    return context


def take_on(environment: Mapping[str, str]) -> None:
    """Replaces this process's environment variables, inherited from the fork server, by those of the requesting process."""
    os.environ.clear()
    os.environ.update(environment)


def map_processes(function: Callable[[Item], Result], items: Sequence[Item], workers: int = 0) -> list[Result]:
    """Returns `[function(item) for item in items]`, each item in a process of its own when there is more than one worker.

    The results come in the order of the items; the first error of an item is raised here.

    Args:
        function: importable by name, since another process runs it.
        items: picklable.
        workers: most concurrent processes; 0: one per core.
    """
    most = min(workers or cores(), len(items))
    if most <= 1:
        return [function(item) for item in items]
    with ProcessPoolExecutor(most, forked(), take_on, (dict(os.environ),)) as pool:
        return list(pool.map(function, items))
