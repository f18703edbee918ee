"""### Let an older adapter serve again

Pick a task and a version: every byte of it is checked against its manifest, then the champion's alias moves, as a new release that
keeps the person and the reason. Without a version, the release before the current one serves again. Nothing is deleted or trained.
`relevance registry list` names the versions.
"""

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, Param

from relevance_airflow.notices import Failed, Moved
from relevance_airflow.operators import RelevanceOperator, known_params_only

PARAMS = {
    "task": Param(
        "all",
        type="string",
        enum=["all", "QC", "QI"],
        title="Task",
        values_display={"all": "both together", "QC": "query–category (QC)", "QI": "query–item (QI)"},
        description="whose adapter goes back",
    ),
    "version": Param(
        None,
        type=["null", "string"],
        pattern="^[0-9a-f]{4,64}$",
        title="Version",
        description="the version that shall serve, or its first 4 digits or more, of the task above; empty: the one before",
    ),
    "why": Param(type="string", minLength=3, maxLength=500, title="Why", description="kept in the registry's log for good"),
}

# Typed text reaches the command as environment only, so no shell reads it.
TYPED = {
    "RELEVANCE_TASK": "{{ '' if params.task == 'all' else params.task }}",
    "RELEVANCE_VERSION": "{{ params.version or '' }}",
    "RELEVANCE_WHY": "{{ params.why }}",
    "RELEVANCE_WHO": "{{ dag_run.triggering_user_name or 'airflow' }}",
    "RELEVANCE_AIRFLOW_RUN": "{{ run_id }}",
}
VERIFY = 'registry verify ${RELEVANCE_TASK:+"$RELEVANCE_TASK"} ${RELEVANCE_VERSION:+"$RELEVANCE_VERSION"}'
MOVE = (
    'registry rollback ${RELEVANCE_TASK:+--task="$RELEVANCE_TASK"} ${RELEVANCE_VERSION:+--version="$RELEVANCE_VERSION"}'
    ' --who="$RELEVANCE_WHO" --why="$RELEVANCE_WHY" --run-id="$RELEVANCE_AIRFLOW_RUN"'
)

with DAG(
    "relevance_rollback",
    description="an older adapter serves again",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    max_active_runs=1,
    on_failure_callback=Failed(),
    params=PARAMS,
    default_args={"retries": 1, "retry_delay": timedelta(seconds=5), "env": TYPED},
    tags=["relevance"],
) as dag:
    verify = RelevanceOperator(
        task_id="verify", command=VERIFY, task_display_name="verify every byte", pre_execute=known_params_only
    )
    move = RelevanceOperator(
        task_id="move", command=MOVE, task_display_name="move the champion's alias", on_success_callback=Moved()
    )
    verify >> move
