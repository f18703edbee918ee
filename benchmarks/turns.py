"""Two sides of the same work in turns: what every benchmark here is made of.

A benchmark names two functions, ours and that of what a user would pick instead. Each side of each round is a process of its own,
one after another and never two at once, so that neither has the other's memory, caches or threads, and what the machine does
meanwhile falls on both. A side sets up, warms up, and then says how much it did in a second (or how many seconds it took); its peak
memory is that of its process and its children.

    python -m benchmarks.turns benchmarks.scoring:ours                            one side by itself
    python -m benchmarks.turns benchmarks.rows:ours benchmarks.rows:peer --size smoke     several, to see that they run
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

log = logging.getLogger(__name__)

Size = Literal["full", "smoke"]
"""full: the figures of docs/performance.md; smoke: a few rows, which only shows that the benchmark still runs."""

PROJECT: Final = Path(__file__).resolve().parent.parent
#: One thread a process: the figures are then those of a core, whatever the machine has.
ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}


@dataclass(frozen=True)
class Benchmark:
    """ours, peer: `module:function`, a function of the size that returns the side's figure.

    unit: one that ends with `/s` is better when larger, any other (seconds, MB) when smaller; the ratio is above 1 where ours is
    better, either way. wanted: the least ratio that is held to; None for one that is only told.
    """

    name: str
    unit: str
    ours: str
    peer: str
    peer_name: str
    wanted: float | None = None
    rounds: int = 3

    def ratio(self, ours: float, peer: float) -> float:
        """How many times better ours is."""
        return ours / peer if self.unit.endswith("/s") else peer / ours


@dataclass(frozen=True)
class Side:
    """What one process of a side said."""

    figure: float
    peak_mb: float


def side(name: str, size: Size) -> Side:
    """Runs one side in a process of its own. Its output goes to this one's stderr."""
    command = [sys.executable, "-m", "benchmarks.turns", name, "--size", size]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=PROJECT, env=ONE_THREAD | dict(os.environ))
    return Side(**json.loads(done.stdout.splitlines()[-1]))


def in_turns(benchmarks: Sequence[Benchmark], rounds: int, size: Size) -> list[dict[str, Any]]:
    """Measures the sides of several benchmarks, round by round: the entries of `results.json`.

    A side that several benchmarks share is measured once a round. rounds: most of them; a benchmark may ask for fewer. ours, peer:
    medians of the rounds. ratios: of each round; ratio: their median; spread: their range as a share of it. peak_mb, peer_peak_mb:
    the largest memory that a process of the side held, in MB.
    """
    measured: dict[str, list[Side]] = {}
    for number in range(rounds):
        names = list(dict.fromkeys(name for one in benchmarks if number < one.rounds for name in (one.ours, one.peer)))
        # Whoever goes second may find files in the machine's cache: they take turns in that too.
        for name in names if number % 2 == 0 else reversed(names):
            measured.setdefault(name, []).append(side(name, size))
            last = measured[name][-1]
            log.info("%s, round %d: %.4g, %.0f MB", name, number + 1, last.figure, last.peak_mb)
    return [_entry(one, measured[one.ours][: one.rounds], measured[one.peer][: one.rounds]) for one in benchmarks]


def _entry(benchmark: Benchmark, ours: Sequence[Side], peer: Sequence[Side]) -> dict[str, Any]:
    ratios = [benchmark.ratio(mine.figure, theirs.figure) for mine, theirs in zip(ours, peer, strict=True)]
    return {
        "name": benchmark.name,
        "unit": benchmark.unit,
        "ours": statistics.median(side.figure for side in ours),
        "peer": statistics.median(side.figure for side in peer),
        "peer_name": benchmark.peer_name,
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "spread": (max(ratios) - min(ratios)) / statistics.median(ratios),
        "peak_mb": max(side.peak_mb for side in ours),
        "peer_peak_mb": max(side.peak_mb for side in peer),
        "wanted": benchmark.wanted,
    }


def missed(results: Iterable[dict[str, Any]]) -> list[str]:
    """A line for each benchmark whose ratio is below what is wanted of it."""
    below = (result for result in results if result["wanted"] is not None and result["ratio"] < result["wanted"])
    return [f"{result['name']}: {result['ratio']:.2f} times, {result['wanted']:g} wanted" for result in below]


def peak_mb() -> float:
    """The largest resident memory that this process, or one of its children, has held, in MB (2^20 bytes)."""
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024


def log_to_stderr() -> None:
    """Shows the log of the benchmarks on stderr, line by line as it is."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("benchmarks").setLevel(logging.INFO)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs sides here, one after the other, and prints the figure of each as a line of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sides", nargs="+", metavar="MODULE:FUNCTION")
    parser.add_argument("--size", choices=get_args(Size), default="full")
    options = parser.parse_args(arguments)
    for name in options.sides:
        module, _, function = name.partition(":")
        figure = getattr(importlib.import_module(module), function)(options.size)
        print(json.dumps({"figure": figure, "peak_mb": round(peak_mb(), 1)}), flush=True)


if __name__ == "__main__":
    main()
