"""The processes of one machine: how they start, and the same map over partitions on several."""

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
"""What takes most of the seconds in which a process that trains or scores only imports."""


def cores() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0))


def collect_rarely() -> None:
    """Lets Python's collector look for garbage less often, for the rest of this process.

    By default it looks through all of torch and transformers again and again while they are imported, a fifth of that time.
    """
    gc.set_threshold(100_000)


def forked() -> ForkServerContext:
    """How further processes come about: forked from one that has imported the libraries, and done nothing else, for all of them.

    A fork of this one would hang where it has used torch's threads, and a fresh interpreter would import torch anew. What is forked
    from starts with the first of them and ends with this process; what runs in one calls `take_on` first.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*_IMPORTED])
    return context


def take_on(environment: Mapping[str, str]) -> None:
    """Gives this process the variables of the one that asked for it, in the place of those of the one that it was forked from."""
    os.environ.clear()
    os.environ.update(environment)


def map_processes(function: Callable[[Item], Result], items: Sequence[Item], workers: int = 0) -> list[Result]:
    """`[function(item) for item in items]`, each item in a process of its own when there is more than one worker.

    function: importable by name (it travels to another process). workers: most processes at once; 0 means one a core. The
    results come in the order of the items; the first error of an item is raised here.
    """
    most = min(workers or cores(), len(items))
    if most <= 1:
        return [function(item) for item in items]
    with ProcessPoolExecutor(most, forked(), take_on, (dict(os.environ),)) as pool:
        return list(pool.map(function, items))
