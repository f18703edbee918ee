"""The DAG files: their shape, their params, and what reaches a task from a run."""

from __future__ import annotations

import copy
import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from relevance_core import languages
from relevance_core.config import Settings, build, value_at
from relevance_core.errors import SettingsError
from relevance_core.runs.steps import APPROVE, REPORT, STEPS, Step
from relevance_core.store import Store
from tests.support.dag_cases import BY_TASK, STAGES, load_module
from tests.support.gate_cases import judged
from tests.support.places import PROJECT

SHELL_BAIT = "x\"; $(touch owned) `touch owned` {{ 7 * 7 }} ' \n| touch owned"

pytestmark = pytest.mark.airflow


@pytest.fixture(scope="module")
def rules() -> Any:
    return importlib.import_module("relevance_airflow.params")


@pytest.fixture(scope="module")
def load_dag(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Any]]:
    """Reads a DAG file as Airflow does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_HOME", str(tmp_path_factory.mktemp("airflow")))
        patch.setenv("RELEVANCE_SCHEDULE", "30 2 * * *")
        patch.delenv("RELEVANCE_SETTINGS_FILE", raising=False)
        patch.delenv("RELEVANCE_SETTINGS", raising=False)
        yield lambda name: load_module(PROJECT / "dags" / f"{name}.py").dag


@pytest.fixture(scope="module")
def retrain(load_dag: Callable[[str], Any]) -> Any:
    return load_dag("relevance_retrain")


@pytest.fixture(scope="module")
def rollback(load_dag: Callable[[str], Any]) -> Any:
    return load_dag("relevance_rollback")


def test_one_task_a_stage(retrain: Any) -> None:
    """Every stage is one task named after it, those of a task inside the mapped group, in the order of the loop."""
    assert [task.task_id for task in retrain.topological_sort()].index("begin") == 0
    by_task = [*BY_TASK, "approve"]
    assert {task.task_id for task in retrain.tasks} == {*STAGES, *(f"adapter.{stage}" for stage in by_task), "done"}
    for task in retrain.tasks:
        if hasattr(task, "bash_command"):
            assert task.bash_command.startswith(f"relevance stage {task.task_id.rpartition('.')[2]} ")


@pytest.mark.parametrize("step", [*STEPS, APPROVE, REPORT], ids=lambda step: step.name)
def test_the_arrows_are_those_of_the_table(retrain: Any, step: Step) -> None:
    """A task comes after the tasks of all that its stage reads, whatever the settings; its title, text and pool are the table's."""
    named = {each.name: f"adapter.{each.name}" if each.per_task else each.name for each in (*STEPS, APPROVE, REPORT)}
    task = retrain.get_task(named[step.name])
    needs = {*step.needs.values(), *(stage for roles in step.with_setting.values() for stage in roles.values())}
    before = {each.task_id for each in task.get_flat_relatives(upstream=True)}
    assert {named[stage] for stage in needs} <= before
    assert (task.task_display_name, task.doc_md) == (step.title, step.text)
    assert (task.pool == "relevance_gpu") is step.gpu


def test_mapped_over_the_tasks_that_begin_names(retrain: Any) -> None:
    """The group *adapter* is expanded over the list that *begin* returns, so a run of QC alone has one instance of each."""
    group = retrain.task_group.children["adapter"]
    assert type(group).__name__ == "MappedTaskGroup"
    assert [(operator.task_id, key) for operator, key in group._expand_input.iter_references()] == [("begin", "return_value")]


def test_report_is_a_teardown(retrain: Any) -> None:
    """*report* runs whatever happened since *begin*, and a leaf beside it, *done*, fails with any stage."""
    report = retrain.get_task("report")
    assert report.is_teardown
    assert report.on_failure_fail_dagrun
    assert retrain.get_task("begin").is_setup
    assert report.upstream_task_ids == {"begin", "rollout"}
    assert retrain.get_task("done").upstream_task_ids == {"adapter.approve", "rollout"}
    assert retrain.get_task("done").trigger_rule == "all_success"
    assert {task.task_id for task in retrain.leaves} == {"report", "done"}


def test_nightly(retrain: Any) -> None:
    """Nightly by cron, one run at a time, and what was missed is not caught up: the history window reads it anyway."""
    assert retrain.timetable.expression == "30 2 * * *"
    assert retrain.timetable.interval.total_seconds() == 86_400
    assert (retrain.catchup, retrain.max_active_runs) == (False, 1)


def test_gpu_pool(retrain: Any) -> None:
    """The tasks that run a model wait for a slot of `relevance_gpu`; the others do not."""
    pooled = {task.task_id for task in retrain.tasks if task.pool == "relevance_gpu"}
    assert pooled == {"base", "adapter.mine", "adapter.denoise", "adapter.train", "adapter.evaluate", "rollout"}


def test_approval_is_asked_for_with_a_reason_and_no_as_the_default(retrain: Any) -> None:
    """*approve* is Airflow's own approval, takes no slot of the GPUs, and asks for a reason, not for the DAG's params."""
    from airflow.providers.standard.operators.hitl import ApprovalOperator

    approve = retrain.get_task("adapter.approve")
    assert isinstance(approve, ApprovalOperator)
    assert (approve.options, approve.defaults, approve.pool) == (["Approve", "Reject"], ["Reject"], "default_pool")
    assert list(approve.params) == ["why"]
    assert approve.params.get_param("why").schema["type"] == ["null", "string"]


@pytest.fixture
def approving(retrain: Any, rules: Any, store: Store, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[Any, Any]]:
    """A verdict → *approve* of QC in a run with it, and the context that Airflow would call it with."""
    from airflow.sdk.bases.operator import ExecutorSafeguard

    monkeypatch.setattr(ExecutorSafeguard, "test_mode", True)
    monkeypatch.setenv("RELEVANCE_STORE", store.uri)

    def make(verdict: str) -> tuple[Any, Any]:
        judged(store, "QC", verdict, rules.run_id_of(date(2026, 10, 8), "one"))
        task = copy.copy(retrain.get_task("adapter.approve"))
        task.for_task = "QC"
        run = SimpleNamespace(run_id="one", data_interval_end=None, run_after=datetime(2026, 10, 8, 5, tzinfo=UTC))
        return task, {"dag_run": run, "params": {}, "task_instance": SimpleNamespace(id="some")}

    return make


@pytest.mark.parametrize("verdict", ["publish", "hold"])
def test_nobody_is_asked_where_the_gate_decides(approving: Callable[[str], tuple[Any, Any]], verdict: str) -> None:
    """With the other verdicts *approve* ends at once, with nothing to say."""
    task, context = approving(verdict)
    assert task.execute(context) is None


def test_approve_waits_for_an_answer_and_keeps_it(
    approving: Callable[[str], tuple[Any, Any]], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks once with the run's time limit and ends well on a no, skipping nothing; done again, the answer stands."""
    from airflow.providers.standard.operators import hitl
    from airflow.sdk.exceptions import TaskAwaitingInput

    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(hitl, "upsert_hitl_detail", lambda **what: asked.append(what))
    task, context = approving("needs-approval")
    with pytest.raises(TaskAwaitingInput) as waits:
        task.execute(context)
    assert waits.value.timeout == timedelta(hours=12)
    assert asked[0]["subject"].startswith("May QC 0a1b2c3d serve?")
    assert "| evidence in de | **FAILED** |" in asked[0]["body"]
    event = {
        "chosen_options": ["Reject"],
        "params_input": {"why": None},
        "responded_at": datetime(2026, 11, 20, 20, 30, tzinfo=UTC),
        "responded_by_user": {"id": "7", "name": "ada"},
    }
    kept = task.execute_complete(context, event)
    assert (kept["approved"], kept["who"], kept["version"]) == (False, "ada", "0a1b2c3d")
    assert task.execute(context) == kept
    assert len(asked) == 1
    (entry,) = [entry for entry in store.list("runs/") if "/approval-" in entry.key]
    assert json.loads(store.read(entry.key)) == kept


def test_outlets(retrain: Any) -> None:
    """*rollout* is what may update the assets of the adapters."""
    assets = {asset.uri: task.task_id for task in retrain.tasks for asset in task.outlets}
    assert assets == {"relevance://adapter/qc": "rollout", "relevance://adapter/qi": "rollout"}


def test_params_are_documented_and_default_to_the_settings(retrain: Any) -> None:
    """Every param has a title and a section, and without a settings file its default is the setting's."""
    for name in retrain.params:
        param = retrain.params.get_param(name)
        assert param.schema["title"], name
        assert param.schema["section"], name
        if name not in {"dry_run", "window.end"}:
            assert param.value == _setting(Settings(), name), name
    assert list(retrain.params.get_param("onboard").schema["values_display"]) == list(languages.LANGUAGES)
    assert retrain.params.get_param("onboard").schema["values_display"]["de"] == "German (de)"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tasks", []),
        ("tasks", ["QX"]),
        ("onboard", ["klingon"]),
        ("gate.min_f1", 1.5),
        ("window.days", 0),
        ("window.end", 3),
        ("window.end", "2026-10-15T12:00"),
    ],
)
def test_params_refuse_what_settings_refuse(retrain: Any, name: str, value: Any) -> None:
    """A value out of a setting's bounds is refused when the run is triggered, before any task."""
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        retrain.params.get_param(name).resolve(value)


def test_commands_hold_no_typed_text(retrain: Any, rollback: Any) -> None:
    """No command has anything filled in: what a person types reaches it as environment, in double quotes."""
    commands = [task.bash_command for dag in (retrain, rollback) for task in dag.tasks if hasattr(task, "bash_command")]
    assert len(commands) == 16
    for command in commands:
        assert "{{" not in command
        assert "{%" not in command
        bare = command.replace('"$', "").replace("${", "")
        assert "$" not in bare, f"a variable outside double quotes in {command}"


def test_rollback_survives_hostile_text(rollback: Any, tmp_path: Path) -> None:
    """A reason full of quotes, `$( )`, back-ticks and newlines arrives as the very same text, and nothing of it is run."""
    seen = tmp_path / "seen.json"
    fake = tmp_path / "bin" / "relevance"
    fake.parent.mkdir()
    fake.write_text(f"#!{sys.executable}\nimport json, sys\njson.dump(sys.argv[1:], open({str(seen)!r}, 'w'))\n")
    fake.chmod(0o700)
    variables = dict.fromkeys(rollback.get_task("move").env, SHELL_BAIT)
    path = f"{fake.parent}:/usr/bin:/bin"
    subprocess.run(
        ["bash", "-c", rollback.get_task("move").bash_command], env={**variables, "PATH": path}, cwd=tmp_path, check=True
    )
    arguments = json.loads(seen.read_text())
    assert arguments[:2] == ["registry", "rollback"]
    assert f"--why={SHELL_BAIT}" in arguments
    assert f"--version={SHELL_BAIT}" in arguments
    assert not (tmp_path / "owned").exists()


def test_database_address_reaches_ingest_alone(retrain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Airflow connection is in the environment of *ingest*, not in a command, a rendered field or another task."""
    monkeypatch.setenv("AIRFLOW_CONN_LOGS", "postgres://reader:s3cr%40et@db:5432/logs")
    monkeypatch.setenv("RELEVANCE_CONNECTION", "logs")
    monkeypatch.setenv("RELEVANCE_STORE", "/store")
    params = {name: retrain.params.get_param(name).value for name in retrain.params}
    run = SimpleNamespace(run_id="one", data_interval_end=None, run_after=datetime(2026, 10, 8, 5, tzinfo=UTC))
    context = {"dag_run": run, "params": params, "dag": retrain}
    settings = {
        task.task_id: json.loads(task.variables(context)["RELEVANCE_SETTINGS"])
        for task in retrain.tasks
        if hasattr(task, "bash_command")
    }
    assert settings.pop("ingest") == {"source": {"connection": "postgresql+psycopg://reader:s3cr%40et@db:5432/logs"}}
    assert "s3cr" not in json.dumps(settings)
    ingest = retrain.get_task("ingest")
    assert all("s3cr" not in str(getattr(ingest, field)) for field in ingest.template_fields)


def test_dag_files_are_short(retrain: Any) -> None:
    """A DAG file is the picture of the loop: 150 lines at most."""
    for file in (PROJECT / "dags").glob("*.py"):
        assert len(file.read_text().splitlines()) <= 150, file.name


def test_parse_is_light() -> None:
    """Beyond Airflow itself, reading the DAG files takes under half a second of CPU and imports nothing but this project."""
    script = f"""
import importlib.util, json, sys, time
sys.path.insert(0, {str(PROJECT / "plugins")!r})
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.providers.common.compat.sdk import redact
from airflow.sdk import DAG, Asset, AsyncCallback, BaseHook, BaseNotifier, CronTriggerTimetable, DeadlineAlert, Param, task_group
from airflow.sdk.observability import stats
with DAG("empty", params={{"one": Param(1, type="integer")}}):
    BashOperator(task_id="one", bash_command="true", outlets=[Asset("relevance://one")])
before, started = set(sys.modules), time.process_time()
for name in ("relevance_retrain", "relevance_rollback"):
    spec = importlib.util.spec_from_file_location(name, {str(PROJECT / "dags")!r} + "/" + name + ".py")
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
seconds = time.process_time() - started
new = {{name.partition(".")[0] for name in set(sys.modules) - before}} - set(sys.stdlib_module_names)
print(json.dumps([seconds, sorted(new)]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    seconds, modules = json.loads(done.stdout.splitlines()[-1])
    assert seconds < 0.5
    assert set(modules) <= {"relevance_core", "relevance_airflow"}


def test_unknown_conf_keys(rules: Any) -> None:
    """A mistyped key is refused, and the message lists the known ones."""
    with pytest.raises(SettingsError, match=r"unknown keys: onbord; .*expected: onboard, tasks"):
        rules.refuse_unknown({"onbord": ["de"], "tasks": ["QC"]}, ["onboard", "tasks"])
    rules.refuse_unknown({"tasks": ["QC"]}, ["onboard", "tasks"])


@pytest.mark.parametrize(
    ("params", "interval_end", "expected"),
    [
        ({"window.end": "2026-10-08"}, datetime(2026, 11, 20, 2, 30, tzinfo=UTC), date(2026, 10, 8)),
        ({"window.end": None}, datetime(2026, 11, 20, 2, 30, tzinfo=UTC), date(2026, 11, 20)),
        ({"window.end": None}, None, date(2026, 11, 21)),
    ],
)
def test_window_end(rules: Any, params: dict[str, Any], interval_end: datetime | None, expected: date) -> None:
    """The param comes first, then the data interval's end, then the moment a run by hand was made for; always a midnight."""
    for text in ("2026-10-15T12:00", "2026-10-15T00:00:00+09:00", "20261015"):
        with pytest.raises(SettingsError, match=r"is no date; where: window\.end; expected: YYYY-MM-DD"):
            rules.window_end({"window.end": text}, interval_end, datetime(2026, 11, 21, tzinfo=UTC))
    assert rules.window_end(params, interval_end, datetime(2026, 11, 21, 23, 59, tzinfo=UTC)) == expected


def test_params_become_settings(rules: Any, retrain: Any) -> None:
    """The params of a run, as nested settings, are what the settings of the run are built from."""
    params = {name: retrain.params.get_param(name).value for name in retrain.params}
    params |= {"gate.min_f1": 0.7, "onboard": ["it", "de"], "tasks": ["QC"], "dry_run": True, "unknown": SHELL_BAIT}
    settings = build(rules.settings_of(params, retrain.params, date(2026, 10, 8)))
    assert settings.gate.min_f1 == 0.7
    assert settings.onboard == ("de", "it")
    assert settings.tasks == ("QC",)
    assert settings.window.bounds() == (datetime(2026, 10, 7, tzinfo=UTC), datetime(2026, 10, 8, tzinfo=UTC))


def test_run_id(rules: Any) -> None:
    """A run's name is safe in a path whatever Airflow's run id holds, the same every time, and another for another run."""
    name = rules.run_id_of(date(2026, 10, 8), "manual__2026-10-08T00:00:00+00:00 ../x")
    assert name == rules.run_id_of(date(2026, 10, 8), "manual__2026-10-08T00:00:00+00:00 ../x")
    assert name != rules.run_id_of(date(2026, 10, 8), "manual__2026-10-08T00:00:00+00:00")
    assert name.startswith("2026-10-08-")
    assert set(name) <= set("0123456789abcdef-")


def test_who_answered_when_and_why(rules: Any) -> None:
    """A person's answer has the name, the moment in UTC and the reason; the answer of nobody is no, whatever the default."""
    at = datetime(2026, 11, 20, 21, 30, tzinfo=timezone(timedelta(hours=1)))
    event = {
        "chosen_options": ["Approve"],
        "params_input": {"why": "seen by hand"},
        "responded_at": at,
        "responded_by_user": {"id": "7", "name": "ada"},
    }
    answer = rules.answer_of(event, "QC", "0a1b", 12.0)
    assert answer == ("QC", "0a1b", True, "ada", "2026-11-20T20:30:00+00:00", "seen by hand")
    assert rules.answer_of(event | {"params_input": {}}, "QC", "0a1b", 12.0).why == ""
    assert not rules.answer_of(event | {"chosen_options": ["Reject"]}, "QC", "0a1b", 12.0).approved
    nobody = rules.answer_of(event | {"responded_by_user": None}, "QC", "0a1b", 0.5)
    assert (nobody.approved, nobody.who, nobody.why) == (False, "", "nobody answered within 0.5 hours")


@pytest.mark.parametrize(
    ("code", "heals"),
    [
        *((code, False) for code in (64, 65, 66, 67, 68, 70, 75, 2, 127)),
        *((code, True) for code in (74, 1, -9, 137)),
    ],
)
def test_what_can_heal(rules: Any, code: int, heals: bool) -> None:
    """Tried again: a store that failed, a killed process, an unforeseen error. Never: bad settings or rows, a wrong program."""
    assert rules.heals(code) is heals


def test_deployment_without_a_store(rules: Any) -> None:
    """A worker without RELEVANCE_STORE says which variable is missing and where to set it."""
    with pytest.raises(SettingsError, match="RELEVANCE_STORE"):
        rules.Deployment.of({})


def test_param_of_no_setting(rules: Any) -> None:
    """A param named like no setting is found when the DAG file is read."""
    with pytest.raises(SettingsError, match=r"gate\.minimum"):
        rules.field_schema("gate.minimum", Settings())
    with pytest.raises(SettingsError, match=r"gates\.min_f1"):
        rules.field_schema("gates.min_f1", Settings())


def test_a_setting_that_is_left_out_of_what_is_written_can_be_a_param(rules: Any) -> None:
    """`train.tapt` is not written while it is off; its param says off all the same."""
    assert rules.field_schema("train.tapt", Settings())["default"] == "off"


def test_settings_file_sets_the_defaults(rules: Any, tmp_path: Path) -> None:
    """What the deployment's settings file says is what the form shows, and a broken file is found when the DAG file is read."""
    file = tmp_path / "settings.toml"
    file.write_text("[gate]\nmin_f1 = 0.8\n")
    settings = rules.in_force({"RELEVANCE_SETTINGS_FILE": str(file)})
    assert rules.field_schema("gate.min_f1", settings)["default"] == 0.8
    file.write_text("[gate]\nmin_f1 = 8\n")
    with pytest.raises(SettingsError, match=r"gate\.min_f1"):
        rules.in_force({"RELEVANCE_SETTINGS_FILE": str(file)})


def _setting(settings: Settings, name: str) -> Any:
    return value_at(settings.model_dump(mode="json"), name)
