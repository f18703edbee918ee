"""Notices of a run: Airflow's callbacks and its deadline, wired to the notifiers that a deployment names.

Each notice is one line (`texts`) with the address of the run. It goes to the log of the process that sends it, and through every
notifier of RELEVANCE_NOTIFY. A notice that can't be sent is an error in that log, never a failed task.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk import BaseNotifier, conf
from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference
from asgiref.sync import sync_to_async

from relevance_airflow import params as rules
from relevance_airflow import texts
from relevance_airflow.texts import Channel, Figures

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Context
    from jinja2 import Environment


class Notice(BaseNotifier):
    """A notice to people. Raises SettingsError, an import error of the DAG, for a RELEVANCE_NOTIFY that can't be used."""

    tab = ""

    def __init__(self, context: Context | None = None) -> None:
        super().__init__(context)
        self.channels = texts.channels(os.environ)
        for channel in self.channels:
            notifier(channel, "")

    def lines(self, context: Context) -> Iterator[str]:
        """Yields the lines of the notice."""
        raise NotImplementedError

    def address(self, context: Context) -> str:
        """Returns the address of the page that the lines report on."""
        return page(context["dag"].dag_id, context["run_id"], self.tab)

    def notify(self, context: Context) -> None:
        """Logs each line and sends it through every channel; logs a channel's error instead of raising it."""
        with self._logged(type(self).__name__):
            for line in self.lines(context):
                text = f"{texts.plain(line)}: {self.address(context)}"
                self.log.info("notice: %s", text)
                for channel in self.channels:
                    with self._logged(channel.notifier):
                        # The triggerer has no DAG: without it, options are rendered in the sandbox everywhere.
                        known = {name: value for name, value in context.items() if name != "dag"}
                        notifier(channel, text)(known)

    def render_template_fields(self, context: Context, jinja_env: Environment | None = None) -> None:
        """Does nothing: a notice has no templated field, and a line is made of figures."""

    async def async_notify(self, context: Context) -> None:
        """Notifies from the triggerer; a thread keeps its event loop free."""
        await sync_to_async(self.notify)(context)

    @contextmanager
    def _logged(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception:
            self.log.exception("%s could not tell", what)


class Failed(Notice):
    """The notice of a failed run, sent by the DAG processor: the stage, and the cause that the task has left as XCom `failure`."""

    def lines(self, context: Context) -> Iterator[str]:
        """Yields one line with the stage and the cause, as far as they are known."""
        instance = context.get("ti")
        if instance is None:
            yield texts.failed(name_of(context), "", str(context.get("reason", "")))
            return
        stage, index, why = instance.task_id.rpartition(".")[2], instance.map_index, ""
        with self._logged("the cause"):  # The stage is reported even where XComs can't be read.
            why = instance.xcom_pull(task_ids=instance.task_id, map_indexes=index, key=rules.FAILURE) or ""
            if index is not None and index >= 0:
                stage = f"{stage} {instance.xcom_pull(task_ids='begin')[index]}"
        yield texts.failed(name_of(context), stage, why)


class Decided(Notice):
    """The notice of each task's outcome, sent by the worker after *rollout*."""

    def lines(self, context: Context) -> Iterator[str]:
        """Yields one line for each task that has got as far as *publish*."""
        rollout = context["ti"].xcom_pull(task_ids="rollout")["figures"]
        for place, task in enumerate(context["ti"].xcom_pull(task_ids="begin")):
            figures = of_task(context, place)
            if "publish" in figures:
                yield texts.decided(task, {**figures, "rollout": rollout})


class Waiting(Notice):
    """The notice of a version that waits for a person, sent by the worker; its address is the page for the answer."""

    tab = "required_actions"

    def lines(self, context: Context) -> Iterator[str]:
        """Yields one line with the task's F1, its version and the rules that failed."""
        place = context["ti"].map_index or 0
        yield texts.waiting(context["ti"].xcom_pull(task_ids="begin")[place], of_task(context, place))


class Moved(Notice):
    """The notice of a rollback, sent by the worker: the versions that serve now, the person and the reason."""

    def lines(self, context: Context) -> Iterator[str]:
        """Yields one line with the versions, the person and the reason."""
        release = context["ti"].xcom_pull(task_ids=context["ti"].task_id)
        yield texts.moved(release["versions"], release["who"], release["why"])


class Overdue(Notice):
    """The notice of a run past its deadline, sent by the triggerer; a run that has ended by then has had its notice."""

    def __init__(self, context: Context | None = None, hours: float = texts.DEFAULT_HOURS) -> None:
        super().__init__(context)
        self.hours = hours

    def lines(self, context: Context) -> Iterator[str]:
        """Yields one line, or none for a run that has ended."""
        run = _as_json(context)
        if run["state"] not in {"success", "failed"}:
            end = rules.window_end(run["conf"] or {}, _time(run["data_interval_end"]), datetime.fromisoformat(run["run_after"]))
            yield texts.overdue(f"{run['dag_id']} {end}", self.hours, run["state"])

    def address(self, context: Context) -> str:
        """Returns the address of the run's page: the triggerer gets the run as JSON."""
        run = _as_json(context)
        return page(run["dag_id"], run["dag_run_id"], self.tab)


def notifier(channel: Channel, text: str) -> BaseNotifier:
    """Builds the notifier of a channel for one line. Raises SettingsError for a notifier that can't be built."""
    module, _, name = channel.notifier.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), name)
        built = kind(**channel.filled(text))
    except Exception as error:
        raise texts.unusable(channel.notifier, f"{type(error).__name__}: {error}") from error
    if not isinstance(built, BaseNotifier):
        raise texts.unusable(channel.notifier, "it is no notifier of Airflow")
    return built


def deadline() -> DeadlineAlert | None:
    """Returns the deadline of a run, counted from its queueing: a nightly run is queued at its hour, a manual run at once.

    None where RELEVANCE_DEADLINE_HOURS is 0. Raises SettingsError for a value that is no number.
    """
    hours = texts.deadline_hours(os.environ)
    if not hours:
        return None
    return DeadlineAlert(DeadlineReference.DAGRUN_QUEUED_AT, timedelta(hours=hours), AsyncCallback(Overdue, {"hours": hours}))


def name_of(context: Context) -> str:
    """Returns the DAG's name and the end of the run's window; for a run without a window, Airflow's name of the run."""
    run, params = context.get("dag_run"), context.get("params") or {}
    if run is None or "window.end" not in params:
        return f"{context['dag'].dag_id} {context['run_id']}"
    return f"{run.dag_id} {rules.window_end(params, run.data_interval_end, run.run_after)}"


def of_task(context: Context, place: int) -> dict[str, Figures]:
    """Returns stage → figures for the finished stages of a task. place: the task's position in the list that *begin* returns."""
    pulled = {
        stage: context["ti"].xcom_pull(task_ids=f"adapter.{stage}", map_indexes=place) for stage in ("evaluate", "gate", "publish")
    }
    return {stage: report["figures"] for stage, report in pulled.items() if report}


def page(dag_id: str, run_id: str, tab: str) -> str:
    """Returns the address of a run's page, or of its tab, under Airflow's configured base URL."""
    return texts.run_page(conf.get("api", "base_url", fallback="http://localhost:8080"), dag_id, run_id, tab)


def _as_json(context: Context) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", context["dag_run"])


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
