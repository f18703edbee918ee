"""What a run costs beside its stages, from a database and logs written by hand."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.scheduling import DAG, run_cost

TASKS = (
    ("ingest", "10:00:05", "10:00:15"),
    ("adapter.mine", "10:00:20", "10:00:50"),
    ("adapter.mine", "10:00:20", "10:00:40"),
    # 60 seconds of this one, from 10:01:00 on, nothing else runs.
    ("adapter.approve", "10:00:55", "10:02:00"),
    ("adapter.publish", "10:00:50", "10:01:00"),
)


def write_home(home: Path) -> None:
    """One run from 10:00:00 to 10:02:10 with these tasks, and what three of them said."""
    with closing(sqlite3.connect(home / "airflow.db")) as connection:
        connection.execute("CREATE TABLE dag_run (dag_id, run_id, start_date, end_date)")
        connection.execute("CREATE TABLE task_instance (dag_id, run_id, task_id, start_date, end_date)")
        day = "2026-10-08 {}.000000"
        connection.execute("INSERT INTO dag_run VALUES (?, 'one', ?, ?)", (DAG, day.format("10:00:00"), day.format("10:02:10")))
        rows = [(DAG, task, day.format(start), day.format(end)) for task, start, end in TASKS]
        connection.executemany("INSERT INTO task_instance VALUES (?, 'one', ?, ?, ?)", rows)
        connection.execute("INSERT INTO task_instance VALUES (?, 'one', 'report', NULL, NULL)", (DAG,))
        connection.commit()
    logs = home / "logs" / f"dag_id={DAG}" / "run_id=one"
    for name, text in (
        ("ingest", "ingest: 7 rows kept, 8.0 s"),
        ("mine", "mine QC: 9 rows kept, 25.5 s\\nmine QI: 3 rows kept, 6.5 s"),
    ):
        (logs / f"task_id={name}").mkdir(parents=True)
        (logs / f"task_id={name}" / "attempt=1.log").write_text(f'{{"event": "{text}"}}\n')


def test_a_run_is_weighed_against_what_its_stages_say(tmp_path: Path) -> None:
    """130 seconds less the 60 in which a person alone was waited for, against 8 + 25.5 + 6.5 = 40: 1.75. Its tasks took 70."""
    write_home(tmp_path)
    assert run_cost(tmp_path, "one") == {"run": "one", "wall": 70.0, "tasks": 70.0, "compute": 40.0, "ratio": 1.75}


def test_a_run_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Another run's name ends it with the database and the name."""
    write_home(tmp_path)
    with pytest.raises(SystemExit, match=r"airflow\.db has no finished run two"):
        run_cost(tmp_path, "two")
