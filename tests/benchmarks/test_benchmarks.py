"""The benchmarks, at a size that only shows that they still run."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from benchmarks import turns
from benchmarks.__main__ import TURNS, benchmarks, table
from benchmarks.turns import Benchmark, Side, in_turns, missed
from tests.support.places import PROJECT

_PART_OF_ANOTHER = {"benchmarks.nights:first"}


def test_the_ratio_is_above_one_where_ours_is_better() -> None:
    """30 pairs/s against 10 are three times better, and so are 10 seconds against 30."""
    speed, time = (Benchmark("x", unit, "a:ours", "a:peer", "them") for unit in ("pairs/s", "s"))
    assert speed.ratio(30, 10) == 3
    assert time.ratio(10, 30) == 3


def test_sides_take_turns_and_the_median_round_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ratios of 2, 4 and 3: the figure is 3, the spread two thirds of it; every second round goes backwards, a shared side once."""
    asked: list[str] = []
    figures = {"a:ours": iter((20.0, 40.0, 30.0)), "a:peer": iter((10.0, 10.0, 10.0)), "a:other": iter((5.0,))}

    def side(name: str, size: turns.Size) -> Side:
        asked.append(name)
        return Side(next(figures[name]), peak_mb={"a:ours": 5.0, "a:peer": 7.0, "a:other": 1.0}[name])

    monkeypatch.setattr(turns, "side", side)
    benchmarks = [
        Benchmark("x", "pairs/s", "a:ours", "a:peer", "them", wanted=4),
        Benchmark("y", "pairs/s", "a:ours", "a:other", "others", wanted=4, rounds=1),
    ]
    found, other = in_turns(benchmarks, 3, "full")
    assert asked == ["a:ours", "a:peer", "a:other", "a:peer", "a:ours", "a:ours", "a:peer"]
    assert (found["ratio"], found["ratios"], found["spread"]) == (3.0, [2.0, 4.0, 3.0], 2 / 3)
    assert (found["ours"], found["peer"], found["peak_mb"], found["peer_peak_mb"]) == (30.0, 10.0, 5.0, 7.0)
    assert (other["ratios"], other["peak_mb"]) == ([4.0], 5.0)
    assert missed([found, other]) == ["x: 3.00 times, 4 wanted"]
    assert "| x | 30 pairs/s | 10 pairs/s, them | 3.00 (2.00 to 4.00) | ≥ 4 | 5 / 7 |" in table([found])


def test_a_side_is_a_process_that_says_its_figure() -> None:
    """The bound of half a second, said by a process of its own, with the memory that it took."""
    found = turns.side("benchmarks.scheduling:bound_parse", "smoke")
    assert found.figure == 0.5
    assert found.peak_mb > 10


@pytest.mark.slow
@pytest.mark.parametrize("name", TURNS)
def test_a_benchmark_still_runs(name: str) -> None:
    """Every side of the module's benchmarks, on a few rows, one after the other in one process: each says a figure."""
    sides = sorted({side for benchmark in benchmarks(name) for side in (benchmark.ours, benchmark.peer)} - _PART_OF_ANOTHER)
    command = [sys.executable, "-m", "benchmarks.turns", *sides, "--size", "smoke"]
    done = subprocess.run(command, cwd=PROJECT, check=True, timeout=800, stdout=subprocess.PIPE, text=True)
    figures = [json.loads(line)["figure"] for line in done.stdout.splitlines() if line.startswith('{"figure"')]
    assert len(figures) == len(sides)
    assert min(figures) > 0
