"""Random sources through the readers: in-process by the thousand, and some through the command.

    make prove WHAT=door                                            writes benchmarks/results/door.json; goes on where it broke off
    python -m tests.support.fuzzing replay SEED                     a failing seed again
    python -m tests.support.fuzzing table benchmarks/results/door.json    the tables of docs/data.md

A cell is a range of seeds. It keeps counts by kind, the figures that the readers have to reach, and every seed that failed, with
its outcome; the cell itself fails only where the generator is at fault.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.prove.cells import Cell, Evidence
from tests.support.fuzzing import tally

log = logging.getLogger(__name__)

SOURCES: Final = 10_000
OF_A_CELL: Final = 500
BY_COMMAND: Final = 200
"""Sources that go through `relevance stage` too: every fiftieth, so that both ways judge the same ones."""
OF_A_COMMAND_CELL: Final = 20


def evidence() -> Evidence:
    """Cells of 500 seeds in-process, and of 20 through the command."""
    cells = {name: _cell(seeds, ask) for name, (ask, seeds) in plan().items()}
    about = "10,000 random sources through the readers, 200 of them through the command"
    return Evidence(about, (0, SOURCES - 1), cells, Path(__file__))


def plan() -> dict[str, tuple[str, range]]:
    """Returns a cell's key → the way to ask, and the seeds."""
    every = SOURCES // BY_COMMAND
    cells = {}
    for ask, step, count in (("in-process", 1, OF_A_CELL), ("command", every, OF_A_COMMAND_CELL)):
        for first in range(0, SOURCES, step * count):
            seeds = range(first, first + step * count, step)
            cells[f"{ask}, seeds {first} to {seeds[-1]}{f' by {step}' if step > 1 else ''}"] = ask, seeds
    return cells


def _cell(seeds: Sequence[int], ask: str) -> Cell:
    def run(_: Path) -> dict[str, Any]:
        results = []
        for result in tally.watched(seeds, ask):
            results.append(result)
            if not result["right"]:
                log.info(
                    "seed %d, %s: %s: %s",
                    result["seed"],
                    result["fault"] or result["standing"],
                    result["outcome"],
                    result["detail"],
                )
        return tally.summary(results)

    return run
