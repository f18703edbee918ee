"""The loop whole, by the DAG, through a real scheduler: SQLite, LocalExecutor, a marketplace of a few hundred rows."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import pytest

from relevance_core.approval import Approval
from relevance_core.demo.nights import DAG
from relevance_core.pairs import Task
from relevance_core.pipeline import approvals
from relevance_core.store import Registry, open_store
from tests.airflow_home import Home, airflow_home
from tests.loop import relevance
from tests.registry_cases import answering_no, make_adapter, make_meta
from tests.test_dags import BY_TASK, STAGES

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

COMES_IN = {"window.end": "2026-10-04", "onboard": ["de"], "gate.min_evidence_rows": 100_000}
"""A run that brings in German, with more dev rows wanted than there are."""

HALF_A_MINUTE = 0.01
"""Hours that an approval is waited for: 36 seconds."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with airflow_home(tmp_path_factory.mktemp("airflow")) as running:
        yield running


@pytest.fixture(scope="module")
def first_night(home: Home) -> str:
    """The Airflow run of a night of both tasks."""
    state = home.run("first", {"window.end": "2026-10-04"})
    assert state == "success", {name: home.log("first", name) for name, was in home.states("first").items() if was == "failed"}
    return "first"


@pytest.fixture(scope="module")
def answers_no(home: Home, first_night: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Champions that answer no to everything, so that any version is better: the first night's adapters with a threshold of 1."""
    registry, folder = Registry(open_store(str(home.folder / "store"))), tmp_path_factory.mktemp("champions")
    published = _published(home, first_night).items()
    worse = {task: answering_no(registry, cast(Task, task), about["version"], folder).version for task, about in published}
    registry.promote(worse, who="test", why="to be beaten by any other")
    return worse


def question(home: Home, run: str, index: int) -> dict[str, Any]:
    """What *approve* asks a person, as soon as it waits."""
    home.await_state(run, f"adapter.approve[{index}]", "awaiting_input")
    return dict(home.client.call("GET", _question(run, index)))


def answer(home: Home, run: str, index: int, option: str, why: str | None) -> None:
    """Answers it, as the page of Airflow does."""
    home.client.call("PATCH", _question(run, index), {"chosen_options": [option], "params_input": {"why": why}})


def answers(home: Home, run: str) -> dict[Task, Approval]:
    """What the store keeps of the answers."""
    return approvals(open_store(str(home.folder / "store")), home.client.xcom(DAG, run, "begin", key="run_id"))


def _question(run: str, index: int) -> str:
    return f"dags/{DAG}/dagRuns/{run}/taskInstances/adapter.approve/{index}/hitlDetails"


def served(home: Home) -> dict[str, str]:
    """The version that serves each task."""
    release = Registry(open_store(str(home.folder / "store"))).current()
    return dict(release.versions) if release else {}


def reports(home: Home, run: str, stages: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """What every stage of a run said, or some that run once, as the next tasks see it."""
    found = {stage: home.client.xcom(DAG, run, stage) for stage in stages or STAGES if stage != "begin"}
    if stages:
        return found
    for index, task in enumerate(home.client.xcom(DAG, run, "begin")):
        found |= {f"{stage} {task}": home.client.xcom(DAG, run, f"adapter.{stage}", map_index=index) for stage in BY_TASK}
    return found


def test_a_night(home: Home, first_night: str) -> None:
    """A night runs every stage once, those of a task for QC and for QI, and publishes both."""
    mapped = {f"adapter.{stage}[{index}]" for stage in [*BY_TASK, "approve"] for index in (0, 1)}
    assert home.states(first_night) == dict.fromkeys([*STAGES, *mapped, "done"], "success")
    assert home.client.xcom(DAG, first_night, "begin") == ["QC", "QI"]
    assert {task: figures["version"] for task, figures in _published(home, first_night).items()} == served(home)


def test_no_row_is_lost(home: Home, first_night: str) -> None:
    """rows in = kept + quarantined + dropped in the report of every stage, with a reason for each row not kept."""
    stages = reports(home, first_night)
    assert stages["ingest"]["rows"]["in"] > 0
    for stage, report in stages.items():
        rows = report["rows"]
        assert rows["in"] == rows["kept"] + rows["quarantined"] + rows["dropped"], stage
        assert sum(rows["reasons"].values()) == rows["quarantined"] + rows["dropped"], stage
    for before, after in (("ingest", "validate"), ("validate", "split"), ("split", "translate")):
        assert stages[after]["rows"]["in"] - stages[after]["rows"]["made"] == stages[before]["rows"]["kept"], after


def test_assets_tell_what_was_published(home: Home, first_night: str) -> None:
    """Each task's asset gets one event of the run, from *rollout*, with the version, its F1 and the verdict."""
    published = _published(home, first_night)
    events = {event["uri"]: event["extra"] for event in _events(home, first_night)}
    assert set(events) == {"relevance://adapter/qc", "relevance://adapter/qi"}
    for task, figures in published.items():
        extra = events[f"relevance://adapter/{task.lower()}"]
        assert extra["version"] == figures["version"]
        assert extra["verdict"] == "publish"
        assert extra["f1"] == reports(home, first_night)[f"evaluate {task}"]["figures"]["f1"]


def test_the_command_line_is_its_twin(home: Home, first_night: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`relevance retrain` with the same settings, in another store, publishes the very same versions as the DAG."""
    monkeypatch.setenv("RELEVANCE_SETTINGS", home.settings)
    twin = relevance("retrain", "--store", str(home.folder / "twin"), "--window-end", "2026-10-04", "--json")
    assert twin.code == 0, twin.log
    assert {task: figures["version"] for task, figures in twin.result["tasks"].items()} == served(home)


def test_a_killed_stage_is_tried_again(home: Home, first_night: str) -> None:
    """A stage that is killed is tried again and the night ends well; an asset is updated only if its version serves."""
    before = served(home)
    killed: list[int] = []
    killer = threading.Thread(target=lambda: killed.append(home.kill_stage("train")))
    killer.start()
    state = home.run("second", {"window.end": "2026-10-04", "denoise.enabled": False, "tasks": ["QC"]})
    killer.join()
    assert len(killed) == 1
    assert state == "success", home.states("second")
    tries = {i["task_id"]: i["try_number"] for i in home.client.task_instances(DAG, "second")}
    assert tries["adapter.train"] == 2
    assert tries["adapter.evaluate"] == 1
    promoted = reports(home, "second")["rollout"]["figures"]["tasks"].get("QC", {}).get("promoted", False)
    assert (served(home)["QC"] != before["QC"]) is promoted
    assert served(home)["QI"] == before["QI"]
    assert [event["uri"] for event in _events(home, "second")] == ["relevance://adapter/qc"] * promoted


def test_rollback(home: Home, first_night: str, tmp_path: Path) -> None:
    """The rollback DAG verifies a version and lets it serve again, and keeps who did it and why, letter by letter."""
    registry, before = Registry(open_store(str(home.folder / "store"))), served(home)
    worse = registry.publish("QC", make_adapter(tmp_path / "adapter"), make_meta())
    registry.promote({"QC": worse.version}, who="test", why="an adapter that nobody wants")
    why = 'it\'s "worse"; $(touch owned) {{ 7 * 7 }}'
    assert home.run("back", {"task": "QC", "version": before["QC"][:12], "why": why}, dag="relevance_rollback") == "success"
    release = registry.current()
    assert release is not None
    assert (dict(release.versions), release.who, release.why) == (before, "admin", why)


def test_no_and_no_answer_leave_the_champions(home: Home, answers_no: dict[str, str]) -> None:
    """A person rejects QC, nobody answers for QI within `approval.hours` (36 s here): the champions serve on, the run ends well."""
    home.client.trigger(DAG, "rejected", COMES_IN | {"approval.hours": HALF_A_MINUTE})
    question(home, "rejected", 0)
    answer(home, "rejected", 0, "Reject", 'looked at it: "no" <b>')
    assert home.ended("rejected") == "success"
    states = home.states("rejected")
    assert {states[name] for name in ("rollout", "done", "report", "adapter.approve[0]", "adapter.approve[1]")} == {"success"}
    assert served(home) == answers_no
    kept = answers(home, "rejected")
    assert (kept["QC"].approved, kept["QC"].who, kept["QC"].why) == (False, "admin", 'looked at it: "no" <b>')
    assert (kept["QI"].approved, kept["QI"].who, kept["QI"].why) == (False, "", f"nobody answered within {HALF_A_MINUTE} hours")
    assert datetime.fromisoformat(kept["QC"].at).tzinfo is not None
    assert home.client.xcom(DAG, "rejected", "adapter.approve", map_index=0) == kept["QC"]._asdict()


def test_an_approved_version_serves(home: Home, answers_no: dict[str, str]) -> None:
    """Both tasks wait, no worker slot held, with the gate's table; both are approved: one release that names who approved."""
    home.client.trigger(DAG, "approved", COMES_IN)
    for index, task in enumerate(("QC", "QI")):
        asked = question(home, "approved", index)
        assert asked["subject"].startswith(f"May {task} ")
        assert "de comes in with" in asked["subject"]
        assert "| evidence in de | **FAILED** |" in asked["body"]
        assert (asked["options"], asked["defaults"]) == (["Approve", "Reject"], ["Reject"])
        assert list(asked["params"]) == ["why"]
        answer(home, "approved", index, "Approve", None)
    assert home.ended("approved") == "success"
    assert served(home) == {task: kept.version for task, kept in answers(home, "approved").items()}
    assert set(served(home).values()).isdisjoint(answers_no.values())
    release = Registry(open_store(str(home.folder / "store"))).current()
    assert release is not None
    assert release.why.count("approved by admin") == 2
    assert {event["uri"] for event in _events(home, "approved")} == {"relevance://adapter/qc", "relevance://adapter/qi"}


def test_the_first_task_says_what_will_happen(home: Home, first_night: str) -> None:
    """The plan of a dry run of QI has the rows that *translate* then samples, their sources, translator and texts in the memory.

    Mined, built and trained is nothing; the report shows the translations. Of a second look the memory knows more.
    """
    conf = {"window.end": "2026-10-04", "onboard": ["it"], "tasks": ["QI"], "dry_run": True}
    assert home.run("look", conf) == "success"
    states = home.states("look")
    assert states["adapter.mine[0]"] == "success"
    assert "adapter.mine[1]" not in states
    assert {
        states[name] for name in states if name.partition("[")[0].rpartition(".")[2] in {"base", *BY_TASK, "approve"} - {"mine"}
    } == {"skipped"}
    assert states["report"] == "success"
    plan, made = home.client.xcom(DAG, "look", "begin", key="plan"), reports(home, "look", ["translate"])["translate"]["figures"]
    tasks = plan["languages"]["it"]
    assert sum(about["rows"] for about in tasks.values()) == made["languages"]["it"]["sampled"] > 0
    assert all(about["remembered"] < about["texts"] for about in tasks.values())
    assert plan["translator"]["version"] == made["translator"]["version"]
    log = home.log("look", "begin")
    assert f"it QI (onboarded): {tasks['QI']['rows']} rows from " in log
    store, run = open_store(str(home.folder / "store")), home.client.xcom(DAG, "look", "begin", key="run_id")
    assert json.loads(store.read(f"runs/{run}/run.json"))["dag_run"] == "look"
    page = store.read(f"{reports(home, 'look', ['report'])['report']['address']}/report.html").decode()
    assert plan["translator"]["version"] in page
    assert home.run("look-again", conf) == "success"
    again = home.client.xcom(DAG, "look-again", "begin", key="plan")["languages"]["it"]
    assert all(again[task]["remembered"] > tasks[task]["remembered"] for task in tasks)


def test_unknown_conf_key(home: Home) -> None:
    """A run with a mistyped key ends in its first task, at once, with the known keys in the log."""
    assert home.run("typo", {"onbord": ["de"]}) == "failed"
    states = home.states("typo")
    assert states.pop("begin") == "failed"
    assert set(states.values()) == {"upstream_failed"}
    log = home.log("typo", "begin")
    assert "unknown keys: onbord" in log
    assert "gate.min_f1" in log


def test_a_bad_window_is_not_tried_again(home: Home) -> None:
    """A window without rows fails once, for trying again can't heal it; the report is written and the run has failed."""
    assert home.run("empty", {"window.end": "2026-12-24"}) == "failed"
    instances = {i["task_id"]: i for i in home.client.task_instances(DAG, "empty")}
    failed = [name for name, i in instances.items() if i["state"] == "failed"]
    assert len(failed) == 1
    assert instances[failed[0]]["try_number"] == 1
    assert "what to do" in home.log("empty", failed[0])
    assert instances["report"]["state"] == "success"


def test_login_is_needed(home: Home) -> None:
    """Without the generated login the API answers 401, and the file that holds it is this user's alone."""
    import httpx

    login = Path(home.folder / "airflow" / "login.txt")
    assert httpx.get(f"{home.client.url}/api/v2/dags", trust_env=False).status_code == 401
    assert login.stat().st_mode & 0o077 == 0


def _published(home: Home, run: str) -> dict[str, dict[str, Any]]:
    return {name.removeprefix("publish "): r["figures"] for name, r in reports(home, run).items() if name.startswith("publish ")}


def _events(home: Home, run: str) -> list[dict[str, Any]]:
    events = home.client.call("GET", "assets/events", source_dag_id=DAG, source_run_id=run)["asset_events"]
    return [event for event in events if event["source_task_id"] == "rollout"]
