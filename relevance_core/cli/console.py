"""The lines of the log on the command line's stderr."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any, Final

PACKAGE: Final = "relevance_core"
_STARTED: Final = time.time()


class Elapsed(logging.Formatter):
    """`[   12.3 s] text`: the seconds since the command began, and the level's name before what is a warning or worse.

    It travels to child processes, whose lines count from the same moment.
    """

    def __init__(self, started: float) -> None:
        super().__init__()
        self.started = started

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        """The line of a record."""
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        return f"[{record.created - self.started:7.1f} s] {level}{record.message}"


class StderrHandler(logging.StreamHandler[Any]):
    """Writes to what `sys.stderr` is at the time of a line."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        """The standard error of now."""
        return sys.stderr


def log_to_stderr() -> None:
    """Shows the package's log on stderr from INFO on. A second call changes nothing."""
    logger = logging.getLogger(PACKAGE)
    if not any(isinstance(handler, StderrHandler) for handler in logger.handlers):
        handler = StderrHandler()
        handler.setFormatter(Elapsed(_STARTED))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
