"""The log on stderr: its lines, its levels, and bars on a terminal."""

from __future__ import annotations

import io
import logging
import pickle
import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from relevance_core.cli import console
from relevance_core.cli.console import Bar, Lines, ToStderr

LOG = logging.getLogger("relevance_core.some.module")


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_line_has_a_clock_and_a_warning_its_level(capsys: pytest.CaptureFixture[str]) -> None:
    """INFO is a message, WARNING and ERROR are named, DEBUG is left out; calling twice shows nothing twice."""
    console.log_to_stderr()
    console.log_to_stderr()
    LOG.debug("not this")
    LOG.info("%d rows", 3)
    LOG.warning("odd")
    LOG.error("bad")
    lines = capsys.readouterr().err.splitlines()
    assert [re.sub(r"^\[ {0,6}\d+\.\d s\] ", "", line) for line in lines] == ["3 rows", "WARNING: odd", "ERROR: bad"]
    assert all(len(line.partition("]")[0]) == len("[   12.3 s") for line in lines)


def test_an_exception_has_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """It follows the line."""
    console.log_to_stderr()
    try:
        raise ValueError("why")
    except ValueError:
        LOG.exception("it broke")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("] ERROR: it broke")
    assert lines[-1] == "ValueError: why"


def test_the_clock_travels() -> None:
    """A formatter that went to another process counts from the same moment: a record of second 105 is 5 s old to a start at 100."""
    lines = pickle.loads(pickle.dumps(Lines(100.0)))  # noqa: S301 - made here
    record = logging.LogRecord("relevance_core", logging.INFO, "", 0, "text", None, None)
    record.created = 105.0
    assert lines.format(record) == "[    5.0 s] text"


def test_a_bar_counts_and_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins at what is done already, shows the count and the note, and leaves an empty line; a line of the log stands whole."""
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    console.log_to_stderr()
    with Bar("step", 10, 4) as bar:
        assert "4/10" in stream.getvalue()
        time.sleep(0.15)  # a bar is drawn ten times a second at most
        bar.at(7, "loss 0.3")
        assert re.search(r"step:  70%.*7/10.*loss 0\.3", stream.getvalue())
        LOG.info("checkpoint written")
    assert re.search(r"\r\[ +\d+\.\d s\] checkpoint written\n", stream.getvalue())
    assert stream.getvalue().rsplit("\r", 2)[1].strip() == ""


@pytest.mark.parametrize("terminal", [True, False])
def test_bars_are_for_people(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long work gets the bar on a terminal alone."""
    given: list[Callable[..., Any]] = []
    monkeypatch.setattr("sys.stderr", Terminal() if terminal else io.StringIO())
    monkeypatch.setattr(console, "set_progress", given.append)
    console.show_bars()
    assert given == ([Bar] if terminal else [])


def test_the_handler_writes_to_the_stderr_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever took its place since the handler was made."""
    handler = ToStderr()
    monkeypatch.setattr("sys.stderr", io.StringIO())
    handler.emit(logging.LogRecord("x", logging.INFO, "", 0, "here", None, None))
    assert handler.stream.getvalue() == "here\n"
