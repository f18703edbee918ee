"""Progress and logs on stderr: lines with a clock, and bars where a person looks on."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from typing import Any, Final, TextIO

from relevance_core.cli.results import let_go, plain
from relevance_core.errors import RelevanceError
from relevance_core.processes import Progress, set_progress

_STARTED: Final = time.time()
_PACKAGE: Final = logging.getLogger("relevance_core")


class Lines(logging.Formatter):
    """`[   12.3 s] message`: the seconds since the command began, and the level before the message from WARNING on.

    It travels to child processes, whose lines count from the same moment.
    """

    def __init__(self, started: float) -> None:
        super().__init__()
        self.started = started

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        """The line of a record; a traceback follows on lines of its own."""
        level = f"{record.levelname}: " if record.levelno >= logging.WARNING else ""
        return f"[{record.created - self.started:7.1f} s] {level}{record.message}"


class ToStderr(logging.StreamHandler[Any]):
    """Writes to what stderr is at that moment, above the bars. Where nobody reads it any more, the command goes on in silence."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        """The stderr of now."""
        return sys.stderr

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one record."""
        try:
            with _bars_aside(sys.stderr):
                sys.stderr.write("".join(plain(line) + "\n" for line in self.format(record).split("\n")))
                sys.stderr.flush()
        except OSError:
            let_go(sys.stderr)
        except Exception:
            self.handleError(record)


class Bar(Progress):
    """A bar on stderr that leaves no trace when it is done; takes the calls of the progress that logs lines."""

    def __init__(self, what: str, total: int, done: int = 0) -> None:
        """Begins.

        Args:
            what: is counted, such as `step`.
            total: how many there will be.
            done: how many there are already.
        """
        from tqdm import tqdm

        super().__init__(what, total, done)
        self._bar = tqdm(desc=what, total=total, initial=done, file=sys.stderr, leave=False, dynamic_ncols=True)

    def at(self, done: int, note: str = "") -> None:
        """Shows how many are done by now, and `note` behind it."""
        if note:
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Takes it from the screen."""
        self._bar.close()


def log_to_stderr() -> None:
    """Sends the package's logs from INFO on to stderr. A second call changes nothing."""
    if not any(isinstance(handler, ToStderr) for handler in _PACKAGE.handlers):
        handler = ToStderr()
        handler.setFormatter(Lines(_STARTED))
        _PACKAGE.addHandler(handler)
        _PACKAGE.setLevel(logging.INFO)


def show_bars() -> None:
    """Shows long work as bars where stderr is a terminal; elsewhere it stays with lines."""
    if sys.stderr.isatty():
        set_progress(Bar)


def fail(called: str, error: RelevanceError | str) -> None:
    """The last line of a command that fails: `relevance COMMAND: what; where; expected; what to do`, after all of its output."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # AttributeError: there is no stdout
        sys.stdout.flush()
    try:
        sys.stderr.write(f"{called}: {plain(' '.join(str(error).split()))}\n")
        sys.stderr.flush()
    except OSError:  # nobody reads it, or its disk is full: the status says it all the same
        let_go(sys.stderr)


def _bars_aside(stream: TextIO) -> contextlib.AbstractContextManager[None]:
    """Takes bars from the screen while a line is written."""
    if "tqdm" not in sys.modules or not stream.isatty():
        return contextlib.nullcontext()
    from tqdm import tqdm

    return tqdm.external_write_mode(file=stream)
