"""A DAG run's values for its tasks: pure functions, without Airflow, so that each can be tested on plain values.

A param is named like the setting that it sets (`gate.min_f1`), so its default, bounds and description are the setting's own, and a
run's params are the settings to lay over the deployment's file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Any, Final

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from relevance_core import config, errors
from relevance_core.config import Settings, Task
from relevance_core.errors import RelevanceError, SettingsError
from relevance_core.runs.approval import Approval

DRY_RUN: Final = "dry_run"
"""The only param that is no setting: a dry run ends before training, and its stages work as in any other run."""

POOL: Final = "relevance_gpu"
"""The pool that limits the stages that want a GPU: they wait for its slots."""

FAILURE: Final = "failure"
"""The XCom in which a failed task leaves its cause."""

NOT_A_COMMAND: Final = frozenset({2, 126, 127})
"""Exit codes of a command line that can't be run at all: wrong usage, not executable, not found."""


@dataclass(frozen=True)
class Deployment:
    """A deployment, from its environment: RELEVANCE_STORE, RELEVANCE_SETTINGS_FILE and so on (docs/operating.md)."""

    store: str
    settings_file: str = ""
    settings: str = ""
    connection: str = ""

    def __post_init__(self) -> None:
        if not self.store:
            raise SettingsError(
                "no object store is configured",
                where="environment variable RELEVANCE_STORE of the Airflow workers",
                expected="a path, file:///path or s3://bucket/prefix",
                do="set it where the workers start (docs/operating.md)",
            )

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Deployment:
        """Reads the deployment from `environment`. Raises SettingsError without a store."""
        names = ("STORE", "SETTINGS_FILE", "SETTINGS", "CONNECTION")
        return cls(*(environment.get(f"RELEVANCE_{name}", "") for name in names))


def in_force(environment: Mapping[str, str]) -> Settings:
    """Returns the settings of the deployment, before any run's params. Raises SettingsError, which a DAG's parse shows."""
    return config.load(environment.get("RELEVANCE_SETTINGS_FILE") or None, environment=environment)


def field_schema(name: str, settings: Settings) -> dict[str, Any]:
    """Returns a setting's JSON schema for an Airflow Param: `default` (the value in force), `description`, type and bounds.

    Raises SettingsError for a name that is no setting.
    """
    parts, _, last = name.rpartition(".")
    part = config.value_at(settings, parts, None)
    field: FieldInfo | None = type(part).model_fields.get(last) if isinstance(part, BaseModel) else None
    if field is None:
        raise SettingsError("a param of the DAG names no setting", where=name, do="see docs/settings.md")
    kind: Any = field.annotation
    for bound in field.metadata:
        kind = Annotated[kind, bound]
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    default = adapter.dump_python(getattr(part, last), mode="json")
    return {"default": default, "description": field.description or ""} | adapter.json_schema()


def refuse_unknown(conf: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raises SettingsError for a key of a run's conf that is no param: Airflow itself would drop it silently."""
    unknown = sorted(set(conf) - set(known))
    if unknown:
        raise SettingsError(
            f"the run's conf has unknown keys: {', '.join(unknown)}",
            where="the JSON that the run was triggered with",
            expected=", ".join(sorted(known)),
            do="trigger the run again with these names; a setting that is no param belongs in the settings file",
        )


def window_end(params: Mapping[str, Any], interval_end: datetime | None, run_after: datetime) -> date:
    """Returns the end of a run's window: the param `window.end`, else the midnight (UTC) at or before the data interval's end.

    Args:
        params: of the run.
        interval_end: end of the data interval; None for a manual run.
        run_after: stands in for it. It is fixed when the run is made, so a retry reads the same rows.
    """
    if given := params.get("window.end"):
        return _day(str(given))
    return (interval_end or run_after).astimezone(UTC).date()


def _day(text: str) -> date:
    """Returns the day of the param `window.end`. Raises SettingsError for anything else: a time would be cut off."""
    try:
        if len(text) == len("YYYY-MM-DD"):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise SettingsError(f"{text!r} is no date", where="window.end", expected="YYYY-MM-DD", do="trigger the run again with a day")


def run_id_of(end: date, dag_run_id: str) -> str:
    """Returns the run's name in the store: `<window end>-<digest of Airflow's run id>`.

    The name is the same on every try, and safe in a key and a path.
    """
    return f"{end:%Y-%m-%d}-{hashlib.sha256(dag_run_id.encode()).hexdigest()[:8]}"


def settings_of(params: Mapping[str, Any], names: Iterable[str], end: date) -> dict[str, Any]:
    """Nests a run's params as settings: `{"gate.min_f1": 0.7}` is `{"gate": {"min_f1": 0.7}}`.

    Args:
        params: of the run.
        names: of the DAG's own params.
        end: of the window.
    """
    values: dict[str, Any] = {}
    for name in sorted(set(names) - {DRY_RUN}):
        values = config.merge(values, config.nest(name, params[name]))
    return config.merge(values, {"window": {"end": f"{end:%Y-%m-%d}"}})


def answer_of(event: Mapping[str, Any], task: Task, version: str, hours: float) -> Approval:
    """Reads a person's answer from the event with which Airflow resumes an ApprovalOperator; nobody's, where it ran out of time.

    Args:
        event: from Airflow.
        task: QC or QI.
        version: that was asked about.
        hours: that the question waited at most.
    """
    user = event["responded_by_user"]
    why = (event["params_input"] or {}).get("why") if user else f"nobody answered within {hours:g} hours"
    at = event["responded_at"].astimezone(UTC).isoformat(timespec="seconds")
    return Approval(
        task, version, bool(user) and event["chosen_options"] == ["Approve"], user["name"] if user else "", at, why or ""
    )


def heals(exit_code: int) -> bool:
    """Tells whether a failure is retryable, such as a failed store or network or a killed process; bad settings or rows are not."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RelevanceError)]
    permanent = {kind.exit_code for kind in kinds if kind.permanent and kind is not RelevanceError}
    return exit_code not in permanent | NOT_A_COMMAND
