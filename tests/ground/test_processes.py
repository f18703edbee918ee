"""Processes: where they log, the part of the work that they name, and how far they are."""

from __future__ import annotations

import logging
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from relevance_core.cli.console import Lines
from relevance_core.processes import PartLogger, Progress, log_config, open_progress, part, set_progress

LOG = logging.getLogger("relevance_core.somewhere")


@pytest.mark.slow
def test_children_log_as_their_parent() -> None:
    """A child's line comes once, in its parent's format and level, with the part. Of ranks the first logs, of halves the parent."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.log_cases"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if "denoise QC" in line]
    assert all(re.match(r"\[ {1,6}\d+\.\d s\] ", line) for line in told)
    assert sorted(line.partition("] ")[2] for line in told) == [
        "WARNING: denoise QC: a doubt about 1",
        "WARNING: denoise QC: a doubt about 2",
        "denoise QC: at work on 1",
        "denoise QC: at work on 2",
        "denoise QC: half (0,)",
        "denoise QC: rank 0 of 2",
    ]
    assert done.stdout == ""


@pytest.fixture
def quiet_logger() -> Iterator[logging.Logger]:
    """The package's logger, whose handlers and level are put back."""
    logger = logging.getLogger("relevance_core")
    level, handlers = logger.level, list(logger.handlers)
    yield logger
    logger.setLevel(level)
    logger.handlers = handlers


def test_a_child_gets_the_standard_streams_of_its_parent_alone(
    quiet_logger: logging.Logger, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A handler of stderr travels with its level and format, wherever above the package it hangs; a file's does not."""
    formatter = Lines(7.0)
    stream, file = logging.StreamHandler(sys.stderr), logging.FileHandler(tmp_path_factory.mktemp("log") / "file")
    stream.setFormatter(formatter)
    stream.setLevel(logging.WARNING)
    quiet_logger.setLevel(logging.DEBUG)
    quiet_logger.addHandler(file)
    logging.getLogger().addHandler(stream)
    try:
        with part("mine QC"):
            config = log_config()
    finally:
        logging.getLogger().removeHandler(stream)
        file.close()
    assert (config.level, config.part) == (logging.DEBUG, "mine QC")
    assert [outlet for outlet in config.outlets if outlet[2] is formatter] == [("stderr", logging.WARNING, formatter)]
    assert len(config.outlets) == len(log_config().outlets) + 1


def test_importing_the_package_configures_no_logging() -> None:
    """The package's logger has the null handler of a library, no level, and leaves a warning to whoever asks for it."""
    code = "import logging, relevance_core.serving as s; logger = logging.getLogger('relevance_core'); logger.warning('unheard')\n"
    code += "assert [type(h) for h in logger.handlers] == [logging.NullHandler] and logger.level == 0, logger.handlers\n"
    code += "assert not logging.getLogger().handlers"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_nested_parts_follow_each_other(caplog: pytest.LogCaptureFixture) -> None:
    """A line names the parts that it is logged in, the outer first, and none outside of them."""
    caplog.set_level("INFO", "relevance_core")
    log = PartLogger(LOG)
    with part("denoise QC"):
        with part("fold-0"):
            log.info("%d rows", 3)
        log.info("over")
    log.info("done")
    assert caplog.messages == ["denoise QC fold-0: 3 rows", "denoise QC: over", "done"]


def test_progress_is_a_line_every_ten_seconds(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """After 10 s for 10 of 40 steps 30 s are left; a step 9 s later logs nothing, and the one of 20 s does."""
    caplog.set_level("INFO", "relevance_core")
    clock = [0.0]
    monkeypatch.setattr("relevance_core.processes.time.monotonic", lambda: clock[0])
    with part("train QC"), open_progress("step", 40) as progress:
        for second, done, note in ((10, 10, "loss 0.500"), (19, 18, ""), (20, 20, "")):
            clock[0] = float(second)
            progress.at(done, note)
    assert caplog.messages == ["train QC: step 10 of 40, 0:30 left, loss 0.500", "train QC: step 20 of 40, 0:20 left"]


def test_a_training_that_goes_on_counts_from_where_it_began(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Ten steps in 15 s after 20 of 40 leave 15 s for the last ten, not the 5 s of a count from nothing."""
    caplog.set_level("INFO", "relevance_core")
    clock = [0.0]
    monkeypatch.setattr("relevance_core.processes.time.monotonic", lambda: clock[0])
    progress = open_progress("step", 40, 20)
    clock[0] = 15.0
    progress.at(20)
    progress.at(30)
    assert caplog.messages == ["step 30 of 40, 0:15 left"]


def test_another_progress_can_take_its_place() -> None:
    """A factory that was set gets what is counted, with the part, the total and what is done, and sees the end."""
    told: list[object] = []

    class Bar(Progress):
        def at(self, done: int, note: str = "") -> None:
            told.append(done)

        def close(self) -> None:
            told.append("closed")

    def bar(what: str, total: int, done: int) -> Progress:
        told.append((what, total, done))
        return Bar(what, total, done)

    set_progress(bar)
    try:
        with part("base model"), open_progress("documents", 8, 2) as progress:
            progress.at(3)
    finally:
        set_progress(Progress)
    assert told == [("base model: documents", 8, 2), 3, "closed"]


class Locked(logging.Formatter):
    """A formatter that can't travel, as those of structlog."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.RLock()


def test_a_formatter_that_cannot_travel_is_left_behind() -> None:
    """The outlet of a handler whose formatter holds a lock goes to child processes with the standard format."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Locked())
    logging.getLogger("relevance_core").addHandler(handler)
    assert ("stderr", logging.NOTSET, None) in log_config().outlets
    assert pickle.loads(pickle.dumps(log_config())) == log_config()  # noqa: S301 - what was pickled a moment ago
