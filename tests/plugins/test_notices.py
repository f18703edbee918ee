"""Notices, the deadline and metrics: what is said, whom it reaches, and that it can't break a run."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from relevance_airflow import metrics, texts
from relevance_core.errors import SettingsError
from tests.support.dag_cases import load_module
from tests.support.places import PROJECT

FIGURES: dict[str, Any] = {
    "evaluate": {"f1": 0.9123, "per_language": {"de": {"f1": 0.8}, "en": {"f1": 0.95}}},
    "gate": {"verdict": "publish", "failed": [], "gain": {"gain": 0.0131}},
    "publish": {"version": "3f0c", "published": True},
    "rollout": {"waits": "", "tasks": {"QC": {"version": "3f0c", "promoted": True, "number": 1, "serves": True}}},
}
HELD = {"verdict": "hold", "failed": ["gain", "loss in de"], "gain": {"gain": -0.002}}
ASKED = {"verdict": "needs-approval", "failed": ["evidence in de"], "gain": None}
NOBODY = {"waits": "", "tasks": {}}
WAITS = {"waits": "two bases", "tasks": {"QC": {"version": "3f0c", "promoted": False, "number": None, "serves": False}}}
HOSTILE = "positive_rate de 0.99\n<script>alert(1)</script> {{ 7 * 7 }} {% raw %} <!channel>"
PLAIN = "positive_rate de 0.99 ‹script›alert(1)‹/script› (( 7 * 7 )) (% raw %) ‹!channel›"


@pytest.mark.parametrize(
    ("figures", "line"),
    [
        ({}, "QC published f1 0.912 (+0.013) as 3f0c"),
        ({"gate": ASKED}, "QC published f1 0.912 (the first) as 3f0c, approved"),
        ({"gate": ASKED, "rollout": NOBODY}, "QC not approved f1 0.912 (the first) as 3f0c: evidence in de"),
        ({"gate": HELD, "rollout": NOBODY}, "QC held f1 0.912 (-0.002): gain, loss in de"),
        ({"rollout": WAITS}, "QC waits f1 0.912 (+0.013) as 3f0c: two bases"),
    ],
)
def test_every_end_of_a_task_has_its_line(figures: dict[str, Any], line: str) -> None:
    """Published, approved, not approved, held and waiting for its sibling read differently, each with F1 and why."""
    assert texts.decided("QC", FIGURES | figures) == line


def test_other_lines() -> None:
    """A failure names the run, the place and the cause where there are any; an approval what is missing; a late run the hours."""
    assert texts.failed("relevance_retrain 2026-10-08", "train QI", "no rows") == (
        "relevance_retrain 2026-10-08 failed at train QI: no rows"
    )
    assert texts.failed("relevance_retrain 2026-10-08", "", "") == "relevance_retrain 2026-10-08 failed"
    assert texts.waiting("QC", FIGURES | {"gate": ASKED}) == "QC needs approval f1 0.912 (the first) as 3f0c: evidence in de"
    assert texts.overdue("relevance_retrain 2026-10-08", 6.0, "running") == (
        "relevance_retrain 2026-10-08 is not done after 6 h (running)"
    )
    assert texts.moved({"QI": "b", "QC": "a"}, "ada", "worse") == "QC a, QI b serve after a rollback by ada: worse"


@pytest.mark.parametrize("before", ["", "[    1.2 s] ", "[123456.7 s] relevance stage: ", "relevance registry rollback: "])
def test_a_cause_has_no_clock_and_no_command(before: str) -> None:
    """The seconds since the command began and its name are taken off the last line, each where it is there."""
    assert texts.cause(f"{before}no rows; what to do: look") == "no rows; what to do: look"


@pytest.mark.parametrize(
    "line",
    [
        "[... s] no rows",
        "[1.2.3 s] no rows",
        "[12 s] no rows",
        "relevance of these rows is unknown: no label",
        "ValueError: relevance stage: no rows",
        "no rows after [    1.2 s] relevance stage: two tries",
    ],
)
def test_a_cause_keeps_what_only_resembles_a_clock_or_a_command(line: str) -> None:
    """Other numbers in brackets, a sentence about relevance, and a name or clock inside the line belong to the cause."""
    assert texts.cause(line) == line


def test_a_line_is_plain() -> None:
    """What an error or a log put into a line starts no HTML, no template and no second line, and ends at 400 characters."""
    assert texts.plain(HOSTILE) == PLAIN
    assert texts.plain("a\x1b[31m\u202eb") == "a [31m b"
    assert len(texts.plain("x" * 1000)) == 400


def test_the_address_of_a_run() -> None:
    """A run's page stands under Airflow's own address, path and all, with the run's id as one part of it."""
    address = texts.run_page("https://airflow.example/x/", "relevance_retrain", "manual__2026-10-08T02:30:00+00:00 a/b")
    assert address == "https://airflow.example/x/dags/relevance_retrain/runs/manual__2026-10-08T02%3A30%3A00%2B00%3A00%20a%2Fb"
    assert texts.run_page("http://h", "d", "r", "required_actions") == "http://h/dags/d/runs/r/required_actions"


@pytest.mark.parametrize("text", ["ops@example.org", '["a.B"]', '{"a.B": "me"}', '{"a.B": {"to": "ops@example.org"}}'])
def test_channels_that_cannot_be_meant(text: str) -> None:
    """No JSON, no object, no options, and options without `{text}` are refused with the variable's name and an example."""
    with pytest.raises(SettingsError, match=r"RELEVANCE_NOTIFY.*SnsNotifier"):
        texts.channels({"RELEVANCE_NOTIFY": text})


def test_text_goes_to_its_place_at_any_depth() -> None:
    """`{text}` is filled in strings, lists and objects, and nothing else changes."""
    (channel,) = texts.channels({"RELEVANCE_NOTIFY": '{"a.B": {"to": 3, "blocks": [{"text": "loop: {text}"}, null]}}'})
    assert channel.filled("done") == {"to": 3, "blocks": [{"text": "loop: done"}, None]}
    assert texts.channels({}) == ()


@pytest.mark.parametrize(("text", "hours"), [("0.5", 0.5), ("0", 0), ("", 0), (" ", 0)])
def test_hours_of_the_deadline(text: str, hours: float) -> None:
    """Hours may be parts of one, empty and 0 mean none, and without the variable it is six."""
    assert texts.deadline_hours({"RELEVANCE_DEADLINE_HOURS": text}) == hours
    assert texts.deadline_hours({}) == 6


@pytest.mark.parametrize("text", ["six", "-1", "nan", "inf"])
def test_hours_that_cannot_be_meant(text: str) -> None:
    """What is no number of hours is refused with the variable's name."""
    with pytest.raises(SettingsError, match="RELEVANCE_DEADLINE_HOURS"):
        texts.deadline_hours({"RELEVANCE_DEADLINE_HOURS": text})


def report_of(stage: str, task: str | None = None, found: bool = False) -> dict[str, Any]:
    rows = {"in": 10, "made": 2, "kept": 7, "quarantined": 1, "dropped": 2, "reasons": {"quarantined: x": 1, "dropped: y": 2}}
    return {"stage": stage, "task": task, "found": found, "rows": rows, "figures": FIGURES.get(stage, {})}


def test_metrics_have_fixed_names() -> None:
    """Rows by stage and fate, F1 by task and language, verdicts, and what was published and serves: names as documented."""
    rows = {f"relevance.rows.ingest.all.{fate}": value for fate, value in zip(metrics.FATES, (10, 2, 7, 1, 2), strict=True)}
    assert {name: value for _, name, value in metrics.metrics_of(report_of("ingest"))} == rows
    f1 = [metric for metric in metrics.metrics_of(report_of("evaluate", "QC")) if metric.name.startswith("relevance.f1")]
    assert [(metric.name, metric.value) for metric in f1] == [
        ("relevance.f1.qc.all", 0.9123),
        ("relevance.f1.qc.de", 0.8),
        ("relevance.f1.qc.en", 0.95),
    ]
    assert metrics.Metric("counter", "relevance.verdicts.qc.publish", 1) in metrics.metrics_of(report_of("gate", "QC"))
    assert metrics.Metric("counter", "relevance.published.qc", 1) in metrics.metrics_of(report_of("publish", "QC"))
    assert metrics.Metric("counter", "relevance.promoted.qc", 1) in metrics.metrics_of(report_of("rollout"))


def test_what_is_found_again_is_not_counted_again() -> None:
    """A finished stage that is cleared and run again shows its gauges, and adds to no counter; *begin* has no numbers."""
    again = metrics.metrics_of(report_of("gate", "QC", found=True))
    assert {metric.kind for metric in again} == {"gauge"}
    assert metrics.metrics_of({"run_id": "one", "tasks": ["QC"]}) == []


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of notices, with a notifier that fails before the one that keeps what it is told in `lines`."""
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "airflow"))
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://airflow.example")
    monkeypatch.setenv("RELEVANCE_NOTIFY", json.dumps(channels(tmp_path / "lines")))
    from relevance_airflow import notices

    return notices


def channels(lines: Path) -> dict[str, Any]:
    return {
        "tests.support.notifiers.Broken": {"message": "{text}"},
        "tests.support.notifiers.Recorder": {"file": str(lines), "message": "{text}"},
    }


@pytest.mark.airflow
def test_a_broken_notifier_stops_nothing(plugin: Any, tmp_path: Path) -> None:
    """After one notifier has failed, the next one is told all the same, in plain text, and nothing is raised."""

    def xcom_pull(task_ids: str, map_indexes: int | None = None, key: str = "") -> Any:
        return {"begin": ["QC", "QI"], "adapter.train": HOSTILE if (map_indexes, key) == (1, "failure") else None}[task_ids]

    instance = SimpleNamespace(task_id="adapter.train", map_index=1, xcom_pull=xcom_pull)
    plugin.Failed()({"dag": SimpleNamespace(dag_id="d"), "run_id": "r", "ti": instance})
    assert (tmp_path / "lines").read_text() == f"d r failed at train QI: {PLAIN}: http://airflow.example/dags/d/runs/r\n"


@pytest.mark.airflow
def test_an_approval_says_where_to_answer(plugin: Any, tmp_path: Path) -> None:
    """The notice of a version that waits for a person leads to the page where the run's questions are answered."""
    figures = FIGURES | {"gate": ASKED}

    def xcom_pull(task_ids: str, map_indexes: int | None = None) -> Any:
        return ["QC", "QI"] if task_ids == "begin" else {"figures": figures[task_ids.removeprefix("adapter.")]}

    instance = SimpleNamespace(task_id="adapter.approve", map_index=1, xcom_pull=xcom_pull)
    plugin.Waiting()({"dag": SimpleNamespace(dag_id="d"), "run_id": "r", "ti": instance})
    line = "QI needs approval f1 0.912 (the first) as 3f0c: evidence in de: http://airflow.example/dags/d/runs/r/required_actions\n"
    assert (tmp_path / "lines").read_text() == line


@pytest.mark.airflow
@pytest.mark.parametrize(("state", "told"), [("running", True), ("queued", True), ("failed", False)])
def test_a_late_run_is_told_of_by_the_triggerer(plugin: Any, tmp_path: Path, state: str, told: bool) -> None:
    """The deadline's callback, run as the triggerer runs it, tells of a run that is not done, and not of one that has failed."""
    from airflow.triggers.callback import CallbackTrigger

    alert = plugin.deadline()
    run = {
        "dag_id": "relevance_retrain",
        "dag_run_id": "r",
        "state": state,
        "conf": None,
        "data_interval_end": "2026-10-08T02:30:00Z",
        "run_after": "2026-10-08T02:30:00Z",
    }

    async def fire() -> list[Any]:
        trigger = CallbackTrigger(alert.callback.path, {**alert.callback.kwargs, "context": {"dag_run": run}})
        return [event.payload["state"] async for event in trigger.run()]

    assert asyncio.run(fire())[-1] == "success"
    line = f"relevance_retrain 2026-10-08 is not done after 6 h ({state}): http://airflow.example/dags/relevance_retrain/runs/r\n"
    assert ((tmp_path / "lines").read_text() if told else "") == (line if told else "")
    assert (tmp_path / "lines").exists() is told


@pytest.mark.airflow
def test_the_deadline_of_the_dag(plugin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is due six hours after it was queued; with 0 hours the DAG has no deadline."""
    from airflow.sdk import DeadlineReference

    (alert,) = load_module(PROJECT / "dags" / "relevance_retrain.py").dag.deadline
    assert (alert.reference, alert.interval) == (DeadlineReference.DAGRUN_QUEUED_AT, timedelta(hours=6))
    monkeypatch.setenv("RELEVANCE_DEADLINE_HOURS", "0")
    assert load_module(PROJECT / "dags" / "relevance_retrain.py").dag.deadline is None


@pytest.mark.airflow
@pytest.mark.parametrize(
    ("named", "problem"),
    [
        ({"tests.support.notifiers.Pigeon": {"message": "{text}"}}, "Pigeon"),
        ({"nowhere.Pigeon": {"message": "{text}"}}, "nowhere"),
        ({"tests.support.notifiers.Recorder": {"massage": "{text}"}}, "massage"),
        ({"builtins.dict": {"message": "{text}"}}, "no notifier of Airflow"),
    ],
)
def test_a_notifier_that_cannot_be_built(plugin: Any, monkeypatch: pytest.MonkeyPatch, named: Any, problem: str) -> None:
    """A class that is not there, is no notifier or takes other options is found when the DAG file is read."""
    monkeypatch.setenv("RELEVANCE_NOTIFY", json.dumps(named))
    with pytest.raises(SettingsError, match=f"{problem}.*RELEVANCE_NOTIFY"):
        load_module(PROJECT / "dags" / "relevance_rollback.py")


STAGE = f"""#!{sys.executable}
import json, os, sys
stage, task = sys.argv[2], os.environ.get("RELEVANCE_TASK")
if (stage, task) == ("train", "QI"):
    sys.stderr.write("[    1.2 s] relevance stage: no rows of <b>{{{{ 7 * 7 }}}}</b>; what to do: look\\n")
    sys.exit(65)
if stage == "begin":
    result = {{"run_id": "one", "tasks": ["QC", "QI"], "plan": {{}}}}
else:
    figures = json.loads(os.environ["FIGURES"]).get(stage, {{}})
    rows = {{"in": 10, "made": 2, "kept": 7, "quarantined": 1, "dropped": 2}}
    result = {{"stage": stage, "task": task, "found": False, "rows": rows, "figures": figures}}
print(json.dumps(result))
"""
"""A `relevance` that does nothing: every stage ends at once with the same figures, but QI can't be trained."""

NIGHT = """
from airflow.callbacks.database_callback_sink import DatabaseCallbackSink
from airflow.models.dagrun import DagRun
from airflow.sdk.observability import stats
from airflow.sdk.observability.metrics.stats_utils import get_stats_factory
from airflow.utils.session import create_session
from tests.support.dag_cases import load_module
from tests.support.places import PROJECT
stats.initialize(factory=get_stats_factory(), export_legacy_names=False)  # as Airflow's worker does
dag = load_module(PROJECT / "dags" / "relevance_retrain.py").dag
run_id = dag.test(run_conf={"window.end": "2026-10-08"}, mark_success_pattern=".*approve").run_id
with create_session() as session:  # what the scheduler leaves for the DAG processor when a run fails
    run = session.query(DagRun).filter_by(run_id=run_id).one()
    (failed,) = [instance for instance in run.get_task_instances(session=session) if instance.state == "failed"]
    request = run.produce_dag_callback(dag, success=False, relevant_ti=failed, reason="task_failure")
DatabaseCallbackSink().send(request)
print(run_id)
"""


@pytest.mark.airflow
@pytest.mark.slow
def test_a_night_tells_and_measures(tmp_path: Path) -> None:
    """The real DAG through Airflow: what was published and what failed is told, a line each, and OpenTelemetry gets the metrics.

    The failure is told twice: by Airflow's test of a DAG, where no XCom can be read, and by the DAG processor, with its cause.
    """
    fake = tmp_path / "bin" / "relevance"
    fake.parent.mkdir()
    fake.write_text(STAGE)
    fake.chmod(0o700)
    with collector() as (port, received):
        environment = os.environ | {
            "PATH": f"{fake.parent}:{os.environ['PATH']}",
            "PYTHONPATH": f"{PROJECT}:{PROJECT / 'plugins'}",
            "AIRFLOW_HOME": str(tmp_path / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
            "AIRFLOW__API__BASE_URL": "http://airflow.example",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "0",
            "AIRFLOW__METRICS__OTEL_ON": "True",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
            "RELEVANCE_STORE": str(tmp_path / "store"),
            "RELEVANCE_SCHEDULE": "",
            "RELEVANCE_DEADLINE_HOURS": "",
            "RELEVANCE_NOTIFY": json.dumps(channels(tmp_path / "lines")),
            "FIGURES": json.dumps(FIGURES),
        }
        airflow = ["-m", "airflow"]
        for command in ([*airflow, "db", "migrate"], ["-c", NIGHT], [*airflow, "dag-processor", "--num-runs", "3"]):
            done = subprocess.run([sys.executable, *command], env=environment, cwd=tmp_path, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    told = [line.rsplit(": ", 1) for line in (tmp_path / "lines").read_text().splitlines()]
    assert [line for line, _ in told] == [
        "QC published f1 0.912 (+0.013) as 3f0c",
        "relevance_retrain 2026-10-08 failed at train",
        "relevance_retrain 2026-10-08 failed at train QI: no rows of ‹b›(( 7 * 7 ))‹/b›; what to do: look",
    ]
    assert all(address.startswith("http://airflow.example/dags/relevance_retrain/runs/manual__") for _, address in told)
    wanted = {"f1.qc.de": 0.8, "rows.ingest.all.kept": 7, "rows.mine.qi.dropped": 2, "verdicts.qc.publish": 1, "promoted.qc": 1}
    assert {name: received.get(f"airflow.relevance.{name}") for name in wanted} == wanted
    assert not any(".train.qi." in name or ".f1.qi." in name for name in received)


@contextmanager
def collector() -> Iterator[tuple[int, dict[str, float]]]:
    """A collector of OpenTelemetry metrics on a free port of loopback: its port, and the latest value of each name."""
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    received: dict[str, float] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            request = ExportMetricsServiceRequest.FromString(
                gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
            )
            for metric in (m for r in request.resource_metrics for s in r.scope_metrics for m in s.metrics):
                for point in [*metric.gauge.data_points, *metric.sum.data_points]:
                    received[metric.name] = point.as_double if point.HasField("as_double") else point.as_int
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port, received
    finally:
        server.shutdown()
        server.server_close()
