"""The loop whole, by the DAG, through a real scheduler: SQLite, LocalExecutor, a marketplace of a few hundred rows."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import Future
from pathlib import Path

import httpx
import pytest

from relevance_core.registry import Registry
from relevance_core.store import open_store
from relevance_core.tools.demo.nights import DAG
from tests.support.airflow_home import Home
from tests.support.airflow_runs import END, events, published, release, reports
from tests.support.dag_cases import BY_TASK, STAGES
from tests.support.loop import Done
from tests.support.registry_cases import make_adapter, make_meta

pytestmark = [pytest.mark.airflow, pytest.mark.slow]


def test_a_night(home: Home, first_night: str) -> None:
    """A night runs every stage once, those of a task for QC and for QI, and publishes both."""
    mapped = {f"adapter.{stage}[{index}]" for stage in [*BY_TASK, "approve"] for index in (0, 1)}
    assert home.states(first_night) == dict.fromkeys([*STAGES, *mapped, "done"], "success")
    assert home.client.xcom(DAG, first_night, "begin") == ["QC", "QI"]
    assert {task: figures["version"] for task, figures in published(home, first_night).items()} == dict(release(home).versions)


def test_a_killed_stage_is_tried_again(home: Home, first_night: str) -> None:
    """Of that night's tasks, one *train*, whose process was killed, ran twice, every other once, and it ended well all the same."""
    tries = Counter((each["task_id"], each["try_number"]) for each in home.client.task_instances(DAG, first_night))
    assert tries["adapter.train", 1] == tries["adapter.train", 2] == 1
    assert [name for name, number in tries if number != 1 and name != "adapter.train"] == []


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
    extras = {event["uri"]: event["extra"] for event in events(home, first_night)}
    assert set(extras) == {"relevance://adapter/qc", "relevance://adapter/qi"}
    for task, figures in published(home, first_night).items():
        extra = extras[f"relevance://adapter/{task.lower()}"]
        assert extra["version"] == figures["version"]
        assert extra["verdict"] == "publish"
        assert extra["f1"] == reports(home, first_night)[f"evaluate {task}"]["figures"]["f1"]


# The twin begins here, beside a night that mostly finds finished work.
@pytest.mark.usefixtures("twin")
def test_a_night_of_one_task(home: Home, first_night: str, answers_no: dict[str, str]) -> None:
    """The same night for QC alone, over champions that answer no to everything: QC's version serves again, QI is left as it serves,
    and QC's asset alone is updated.
    """
    assert home.run("second", {"window.end": END, "tasks": ["QC"]}) == "success"
    assert dict(release(home).versions) == answers_no | {"QC": published(home, first_night)["QC"]["version"]}
    assert [event["uri"] for event in events(home, "second")] == ["relevance://adapter/qc"]
    Registry(open_store(str(home.folder / "store"))).promote(answers_no, who="test", why="as the other tests want it")


def test_the_command_line_is_its_twin(home: Home, first_night: str, twin: Future[Done]) -> None:
    """`relevance retrain` with the same settings, in another store, publishes the very same versions as the DAG."""
    done = twin.result()
    assert done.code == 0, done.log
    versions = {task: figures["version"] for task, figures in published(home, first_night).items()}
    assert {task: figures["version"] for task, figures in done.result["tasks"].items()} == versions


def test_rollback(home: Home, first_night: str, tmp_path: Path) -> None:
    """The rollback DAG verifies a version and lets it serve again, and keeps who did it and why, letter by letter."""
    registry, before = Registry(open_store(str(home.folder / "store"))), dict(release(home).versions)
    worse = registry.publish("QC", make_adapter(tmp_path / "adapter"), make_meta())
    registry.promote({"QC": worse.version}, who="test", why="an adapter that nobody wants")
    why = 'it\'s "worse"; $(touch owned) {{ 7 * 7 }}'
    assert home.run("back", {"task": "QC", "version": before["QC"][:12], "why": why}, dag="relevance_rollback") == "success"
    now = release(home)
    assert (dict(now.versions), now.who, now.why) == (before, "admin", why)


def test_the_first_task_says_what_will_happen(home: Home, first_night: str) -> None:
    """The plan of a dry run of QI has the rows that *translate* then samples, their sources, translator and texts in the memory.

    Mined, built and trained is nothing; the report shows the translations. Of a second look the memory knows more.
    """
    conf = {"window.end": END, "onboard": ["it"], "tasks": ["QI"], "dry_run": True}
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
    login = Path(home.folder / "airflow" / "login.txt")
    assert httpx.get(f"{home.client.url}/api/v2/dags", trust_env=False).status_code == 401
    assert login.stat().st_mode & 0o077 == 0
