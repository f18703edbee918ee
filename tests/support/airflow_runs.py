"""What the tests of this folder ask of a run in Airflow and of the store behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from relevance_core.pairs import Task
from relevance_core.registry import Registry, Release
from relevance_core.runs.approval import Approval, approvals
from relevance_core.store import open_store
from relevance_core.tools.demo.nights import DAG
from tests.support.airflow_home import Home
from tests.support.dag_cases import BY_TASK, STAGES

HOSTILE = ("<script>window.owned = 1</script>", '"><img src=x onerror="window.owned = 1">', "</script><svg onload=window.owned=1>")
END = "2026-10-04"
SHORT_SECONDS = 4
A_MINUTE = 0.02
"""Hours that an approval is waited for: 72 seconds, in which a person answers for one task."""
REJECTED = "rejected"
"""Airflow's id of the run for which there is no approval."""
WHY = 'looked at it: "no" <b>'


def reports(home: Home, run: str, stages: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """What every stage of a run said, or some that run once, as the next tasks see it."""
    found = {stage: home.client.xcom(DAG, run, stage) for stage in stages or STAGES if stage != "begin"}
    if stages:
        return found
    for index, task in enumerate(home.client.xcom(DAG, run, "begin")):
        found |= {f"{stage} {task}": home.client.xcom(DAG, run, f"adapter.{stage}", map_index=index) for stage in BY_TASK}
    return found


def published(home: Home, run: str) -> dict[str, dict[str, Any]]:
    """Task → what *publish* said."""
    return {name.removeprefix("publish "): r["figures"] for name, r in reports(home, run).items() if name.startswith("publish ")}


def events(home: Home, run: str) -> list[dict[str, Any]]:
    """The updates of assets by *rollout* of a run."""
    found = home.client.call("GET", "assets/events", source_dag_id=DAG, source_run_id=run)["asset_events"]
    return [event for event in found if event["source_task_id"] == "rollout"]


def release(home: Home) -> Release:
    """What serves."""
    found = Registry(open_store(str(home.folder / "store"))).current()
    assert found is not None
    return found


def question(home: Home, run: str, index: int) -> dict[str, Any]:
    """What *approve* asks a person."""
    return dict(home.client.call("GET", _question(run, index)))


def answer(home: Home, run: str, index: int, option: str, why: str | None) -> None:
    """Answers it, as the page of Airflow does."""
    home.client.call("PATCH", _question(run, index), {"chosen_options": [option], "params_input": {"why": why}})


def answers(home: Home, run: str) -> dict[Task, Approval]:
    """What the store keeps of the answers."""
    return approvals(open_store(str(home.folder / "store")), home.client.xcom(DAG, run, "begin", key="run_id"))


def _question(run: str, index: int) -> str:
    return f"dags/{DAG}/dagRuns/{quote(run, safe='')}/taskInstances/adapter.approve/{index}/hitlDetails"
