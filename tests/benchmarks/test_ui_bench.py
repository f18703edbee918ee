"""The benchmark of the pages, on a short history."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from relevance_core.registry import Registry
from relevance_core.store import open_store
from relevance_core.ui import history
from tests.support.places import PROJECT

BENCHMARK = PROJECT / "benchmarks" / "ui.py"


@pytest.mark.slow
def test_the_benchmark_of_the_pages_makes_its_history_and_times_every_page(tmp_path: Path) -> None:
    """Seven runs, one of them the loop's own, four versions beside its own, and 300 rows in the ledger: every page is timed."""
    out, store = tmp_path / "ui.json", tmp_path / "store"
    sizes = ["--runs", "7", "--versions", "4", "--ledger", "300", "--cold", "1", "--warm", "2"]
    subprocess.run([sys.executable, BENCHMARK, "--out", out, "--store", store, *sizes], check=True, timeout=800)
    opened = open_store(str(store))
    assert len(opened.folders("runs/")) == 7
    versions = history.versions(history.Reader(opened))
    assert versions
    assert {len(found) for found in versions.values()} <= {2, 3}
    assert len(Registry(opened).history()) >= 2
    results = json.loads(out.read_text())
    assert [result["name"].rpartition(", ")[2] for result in results] == ["cold", "warm"] * 6
    assert all(0 < result["ours"] <= result["p95"] <= result["max"] for result in results)
