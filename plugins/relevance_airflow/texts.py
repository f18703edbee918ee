"""Texts of the notices about a run, one line each, and their channels: pure functions of figures and of the environment.

A line is plain text, whatever a query log or an error put into it: nothing in it starts markup or a template (`plain`).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from relevance_core.errors import SettingsError
from relevance_core.runs.approval import NEEDED

Figures = Mapping[str, Any]
"""The figures of a stage's report."""

TEXT: Final = "{text}"
"""The placeholder of the line in a notifier's options."""

CHANNELS: Final = "RELEVANCE_NOTIFY"
DEADLINE: Final = "RELEVANCE_DEADLINE_HOURS"
DEFAULT_HOURS: Final = 6.0

EXAMPLE: Final = (
    '{"airflow.providers.amazon.aws.notifications.sns.SnsNotifier": {"target_arn": "arn:aws:sns:…", "message": "{text}"}}'
)

_LONGEST: Final = 400
# Notifiers render their fields as templates, and what they send is read as HTML (mail) or as Slack's markup.
_MARKUP: Final = str.maketrans("<>{}", "‹›()")
# The clock of a logged line, and the command that failed: `relevance`, `relevance stage` or `relevance registry rollback`.
_BEFORE_A_CAUSE: Final = re.compile(r"^(?:\[ *[0-9]+\.[0-9] s\] )?(?:relevance(?: [a-z]+){0,2}: )?")


@dataclass(frozen=True)
class Channel:
    """A way to notify people. notifier: the dotted path of its class. options: its arguments, `{text}` for the line."""

    notifier: str
    options: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not isinstance(self.options, Mapping):
            raise unusable(self.notifier, "its options are no JSON object")
        if self.filled("") == self.options:
            raise unusable(self.notifier, f"no option has {TEXT}, so it would say nothing")

    def filled(self, text: str) -> dict[str, Any]:
        """Returns the options with the line in its place, at any depth of lists and objects."""
        return {name: _fill(value, text) for name, value in self.options.items()}


def _fill(value: Any, text: str) -> Any:
    if isinstance(value, str):
        return value.replace(TEXT, text)
    if isinstance(value, list):
        return [_fill(item, text) for item in value]
    if isinstance(value, Mapping):
        return {name: _fill(item, text) for name, item in value.items()}
    return value


def unusable(notifier: str, why: str) -> SettingsError:
    """Makes the error for a notifier that can't be used."""
    return SettingsError(
        f"notifier {notifier}: {why}",
        where=f"environment variable {CHANNELS}",
        expected=f"notifier classes and their options, like {EXAMPLE}",
        do="see docs/operating.md, Notices",
    )


def channels(environment: Mapping[str, str]) -> tuple[Channel, ...]:
    """Reads the channels of RELEVANCE_NOTIFY; none without it. Raises SettingsError for a value that can't be used."""
    text = environment.get(CHANNELS, "").strip() or "{}"
    try:
        named = json.loads(text)
    except json.JSONDecodeError as error:
        raise unusable("?", f"the value is no JSON ({error})") from error
    if not isinstance(named, dict):
        raise unusable("?", "the value is no JSON object")
    return tuple(Channel(notifier, options) for notifier, options in named.items())


def deadline_hours(environment: Mapping[str, str]) -> float:
    """Reads RELEVANCE_DEADLINE_HOURS, the hours after which a run that is not done is a notice: default 6; 0 or empty is never.

    Raises SettingsError for a value that is no number of hours.
    """
    text = environment.get(DEADLINE, str(DEFAULT_HOURS)).strip() or "0"
    try:
        hours = float(text)
    except ValueError:
        hours = math.nan
    if not 0 <= hours < math.inf:
        raise SettingsError(
            f"{text!r} is no number of hours",
            where=f"environment variable {DEADLINE}",
            expected="a number above 0; 0 or empty for no deadline",
            do="set it to the hours after which a nightly run is late",
        )
    return hours


def plain(text: str) -> str:
    """Returns one line of plain text of at most 400 characters.

    Without line breaks, and without signs that start HTML, Slack's markup or a template.
    """
    line = "".join(sign if sign.isprintable() else " " for sign in text).translate(_MARKUP)
    line = " ".join(line.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"


def cause(last_line: str) -> str:
    """Returns the cause of a failure from the last line that `relevance` wrote, without its clock and the command's name."""
    return _BEFORE_A_CAUSE.sub("", last_line)


def failed(run: str, stage: str, why: str) -> str:
    """Describes a failed run.

    Args:
        run: the DAG's name and the day.
        stage: the failed stage, empty where no task failed.
        why: the cause, empty where it is not known.
    """
    return f"{run} failed{f' at {stage}' if stage else ''}{f': {why}' if why else ''}"


def overdue(run: str, hours: float, state: str) -> str:
    """Describes a run past its deadline.

    Args:
        run: the DAG's name and the day.
        hours: the deadline.
        state: the run's state in Airflow.
    """
    return f"{run} is not done after {hours:g} h ({state})"


def decided(task: str, figures: Mapping[str, Figures]) -> str:
    """Describes the outcome of a task's adapter: published, held, waiting or not approved.

    figures: of *evaluate*, *gate*, *publish* and *rollout*, by stage.
    """
    gate, rollout = figures["gate"], figures["rollout"]
    candidate = rollout["tasks"].get(task)
    told = _f1(figures)
    if candidate and candidate["promoted"]:
        approved = ", approved" if gate["verdict"] == NEEDED else ""
        replaced = "" if candidate.get("serves", True) else ", and another version serves by now"
        return f"{task} published {told} as {candidate['version']}{approved}{replaced}"
    if candidate:
        return f"{task} waits {told} as {candidate['version']}: {rollout['waits']}"
    if gate["verdict"] == NEEDED:
        return f"{task} not approved {told} as {figures['publish']['version']}: {_rules(gate)}"
    return f"{task} held {told}: {_rules(gate)}"


def waiting(task: str, figures: Mapping[str, Figures]) -> str:
    """Describes a version that waits for a person. figures: of *evaluate*, *gate* and *publish*, by stage."""
    return f"{task} needs approval {_f1(figures)} as {figures['publish']['version']}: {_rules(figures['gate'])}"


def moved(versions: Mapping[str, str], who: str, why: str) -> str:
    """Describes a rollback.

    Args:
        versions: task → the version that serves since.
        who: the person who asked for it.
        why: the person's reason.
    """
    return f"{', '.join(f'{task} {version}' for task, version in sorted(versions.items()))} serve after a rollback by {who}: {why}"


def _f1(figures: Mapping[str, Figures]) -> str:
    """Returns `f1 0.912 (+0.013)`: F1 on the judgement rows, and the gain over the champion where there is one."""
    gain = figures["gate"]["gain"]
    return f"f1 {figures['evaluate']['f1']:.3f} ({f'''{gain['gain']:+.3f}''' if gain else 'the first'})"


def _rules(gate: Figures) -> str:
    """Lists the gate's rules that a candidate failed."""
    return ", ".join(gate["failed"])


def run_page(base_url: str, dag_id: str, run_id: str, tab: str = "") -> str:
    """Returns the address of a run's page in Airflow's UI, or of its tab."""
    address = f"{base_url.rstrip('/')}/dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}"
    return f"{address}/{tab}" if tab else address
