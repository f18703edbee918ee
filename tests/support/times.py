"""How long the tests of each folder took, told at the end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import PurePosixPath

import pytest


class FolderTimes:
    """A plugin of pytest that adds up what tests and their fixtures took, by folder; under xdist those of all processes."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Is called for setup, call and teardown of each test; under xdist in the process that gathers them, too."""
        self.seconds[folder_of(report.nodeid)] += report.duration

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Is called once, by the process that a person started."""
        if len(self.seconds) > 1:
            terminalreporter.section("seconds by folder")
            for line in table(self.seconds):
                terminalreporter.write_line(line)


def folder_of(nodeid: str) -> str:
    """`tests/stages/test_mine.py::test_x[1/2]` lies in `tests/stages`."""
    return str(PurePosixPath(nodeid.partition("::")[0]).parent)


def table(seconds: Mapping[str, float]) -> list[str]:
    """A line a folder, the longest first, and the total."""
    lines = sorted(seconds.items(), key=lambda one: (-one[1], one[0]))
    return [f"{took:8.1f} s  {folder}" for folder, took in [*lines, ("in all, of all processes together", sum(seconds.values()))]]
