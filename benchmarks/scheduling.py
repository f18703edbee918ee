"""What Airflow costs beside the stages: reading the DAG files, starting a task, and the time between tasks.

    python -m benchmarks.scheduling --home .demo        wall time of the demo's runs against their stages' compute

The first two are benchmarks like the others. The third needs runs of a real Airflow, which `make demo` leaves behind: it reads that
Airflow's database and its tasks' logs, whether it is running or not.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import closing
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.prepared import kept
from benchmarks.turns import PROJECT, Benchmark, Size

BOUND_PARSE: Final = 0.5
HEAVY: Final = ("torch", "transformers", "peft", "vllm", "sentence_transformers", "great_expectations", "boto3", "pandas", "polars")
DAG: Final = "relevance_retrain"
FIRST_DAY: Final = date(2026, 10, 1)

BENCHMARKS: Final = [
    Benchmark(
        "reading the DAG files", "s", "benchmarks.scheduling:parse", "benchmarks.scheduling:bound_parse", "bound of 0.5 s", 1
    ),
    Benchmark(
        "a task that finds its work finished",
        "s",
        "benchmarks.scheduling:finished",
        "benchmarks.scheduling:in_process",
        "importing torch, as a task in Airflow's own process would",
        rounds=5,
    ),
]


def parse(size: Size) -> float:
    """Seconds to read both DAG files where Airflow itself has been imported, as the DAG processor's fork has it."""
    import importlib.util

    from airflow.providers.common.compat.sdk import redact  # noqa: F401 - this and what follows is Airflow's own, and lazy
    from airflow.providers.standard.operators.bash import BashOperator
    from airflow.providers.standard.operators.empty import EmptyOperator  # noqa: F401
    from airflow.providers.standard.operators.hitl import ApprovalOperator  # noqa: F401
    from airflow.sdk import DAG, Asset, AsyncCallback, BaseHook, BaseNotifier, DeadlineAlert, Param, task_group  # noqa: F401
    from airflow.sdk.observability import stats  # noqa: F401

    with DAG("empty", params={"one": Param(1, type="integer")}):
        BashOperator(task_id="one", bash_command="true", outlets=[Asset("relevance://one")])
    before = set(sys.modules)
    sys.path.insert(0, str(PROJECT / "plugins"))
    started = time.perf_counter()
    for file in sorted((PROJECT / "dags").glob("*.py")):
        spec = importlib.util.spec_from_file_location(file.stem, file)
        if spec is None or spec.loader is None:
            raise RuntimeError(f"{file} can't be read")
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    seconds = time.perf_counter() - started
    if heavy := {name.partition(".")[0] for name in set(sys.modules) - before} & set(HEAVY):
        raise RuntimeError(f"reading the DAG files imports {', '.join(sorted(heavy))}")
    return seconds


def bound_parse(size: Size) -> float:
    """What reading the DAG files may take."""
    return BOUND_PARSE


def finished(size: Size) -> float:
    """Seconds of `relevance stage split` where its output is there."""
    store = kept("scheduling", a_run)
    started = time.perf_counter()
    _stage(store, "split")
    return time.perf_counter() - started


def in_process(size: Size) -> float:
    """Seconds of a process that imports torch."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    return time.perf_counter() - started


def a_run(folder: Path) -> None:
    """A run on a small shop, as far as *split*."""
    from relevance_core.tools.simulator.market import Market, write

    write(Market(pairs_per_day=400, clicks_per_day=400, items=400), FIRST_DAY, 1, folder / "shop")
    _stage(folder, "begin", "--set", f"source.uri={folder / 'shop'}", "--set", "window.end=2026-10-02")
    for name in ("ingest", "validate", "split"):
        _stage(folder, name)


def _stage(store: Path, name: str, *more: str) -> None:
    command = [sys.executable, "-m", "relevance_core", "stage", name, "--run", "run", "--store", str(store), "--json", *more]
    subprocess.run(command, check=True, stdout=subprocess.PIPE)


def run_cost(home: Path, run_id: str) -> dict[str, Any]:
    """What a finished run of an Airflow took. home: its AIRFLOW_HOME.

    wall: seconds from the run's beginning to its end, less those in which only a person was waited for. tasks: the sum of its
    tasks' durations, the start of their processes among them. compute: the sum of what the stages say of themselves. ratio: wall /
    compute.
    """
    wall, tasks = _times(home / "airflow.db", run_id)
    waited = _alone([span for name, span in tasks if _waits(name)], [span for name, span in tasks if not _waits(name)])
    compute = sum(_said(home / "logs" / f"dag_id={DAG}" / f"run_id={run_id}"))
    took = sum(end - start for name, (start, end) in tasks if not _waits(name))
    return {"run": run_id, "wall": wall - waited, "tasks": took, "compute": compute, "ratio": (wall - waited) / compute}


Span = tuple[float, float]


def _times(database: Path, run_id: str) -> tuple[float, list[tuple[str, Span]]]:
    """The run's seconds, and when each task began and ended."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        which = (DAG, run_id)
        runs = connection.execute("SELECT start_date, end_date FROM dag_run WHERE dag_id = ? AND run_id = ?", which).fetchall()
        rows = connection.execute(
            "SELECT task_id, start_date, end_date FROM task_instance WHERE dag_id = ? AND run_id = ? AND end_date IS NOT NULL",
            which,
        ).fetchall()
    if not runs or runs[0][1] is None:
        raise SystemExit(f"{database} has no finished run {run_id} of {DAG}")
    begun, ended = map(_moment, runs[0])
    return ended - begun, [(name, (_moment(start), _moment(end))) for name, start, end in rows]


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _waits(task: str) -> bool:
    return task.endswith(".approve")


def _alone(spans: Iterable[Span], others: list[Span]) -> float:
    """Seconds that lie in one of `spans` and in none of `others`."""
    spans = list(spans)
    edges = sorted({edge for span in (*spans, *others) for edge in span})
    pieces = [((start + end) / 2, end - start) for start, end in itertools.pairwise(edges)]

    def inside(moment: float, among: list[Span]) -> bool:
        return any(start < moment < end for start, end in among)

    return sum(length for middle, length in pieces if inside(middle, spans) and not inside(middle, others))


def _said(logs: Path) -> list[float]:
    """The seconds that each stage of a run says it took, in whichever of its tries."""
    found = [re.findall(r"\d+ rows kept, ([\d.]+) s", path.read_text(encoding="utf-8")) for path in sorted(logs.rglob("*.log"))]
    if not any(found):
        raise SystemExit(f"no stage has said anything in {logs}")
    return [float(seconds) for said in found for seconds in said]


def main() -> None:
    """Prints what the demo's runs cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=PROJECT / ".demo", help="the demo's folder (default: %(default)s)")
    parser.add_argument("--run", action="append", help="Airflow's name of a run; may be repeated (default: both nights)")
    options = parser.parse_args()
    for run_id in options.run or ("night-1", "night-2"):
        print(json.dumps(run_cost(options.home / "airflow", run_id)))


if __name__ == "__main__":
    main()
