"""Operators of the DAGs: each stage of the loop as a separate process, and the hooks before and after some stages.

The rules are in `params`, without Airflow; this module applies them to Airflow's context.
"""

from __future__ import annotations

import functools
import json
import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import redact
from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Asset, BaseHook, BaseOperator, Param
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from airflow.sdk.observability import stats

from relevance_airflow import metrics, texts
from relevance_airflow import params as rules
from relevance_core import config
from relevance_core.config import Settings
from relevance_core.errors import SettingsError
from relevance_core.runs.steps import step_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from airflow.providers.standard.hooks.subprocess import SubprocessResult
    from airflow.sdk import Context
    from jinja2 import Environment

    from relevance_core.runs.run import Run


class Process(SubprocessHook):
    """A process whose last line of output is kept: after a failure it holds the cause."""

    last_line = ""

    def run_command(self, *arguments: Any, **options: Any) -> SubprocessResult:
        """Runs the command to its end and keeps its last line."""
        result = super().run_command(*arguments, **options)
        self.last_line = result.output
        return result


class RelevanceOperator(BashOperator):
    """Runs `relevance …` as a separate process; its last line of output, a JSON object, goes to the next tasks.

    The text of the command is the same in every run. Values of the run reach it as environment, so no shell reads anything that a
    user types. A failure that is not retryable ends the task without another try. Its cause is left as XCom `failure`.
    """

    def __init__(self, *, command: str, **options: Any) -> None:
        text = f'relevance {command} ${{RELEVANCE_SETTINGS_FILE:+--settings "$RELEVANCE_SETTINGS_FILE"}} --json'
        super().__init__(bash_command=text, append_env=True, output_processor=json.loads, skip_on_exit_code=None, **options)

    @functools.cached_property
    def subprocess_hook(self) -> Process:
        """The hook that runs the command."""
        return Process()

    def get_env(self, context: Context) -> dict[str, str]:
        """Returns the process's environment: the worker's own, the task's, and the run's."""
        return dict(super().get_env(context)) | self.variables(context)

    def variables(self, context: Context) -> dict[str, str]:
        """Returns the variables that the run adds to the environment."""
        return {}

    def execute(self, context: Context) -> Any:
        """Runs the command. Raises AirflowFailException, which ends the task without another try, for what is not retryable."""
        try:
            rules.Deployment.of(os.environ)
            return super().execute(context)
        except SettingsError as error:
            raise beyond_healing(context, error) from error
        except AirflowException as error:
            leave_cause(context, texts.cause(self.subprocess_hook.last_line))
            process = self.subprocess_hook.sub_process
            if process is None or rules.heals(process.returncode):
                raise
            text = f"{self.task_id} ended with status {process.returncode}, which another try can't heal; the cause stands above"
            raise AirflowFailException(text) from error


class ForTask(BaseOperator):
    """A task of the group *adapter*: `for_task` is QC or QI by the time it runs."""

    for_task: Any = None

    def render_template_fields(self, context: Context, jinja_env: Environment | None = None) -> None:
        """Renders the fields and resolves `for_task`.

        As a template field, `for_task` would draw an edge from *begin* to every task of the group.
        """
        super().render_template_fields(context, jinja_env)
        if hasattr(self.for_task, "resolve"):
            self.for_task = self.for_task.resolve(context)


class StageOperator(ForTask, RelevanceOperator):
    """Runs the stage of the loop that the task is named after.

    for_task: QC or QI, for the stages that run once a task. reads_source: True for a stage that gets the address of the SQL
    source's database.
    """

    arguments = ""

    def __init__(self, *, task_id: str, for_task: Any = None, reads_source: bool = False, **options: Any) -> None:
        self.for_task, self.reads_source = for_task, reads_source
        step = step_of(task_id)
        if step.gpu:
            options.setdefault("pool", rules.POOL)
        command = f'stage {task_id} --run "$RELEVANCE_RUN"{self.arguments}'
        if for_task is not None:
            command += ' --task "$RELEVANCE_TASK"'
            options["map_index_template"] = "{{ task.for_task }}"
        super().__init__(task_id=task_id, command=command, task_display_name=step.title, doc_md=step.text, **options)

    def variables(self, context: Context) -> dict[str, str]:
        """Returns the run's name, its params as one JSON object of settings, and the database's address where it is needed."""
        deployment = rules.Deployment.of(os.environ)
        settings = config.merge(json.loads(deployment.settings or "{}"), self.settings(context))
        if self.reads_source and deployment.connection:
            settings = config.merge(settings, {"source": {"connection": connection_address(deployment.connection)}})
        run_id = run_in_store(context)
        self.log.info("run %s of the store %s", run_id, deployment.store)
        variables = {"RELEVANCE_RUN": run_id, "RELEVANCE_SETTINGS": json.dumps(settings)}
        variables["RELEVANCE_AIRFLOW_RUN"] = context["dag_run"].run_id
        return variables | ({"RELEVANCE_TASK": self.for_task} if self.for_task else {})

    def execute(self, context: Context) -> Any:
        """Runs the stage, and sends its figures as metrics."""
        report = super().execute(context)
        try:
            send_metrics(report)
        except Exception:
            self.log.exception("the metrics of a finished stage could not be sent")
        return report

    def settings(self, context: Context) -> dict[str, Any]:
        """Returns the settings that the task lays over the deployment's: none, since *begin* has pinned those of the run."""
        return {}


class BeginOperator(StageOperator):
    """The first task: refuses a run with unusable params, pins its settings, and returns its tasks, to map over.

    Leaves the run's name in the store as XCom `run_id`, and the plan for the onboarded languages as `plan`.
    """

    arguments = ' --dag-run="$RELEVANCE_AIRFLOW_RUN"'

    def execute(self, context: Context) -> list[str]:
        """Begins the run. Raises AirflowFailException for unusable params."""
        known_params_only(context)
        begun = super().execute(context)
        for name in ("run_id", "plan"):
            context["ti"].xcom_push(name, begun[name])
        return list(begun["tasks"])

    def settings(self, context: Context) -> dict[str, Any]:
        """Returns the run's params as nested settings."""
        return rules.settings_of(context["params"], context["dag"].params, window_end(context))


class ApproveOperator(ForTask, ApprovalOperator):
    """Waits for a person where the gate's verdict is needs-approval, and keeps the answer in the run; else it ends at once.

    Waiting takes no slot of a worker. Returns the answer, None where the verdict needs nobody's. The tasks after it run whatever
    the answer: *rollout* reads the record.
    """

    def __init__(self, *, task_id: str, for_task: Any, **options: Any) -> None:
        self.for_task = for_task
        step = step_of(task_id)
        why = Param(None, type=["null", "string"], maxLength=500, title="Why", description="kept with the answer", source="task")
        # Airflow hands the DAG's params to every operator; the form asks only for the question's own.
        options |= {"params": {"why": why}, "map_index_template": "{{ task.for_task }}"}
        super().__init__(
            task_id=task_id, subject="", body="", defaults=self.REJECT, task_display_name=step.title, doc_md=step.text, **options
        )

    def execute(self, context: Context) -> dict[str, Any] | None:
        """Asks, unless the verdict needs no answer or somebody has answered before."""
        from relevance_core.runs.approval import approvals

        run = self._run(context)
        question = run.question(self.for_task)
        if question is not None:
            self.subject, self.body = question.subject, question.body
            self.response_timeout = timedelta(hours=run.settings.approval.hours)
            super().execute(context)
        answer = approvals(run.store, run.run_id).get(self.for_task)
        self.log.info("%s: %s", self.for_task, answer.told() if answer else "the verdict asks nobody")
        return answer._asdict() if answer else None

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Keeps the answer. Bypasses ApprovalOperator's own method, which would skip *rollout* and *done* after a "no"."""
        from relevance_core.runs import approval

        super(ApprovalOperator, self).execute_complete(context, event)
        run = self._run(context)
        version = run.artifact("publish", self.for_task).json("version")["version"]
        answer = rules.answer_of(event, self.for_task, version, run.settings.approval.hours)
        approval.record(run.store, run.run_id, answer)
        self.log.info("%s %s: %s", self.for_task, version, answer.told())
        return answer._asdict()

    def _run(self, context: Context) -> Run:
        from relevance_core.runs.run import open_run
        from relevance_core.store import open_store

        store = open_store(rules.Deployment.of(os.environ).store)
        return open_run(store, run_in_store(context), Settings())


def known_params_only(context: Context) -> None:
    """Raises AirflowFailException for a key of the run's conf that is no param: Airflow itself would drop it silently."""
    try:
        rules.refuse_unknown(context["dag_run"].conf or {}, context["dag"].params)
    except SettingsError as error:
        raise beyond_healing(context, error) from error


def beyond_healing(context: Context, error: SettingsError) -> AirflowFailException:
    """Returns the exception that ends a task without another try, and leaves its cause for the notice."""
    leave_cause(context, str(error))
    return AirflowFailException(str(error))


def leave_cause(context: Context, cause: str) -> None:
    """Leaves the cause of a failure for the run's notice, without the secrets that Airflow masks in logs."""
    context["ti"].xcom_push(rules.FAILURE, texts.plain(str(redact(cause))))


def run_in_store(context: Context) -> str:
    """Returns the name of the run in the store."""
    return rules.run_id_of(window_end(context), context["dag_run"].run_id)


def window_end(context: Context) -> date:
    """Returns the end of the run's window."""
    run = context["dag_run"]
    return rules.window_end(context["params"], run.data_interval_end, run.run_after)


def setting_param(name: str, title: str, section: str, **schema: Any) -> Param:
    """Makes a DAG param of a setting: its name, value in force, bounds and description.

    Args:
        name: of the setting, dotted.
        title: shown in the trigger form.
        section: of the trigger form.
        schema: changes to the setting's JSON schema.

    Raises:
        SettingsError: there is no such setting.
    """
    return Param(**(rules.field_schema(name, _settings_in_force()) | {"title": title, "section": section} | schema))


@functools.cache
def _settings_in_force() -> Settings:
    return rules.in_force(os.environ)


def choices(name: str, title: str, section: str, options: Mapping[str, str], **schema: Any) -> Param:
    """Makes a param that lets a person pick several labelled values.

    Args:
        name: of the setting, dotted.
        title: shown in the trigger form.
        section: of the trigger form.
        options: value → label.
        schema: as in `setting_param`.
    """
    items = {"type": "string", "enum": list(options)}
    labels = {value: f"{label} ({value})" for value, label in options.items()}
    return setting_param(name, title, section, type="array", items=items, examples=list(options), values_display=labels, **schema)


def connection_address(connection: str) -> str:
    """Returns the database URL of an Airflow connection in SQLAlchemy's form. Airflow masks its password in every log."""
    address = str(BaseHook.get_connection(connection).get_uri())
    return address.replace("postgres://", "postgresql+psycopg://", 1)


def not_in_dry_run(context: Context) -> None:
    """Ends a dry run before a task that builds or trains a model: raises AirflowSkipException, so that the report follows."""
    if context["params"][rules.DRY_RUN]:
        raise AirflowSkipException("dry run: nothing is built, trained or published")


def send_metrics(report: Mapping[str, Any]) -> None:
    """Sends the numbers of a stage's report to the metrics system that Airflow is configured with."""
    for metric in metrics.metrics_of(report):
        if metric.kind == "gauge":
            stats.gauge(metric.name, metric.value)
        else:
            stats.incr(metric.name, int(metric.value))


def adapter_asset(task: str) -> Asset:
    """Returns the asset that stands for the adapter that serves a task."""
    return Asset(f"relevance://adapter/{task.lower()}", group="relevance")


def announce(context: Context, result: dict[str, Any]) -> None:
    """Updates, after *rollout*, the asset of each adapter whose version serves now, with its version and quality.

    The task declares the assets of all tasks, since the graph shows what it may update; this function leaves only those that moved.
    """
    moved = [task for task, about in result["figures"]["tasks"].items() if about["promoted"] and about["serves"]]
    context["task"].outlets = [adapter_asset(task) for task in moved]
    for task in moved:
        context["outlet_events"][adapter_asset(task)].extra = {
            "version": result["figures"]["tasks"][task]["version"],
            "f1": _before(context, "evaluate", task)["f1"],
            "verdict": _before(context, "gate", task)["verdict"],
        }


def _before(context: Context, stage: str, task: str) -> Any:
    """Returns the figures of an earlier stage of a task."""
    instance = context["ti"]
    place = instance.xcom_pull(task_ids="begin").index(task)
    return instance.xcom_pull(task_ids=f"adapter.{stage}", map_indexes=place)["figures"]
