"""The same map over partitions, on the processes of one machine."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0))


def map_processes(function: Callable[[Item], Result], items: Sequence[Item], workers: int = 0) -> list[Result]:
    """`[function(item) for item in items]`, each item in a process of its own when there is more than one worker.

    function: importable by name (it travels to a fresh interpreter). workers: most processes at once; 0 means one a core. The
    results come in the order of the items; the first error of an item is raised here.
    """
    most = min(workers or cores(), len(items))
    if most <= 1:
        return [function(item) for item in items]
    # spawn: a forked child of a process that has used torch's threads hangs.
    with ProcessPoolExecutor(most, mp_context=multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(function, items))
