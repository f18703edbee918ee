"""### From labelled query logs to a published adapter, every night

The window's labelled logs are validated, split, translated to new markets, extended with hard negatives and cleaned; on them
one LoRA adapter each is trained for **QC** (query–category) and **QI** (query–item), judged by language against the champion,
published if it is better, and proved on the servers before it serves. Where only evidence is missing, *approve* waits for
a person. Until then, and whenever something fails, the champion goes on serving.

Each task is one process, `relevance stage NAME`. A task that finds its finished output ends at once, so clearing and running again
is cheap. *report* is written whatever happened. Trigger the DAG by hand to onboard a language, try other strategies or thresholds,
or look first with *dry run*. Pool `relevance_gpu` limits the tasks that want a GPU (docs/operating.md).
"""

import os
from datetime import UTC, datetime, timedelta

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, CronTriggerTimetable, Param, task_group

from relevance_airflow.notices import Decided, Failed, Waiting, deadline
from relevance_airflow.operators import (
    ApproveOperator,
    BeginOperator,
    StageOperator,
    adapter_asset,
    announce,
    choices,
    not_in_dry_run,
    setting_param,
)
from relevance_core.languages import LANGUAGES

TASKS = {"QC": "query–category", "QI": "query–item"}
CRON = os.environ.get("RELEVANCE_SCHEDULE", "30 2 * * *")
ADAPTERS = [adapter_asset(task) for task in TASKS]

MARKET, WINDOW, STRATEGIES, GATE = "What to train", "Which rows", "Strategies", "Gate"
PARAMS = {
    "onboard": choices("onboard", "Onboard languages", MARKET, LANGUAGES),
    "tasks": choices("tasks", "Tasks", MARKET, TASKS, minItems=1),
    "dry_run": Param(
        False,
        type="boolean",
        title="Dry run",
        section=MARKET,
        description="stop before a model is built or trained, with the report of what it would be trained on",
    ),
    "window.end": Param(
        None,
        type=["null", "string"],
        format="date",
        title="End of the window",
        section=WINDOW,
        description="the first day that is not read (UTC); empty: the day of the run, so that yesterday is the last day read",
    ),
    "window.days": setting_param("window.days", "Days of fresh rows", WINDOW),
    "window.history_days": setting_param("window.history_days", "Days of history", WINDOW),
    "translate.enabled": setting_param("translate.enabled", "Translate", STRATEGIES, description="training rows for new markets"),
    "mine.enabled": setting_param("mine.enabled", "Mine", STRATEGIES, description="semantic hard negatives"),
    "denoise.enabled": setting_param("denoise.enabled", "Denoise", STRATEGIES, description="self-validation of the labels"),
    "prompt.translation": setting_param("prompt.translation", "English translation in the prompt", STRATEGIES),
    "gate.min_f1": setting_param("gate.min_f1", "F1 floor", GATE),
    "gate.min_over_always_yes": setting_param("gate.min_over_always_yes", "Margin over always-yes", GATE),
    "gate.confidence": setting_param("gate.confidence", "Confidence against the champion", GATE),
    "gate.min_gain": setting_param("gate.min_gain", "Gain over the champion", GATE),
    "gate.max_language_loss": setting_param("gate.max_language_loss", "Loss of one language", GATE),
    "gate.min_language_rows": setting_param("gate.min_language_rows", "Dev rows of a language", GATE),
    "gate.min_evidence_rows": setting_param("gate.min_evidence_rows", "Dev rows to onboard a language", GATE),
    "approval.hours": setting_param("approval.hours", "Hours to wait for an approval", GATE),
}

with DAG(
    "relevance_retrain",
    description="labelled query logs → one gated, published LoRA adapter a task",
    doc_md=__doc__,
    schedule=CronTriggerTimetable(CRON, timezone="UTC", interval=timedelta(days=1)) if CRON else None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    deadline=deadline(),
    on_failure_callback=Failed(),
    params=PARAMS,
    default_args={"retries": 2, "retry_delay": timedelta(seconds=20), "retry_exponential_backoff": 2},
    tags=["relevance"],
) as dag:
    begin = BeginOperator(task_id="begin")
    ingest = StageOperator(task_id="ingest", reads_source=True)
    validate = StageOperator(task_id="validate")
    split = StageOperator(task_id="split")
    translate = StageOperator(task_id="translate")
    base = StageOperator(task_id="base", pre_execute=not_in_dry_run)

    @task_group(group_id="adapter", group_display_name="one adapter a task")
    def adapter(task: str) -> None:
        """From the task's rows to its published version, approved where that is needed; once for each of QC and QI."""
        mine = StageOperator(task_id="mine", for_task=task)
        denoise = StageOperator(task_id="denoise", for_task=task)
        train = StageOperator(task_id="train", for_task=task)
        evaluate = StageOperator(task_id="evaluate", for_task=task)
        gate = StageOperator(task_id="gate", for_task=task)
        publish = StageOperator(task_id="publish", for_task=task)
        approve = ApproveOperator(task_id="approve", for_task=task, notifiers=Waiting())
        base >> denoise
        mine >> denoise >> train >> evaluate >> gate >> publish >> approve

    # One task's failure does not keep the other's better adapter from serving.
    rollout = StageOperator(
        task_id="rollout",
        trigger_rule="all_done_min_one_success",
        outlets=ADAPTERS,
        post_execute=announce,
        on_success_callback=Decided(),
    )
    report = StageOperator(task_id="report")

    adapters = adapter.expand(task=begin.output)
    begin >> ingest >> validate >> split >> translate >> [base, adapters]
    adapters >> [rollout, done := EmptyOperator(task_id="done")]
    rollout >> [report, done]
    # A teardown runs whatever happened since its setup. The last tasks give the run its state: without `done`, which fails
    # with any stage, a written report would make a failed run a success.
    report.as_teardown(setups=begin, on_failure_fail_dagrun=True)
