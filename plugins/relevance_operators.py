"""What the DAGs are made of: a stage of the loop as a process of its own, and the hooks before and after some stages.

The rules are in `relevance_params`, without Airflow; here they meet Airflow's context.
"""

from __future__ import annotations

import functools
import json
import os
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import Asset, BaseHook, Param
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

import relevance_params as rules
from relevance_core import config
from relevance_core.config import Settings
from relevance_core.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from airflow.sdk import Context
    from jinja2 import Environment

STAGES = {
    "begin": ("begin the run", "Fixes what the run works with: settings, params, the champion and the onboarded languages."),
    "ingest": ("ingest labelled logs", "Reads the rows of the window and of the history before it; normalises, drops doubles."),
    "validate": ("validate the window", "Great Expectations: bad rows go to quarantine, a bad window stops the run here."),
    "split": ("split train from dev", "By the hash of a query and its group, so that a query stays on its side for ever."),
    "translate": ("translate to new markets", "Makes training rows for onboarded and for thin languages; the label is kept."),
    "base": ("base model", "Finds the base model, or builds the embedded one once and keeps it in the store."),
    "mine": ("mine hard negatives", "Near neighbours that are not relevant, behind guards against false negatives."),
    "denoise": ("denoise the labels", "Self-validation: rows whose label a confident prediction contradicts go to the ledger."),
    "train": ("train the adapter", "LoRA on the yes/no answer. Goes on from its last checkpoint after a kill."),
    "evaluate": ("evaluate by language", "F1 and AUC on the judgement rows, beside the champion and always-yes."),
    "gate": ("gate: is it better?", "The verdict: publish, hold or needs-approval, with every reason and number."),
    "publish": ("publish to the registry", "An immutable version, unless the verdict is hold. What serves does not change yet."),
    "rollout": (
        "roll out to the servers",
        "The versions with the verdict publish answer their golden pairs; then the alias moves.",
    ),
    "report": ("report for people", "Written whatever happened before it, as soon as the run has begun."),
}
"""Stage → its name in the graph, and what it does in a sentence."""


class RelevanceOperator(BashOperator):
    """`relevance …` as a process of its own; its last line of output, one JSON object, is what the next tasks see.

    The text of the command is the same in every run. What differs between runs reaches it as environment, so nothing that a user
    types is read by a shell. A failure that trying again can't heal is not tried again.
    """

    def __init__(self, *, command: str, **options: Any) -> None:
        text = f'relevance {command} ${{RELEVANCE_SETTINGS_FILE:+--settings "$RELEVANCE_SETTINGS_FILE"}} --json'
        super().__init__(bash_command=text, append_env=True, output_processor=json.loads, skip_on_exit_code=None, **options)

    def get_env(self, context: Context) -> dict[str, str]:
        """The process's environment: the worker's own, what the task says, and what the run says."""
        return dict(super().get_env(context)) | self.variables(context)

    def variables(self, context: Context) -> dict[str, str]:
        """What the run adds to the environment."""
        return {}

    def execute(self, context: Context) -> Any:
        """Runs the command. Raises AirflowFailException, which ends the task without another try, for what can't heal."""
        try:
            rules.Deployment.of(os.environ)
            return super().execute(context)
        except SettingsError as error:
            raise AirflowFailException(str(error)) from error
        except AirflowException as error:
            process = self.subprocess_hook.sub_process
            if process is None or rules.heals(process.returncode):
                raise
            text = f"{self.task_id} ended with status {process.returncode}, which another try can't heal; the cause stands above"
            raise AirflowFailException(text) from error


class StageOperator(RelevanceOperator):
    """The stage of the loop that the task is named after.

    for_task: QC or QI, for the stages that run once each. reads_source: whether it needs the address of the SQL source's database.
    """

    def __init__(self, *, task_id: str, for_task: Any = None, reads_source: bool = False, **options: Any) -> None:
        self.for_task, self.reads_source = for_task, reads_source
        name, text = STAGES[task_id]
        command = f'stage {task_id} --run "$RELEVANCE_RUN"'
        if for_task is not None:
            command += ' --task "$RELEVANCE_TASK"'
            options["map_index_template"] = "{{ task.for_task }}"
        super().__init__(task_id=task_id, command=command, task_display_name=name, doc_md=text, **options)

    def render_template_fields(self, context: Context, jinja_env: Environment | None = None) -> None:
        """Also settles which task this is. As a template field, it would draw an edge from *begin* to every task of the group."""
        super().render_template_fields(context, jinja_env)
        if hasattr(self.for_task, "resolve"):
            self.for_task = self.for_task.resolve(context)

    def variables(self, context: Context) -> dict[str, str]:
        """The run's name, its params as one JSON object of settings, and the database's address where the stage reads it."""
        deployment = rules.Deployment.of(os.environ)
        settings = config.merge(json.loads(deployment.settings or "{}"), self.settings(context))
        if self.reads_source and deployment.connection:
            settings = config.merge(settings, {"source": {"connection": connection_address(deployment.connection)}})
        run_id = rules.run_id_of(window_end(context), context["dag_run"].run_id)
        self.log.info("run %s of the store %s", run_id, deployment.store)
        variables = {"RELEVANCE_RUN": run_id, "RELEVANCE_SETTINGS": json.dumps(settings)}
        return variables | ({"RELEVANCE_TASK": self.for_task} if self.for_task else {})

    def settings(self, context: Context) -> dict[str, Any]:
        """The settings that the task lays over the deployment's: none, since the run fixed its own when it began."""
        return {}


class BeginOperator(StageOperator):
    """The first task: refuses what the run can't mean, fixes its settings, and returns the tasks that it is for, to map over.

    Leaves the run's name in the store as XCom `run_id`.
    """

    def execute(self, context: Context) -> list[str]:
        """Runs it. Raises AirflowFailException for a run that can't be meant."""
        known_params_only(context)
        begun = super().execute(context)
        context["ti"].xcom_push("run_id", begun["run_id"])
        return list(begun["tasks"])

    def settings(self, context: Context) -> dict[str, Any]:
        """The run's params."""
        return rules.settings_of(context["params"], context["dag"].params, window_end(context))


def known_params_only(context: Context) -> None:
    """Raises AirflowFailException for a key of the run's conf that no param has: Airflow itself would drop it without a word."""
    try:
        rules.refuse_unknown(context["dag_run"].conf or {}, context["dag"].params)
    except SettingsError as error:
        raise AirflowFailException(str(error)) from error


def window_end(context: Context) -> date:
    """The end of the run's window."""
    run = context["dag_run"]
    return rules.window_end(context["params"], run.data_interval_end, run.run_after)


def setting_param(name: str, title: str, section: str, **schema: Any) -> Param:
    """A DAG param named like the setting that it sets, with the setting's value in force, bounds and meaning."""
    return Param(**(rules.field_schema(name, _settings_in_force()) | {"title": title, "section": section} | schema))


@functools.cache
def _settings_in_force() -> Settings:
    return rules.in_force(os.environ)


def choices(name: str, title: str, section: str, options: Mapping[str, str], **schema: Any) -> Param:
    """A param that lets a person pick several labelled values."""
    items = {"type": "string", "enum": list(options)}
    labels = {value: f"{label} ({value})" for value, label in options.items()}
    return setting_param(name, title, section, type="array", items=items, examples=list(options), values_display=labels, **schema)


def connection_address(connection: str) -> str:
    """The database URL of an Airflow connection as SQLAlchemy takes it. Airflow masks its password in every log."""
    address = str(BaseHook.get_connection(connection).get_uri())
    return address.replace("postgres://", "postgresql+psycopg://", 1)


def not_in_dry_run(context: Context) -> None:
    """Before a task that builds or trains a model: a dry run ends here, with the report of what there is."""
    if context["params"][rules.DRY_RUN]:
        raise AirflowSkipException("dry run: nothing is built, trained or published")


def adapter_asset(task: str) -> Asset:
    """The asset that stands for the adapter that serves a task."""
    return Asset(f"relevance://adapter/{task.lower()}", group="relevance")


def announce(context: Context, result: dict[str, Any]) -> None:
    """After *rollout*: an adapter's asset is updated only if its version serves now, and says which one and how good it is.

    The task declares the assets of all tasks, since the graph shows what it may update; here only those that moved are left.
    """
    moved = [task for task, about in result["figures"]["tasks"].items() if about["promoted"]]
    context["task"].outlets = [adapter_asset(task) for task in moved]
    for task in moved:
        context["outlet_events"][adapter_asset(task)].extra = {
            "version": result["figures"]["tasks"][task]["version"],
            "f1": _before(context, "evaluate", task)["f1"],
            "verdict": _before(context, "gate", task)["verdict"],
        }


def _before(context: Context, stage: str, task: str) -> Any:
    """The figures of an earlier stage of a task."""
    instance = context["ti"]
    place = instance.xcom_pull(task_ids="begin").index(task)
    return instance.xcom_pull(task_ids=f"adapter.{stage}", map_indexes=place)["figures"]
