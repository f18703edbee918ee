"""The processes of one machine: how new ones start and log, how far work is, and a parallel map over several."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import pickle
import sys
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from typing import Any, Final, Literal, Self, TypeVar

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

_PACKAGE: Final = "relevance_core"
_SECONDS_BETWEEN_LINES: Final = 10.0
_part: ContextVar[str] = ContextVar("part", default="")

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
    starts with the first process and ends with this one; each function that runs in a forked process calls `take_on` first, and
    `log_as` to be heard.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*_IMPORTED])
    return context


def take_on(environment: Mapping[str, str]) -> None:
    """Replaces this process's environment variables, inherited from the fork server, by those of the requesting process."""
    os.environ.clear()
    os.environ.update(environment)


@contextmanager
def part(name: str) -> Iterator[None]:
    """Names a part of the work in every line that a `PartLogger` logs and in every progress of the block.

    The names of nested blocks follow each other: `denoise QC fold-0`. A process of `map_processes` has those of its parent.
    """
    token = _part.set(f"{_part.get()} {name}".lstrip())
    try:
        yield
    finally:
        _part.reset(token)


class PartLogger(logging.LoggerAdapter[logging.Logger]):
    """Logs with the name of the part of the work in front, for modules that several parts call side by side."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """The message after the part's name."""
        name = _part.get()
        return (f"{name}: {msg}" if name else msg), kwargs


@dataclass(frozen=True)
class LogConfig:
    """The logging of a process, for its children.

    Attributes:
        level: of the package's logger.
        outlets: its handlers that write to a standard stream: the stream, the handler's level and its formatter.
        part: the name of the part of the work that the children do.
    """

    level: int
    outlets: tuple[tuple[Literal["stdout", "stderr"], int, logging.Formatter | None], ...]
    part: str


def log_config() -> LogConfig:
    """The logging of this process. Handlers that write elsewhere than to stdout and stderr are left out."""
    outlets: list[tuple[Literal["stdout", "stderr"], int, logging.Formatter | None]] = []
    logger: logging.Logger | None = logging.getLogger(_PACKAGE)
    while logger is not None:
        for handler in logger.handlers:
            stream = getattr(handler, "stream", None)
            if stream is not None and stream in (sys.stderr, sys.stdout):
                outlets.append(("stderr" if stream is sys.stderr else "stdout", handler.level, _portable(handler.formatter)))
        logger = logger.parent if logger.propagate else None
    return LogConfig(logging.getLogger(_PACKAGE).getEffectiveLevel(), tuple(outlets), _part.get())


def _portable(formatter: logging.Formatter | None) -> logging.Formatter | None:
    """Returns the formatter if it can travel to another process; those of structlog, which Airflow sets, hold locks."""
    try:
        pickle.dumps(formatter)
    except (TypeError, AttributeError, pickle.PicklingError):
        return None
    return formatter


def log_as(config: LogConfig) -> None:
    """Makes this process, a new one, log as the one that asked for it: to the same streams, in the same format."""
    logger = logging.getLogger(_PACKAGE)
    logger.setLevel(config.level)
    for name, level, formatter in config.outlets:
        handler = logging.StreamHandler(getattr(sys, name))
        handler.setLevel(level)
        handler.setFormatter(formatter)
        logger.addHandler(handler)
    _part.set(config.part)


class Pace:
    """Tells a long computation or wait when its next line in the log is due: every 10 s."""

    def __init__(self) -> None:
        self._begun = self._told = time.monotonic()

    @property
    def seconds(self) -> float:
        """The time since it was made."""
        return time.monotonic() - self._begun

    def due(self) -> bool:
        """Tells whether 10 s have gone by since it was made or last said yes."""
        now = time.monotonic()
        if now - self._told < _SECONDS_BETWEEN_LINES:
            return False
        self._told = now
        return True


class Progress:
    """Logs how far a long computation is and how long it will still take: at most a line every 10 s."""

    def __init__(self, what: str, total: int, done: int = 0) -> None:
        """Begins.

        Args:
            what: is counted, such as `step`; the part of the work stands in front of it.
            total: how many there will be.
            done: how many there are already.
        """
        self.what, self.total, self.begun = what, total, done
        self._pace = Pace()

    def at(self, done: int, note: str = "") -> None:
        """Tells how many are done by now; `note` is told with it."""
        if done <= self.begun or not self._pace.due():
            return
        left = round(self._pace.seconds / (done - self.begun) * (self.total - done))
        log.info("%s %d of %d, %d:%02d left%s", self.what, done, self.total, left // 60, left % 60, note and f", {note}")

    def close(self) -> None:
        """Ends it, finished or not."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


ProgressFactory = Callable[[str, int, int], Progress]
"""Takes `what`, `total` and `done` of `Progress`."""

_progress: ProgressFactory = Progress


def set_progress(factory: ProgressFactory) -> None:
    """Makes `open_progress` of this process show progress another way, as bars on a terminal; `Progress` is the default."""
    global _progress
    _progress = factory


def open_progress(what: str, total: int, done: int = 0) -> Progress:
    """The progress of a long computation, as this process shows it. Args: as of `Progress`."""
    name = _part.get()
    return _progress(f"{name}: {what}" if name else what, total, done)


def _begin(environment: Mapping[str, str], logs: LogConfig) -> None:
    take_on(environment)
    log_as(logs)


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
    with ProcessPoolExecutor(most, forked(), _begin, (dict(os.environ), log_config())) as pool:
        return list(pool.map(function, items))
