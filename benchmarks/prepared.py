"""What a side is given before its clock starts: made in a process of its own, and kept where it takes long."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

from benchmarks.turns import PROJECT

Given = ParamSpec("Given")
Result = TypeVar("Result")


def apart(function: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs) -> Result:
    """`function` in a fresh interpreter, so that what it imports and caches is not there when the clock starts."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args, **kwargs).result()


@contextmanager
def folder() -> Iterator[Path]:
    """A folder for one side of one round. It lies beside the results, so that its files are on a disk and not in memory."""
    out = PROJECT / "benchmarks" / "out"
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="side-", dir=out) as path:
        yield Path(path)


def kept(name: str, make: Callable[[Path], None], *, here: bool = False) -> Path:
    """The folder `name` beside the results, made by `make` where it is missing: apart, or here, where no clock counts."""
    path = PROJECT / "benchmarks" / "out" / "kept" / name
    if not path.exists():
        partial = path.with_name(path.name + ".partial")
        partial.mkdir(parents=True, exist_ok=True)
        make(partial) if here else apart(make, partial)
        partial.rename(path)
    return path
