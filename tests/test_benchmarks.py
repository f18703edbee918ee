"""The benchmarks, at a size that only shows that they still run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import turns
from benchmarks.__main__ import TURNS, benchmarks, table
from benchmarks.turns import Benchmark, Side, in_turns, missed

PROJECT = Path(__file__).parent.parent


def test_the_ratio_is_above_one_where_ours_is_better() -> None:
    """30 pairs/s against 10 are three times better, and so are 10 seconds against 30."""
    speed, time = (Benchmark("x", unit, "a:ours", "a:peer", "them") for unit in ("pairs/s", "s"))
    assert speed.ratio(30, 10) == 3
    assert time.ratio(10, 30) == 3


def test_sides_take_turns_and_the_median_round_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ratios of 2, 4 and 3: the figure is 3, the spread two thirds of it, and the second round begins with the peer."""
    asked: list[str] = []
    figures = {"a:ours": iter((20.0, 40.0, 30.0)), "a:peer": iter((10.0, 10.0, 10.0))}

    def side(name: str, size: turns.Size) -> Side:
        asked.append(name)
        return Side(next(figures[name]), peak_mb={"a:ours": 5.0, "a:peer": 7.0}[name])

    monkeypatch.setattr(turns, "side", side)
    found = in_turns(Benchmark("x", "pairs/s", "a:ours", "a:peer", "them", wanted=4), "full", str)
    assert asked == ["a:ours", "a:peer", "a:peer", "a:ours", "a:ours", "a:peer"]
    assert (found["ratio"], found["ratios"], found["spread"]) == (3.0, [2.0, 4.0, 3.0], 2 / 3)
    assert (found["ours"], found["peer"], found["peak_mb"], found["peer_peak_mb"]) == (30.0, 10.0, 5.0, 7.0)
    assert missed([found]) == ["x: 3.00 times, 4 wanted"]
    assert "| x | 30 pairs/s | 10 pairs/s, them | 3.00 (2.00 to 4.00) | ≥ 4 | 5 / 7 |" in table([found])


@pytest.mark.slow
@pytest.mark.parametrize("name", TURNS)
def test_a_benchmark_still_runs(name: str, tmp_path: Path) -> None:
    """Every benchmark of the module, a few rows of it: both sides say a figure, and the list has all that it promises."""
    command = [sys.executable, "-m", "benchmarks", name, "--size", "smoke", "--out", tmp_path]
    subprocess.run(command, cwd=PROJECT, check=True, timeout=800)
    results: list[dict[str, Any]] = json.loads((tmp_path / "results.json").read_text())
    assert [result["name"] for result in results] == [benchmark.name for benchmark in benchmarks(name)]
    for result in results:
        assert result["ours"] > 0
        assert result["peer"] > 0
        assert result["peak_mb"] > 10
        assert {"ratio", "spread", "peer_name"} <= result.keys()
