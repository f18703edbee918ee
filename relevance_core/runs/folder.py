"""The run folder: every key and record under `runs/`, written and read in this module alone.

    runs/<run id>/run.json                          settings, champion and onboarded languages, pinned when the run began
    runs/<run id>/plan.json                         its plan at that time
    runs/<run id>/<stage>.json, <stage>-qc.json     a finished stage: its report, and the address of its output
    runs/<run id>/approval-<task>-<version>.json    a person's answer

A run's id begins with the end of its window, unless the run was given a name of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from pydantic import BaseModel, JsonValue

from relevance_core.config import Task
from relevance_core.errors import NotFound

if TYPE_CHECKING:
    from relevance_core.store import Entry, Store

ROOT: Final = "runs/"
RUN, PLAN, ANSWER = "run", "plan", "approval"
NAME: Final = re.compile(r"\w[\w.+:=@~ -]{0,199}")
"""Valid names of runs."""
_DATED: Final = re.compile(r"\d{4}-\d{2}-\d{2}-")


class Window(BaseModel):
    """The part of a run's window settings that pages show."""

    end: str | None = None


class Gate(BaseModel):
    """The part of a run's gate settings that pages show."""

    min_evidence_rows: int


class Pinned(BaseModel):
    """The settings of a run that pages show."""

    tasks: list[Task]
    onboard: list[str] = []
    window: Window
    gate: Gate


class _Record(BaseModel):
    """A record of a run. parse: takes the key too, like every parser of a stored object (`ui.history.Reader.read`)."""

    @classmethod
    def parse(cls, data: bytes, key: str) -> Self:
        """Parses a record. Raises pydantic's ValidationError for a damaged one."""
        return cls.model_validate_json(data)


class RunFile(_Record):
    """The record that a run pins when it begins; `dag_run` is Airflow's run id, empty for a run from the command line."""

    settings: Pinned
    onboarded: list[str]
    dag_run: str = ""


class RowsFile(BaseModel):
    """Counts of a stage's rows by fate."""

    made: int
    quarantined: int
    dropped: int
    kept: int
    reasons: dict[str, int]


class StageFile(_Record):
    """The record of a finished stage in a run."""

    rows: RowsFile
    figures: dict[str, JsonValue]
    address: str = ""
    failure: dict[str, str] | None = None


class Place(NamedTuple):
    """A parsed key under `runs/`: the run, and the record's name (`run`, `gate-qc`)."""

    run_id: str
    record: str


def stage_record(name: str, task: str | None = None) -> str:
    """Returns the name of a stage's record: `mine-qc`."""
    return f"{name}-{task.lower()}" if task else name


def key_of(run_id: str, record: str) -> str:
    """Returns the key of a run's record."""
    return f"{ROOT}{run_id}/{record}.json"


def place_of(key: str) -> Place:
    """Parses a listed key. A file that is no record gets an empty name."""
    run_id, _, file = key.removeprefix(ROOT).partition("/")
    return Place(run_id, file.removesuffix(".json") if file.endswith(".json") else "")


def entries(store: Store, run_id: str) -> dict[str, Entry]:
    """Returns every record of a run, by name."""
    return {place_of(entry.key).record: entry for entry in store.list(f"{ROOT}{run_id}/")}


def of_runs(store: Store, run_ids: Iterable[str]) -> dict[str, dict[str, Entry]]:
    """Returns the records of these runs by run and name, from one listing that begins with the first of them."""
    listed: dict[str, dict[str, Entry]] = {run_id: {} for run_id in run_ids}
    for entry in store.list(ROOT, after=f"{ROOT}{min(listed)}") if listed else ():
        run_id, record = place_of(entry.key)
        if run_id in listed:
            listed[run_id][record] = entry
    return listed


def having(store: Store, record: str) -> dict[str, Entry]:
    """Returns run → its record of that name, for every run that has it."""
    places = ((place_of(entry.key), entry) for entry in store.list(ROOT))
    return {place.run_id: entry for place, entry in places if place.record == record}


def run_ids(store: Store) -> list[str]:
    """Returns every run of the store, sorted by name and therefore by the end of the window."""
    return store.folders(ROOT)


def newest_first(written: Mapping[str, float]) -> list[str]:
    """Sorts runs by the end of their window, newest first; runs of the same window by the time of writing, latest first.

    A run whose name does not begin with a date comes after all that do. written: run → seconds since 1970.
    """
    order = sorted((bool(_DATED.match(run_id)), run_id[:10], when, run_id) for run_id, when in written.items())
    return [run_id for *_, run_id in reversed(order)]


def latest_named(names: Iterable[str], count: int) -> list[str]:
    """Returns the `count` newest runs by their names alone."""
    return sorted(names, key=lambda name: (bool(_DATED.match(name)), name))[-count:]


def create(store: Store, run_id: str, record: str, value: Mapping[str, Any]) -> bool:
    """Creates a record that is written once; returns False if it exists already."""
    return store.create(key_of(run_id, record), json.dumps(value, indent=1, sort_keys=True).encode())


def write(store: Store, run_id: str, record: str, value: Mapping[str, Any]) -> None:
    """Writes a stage's record, replacing an earlier attempt's."""
    store.write(key_of(run_id, record), json.dumps(value, sort_keys=True).encode())


def has(store: Store, run_id: str, record: str) -> bool:
    """Tells whether a run has the record."""
    return store.exists(key_of(run_id, record))


def read(store: Store, run_id: str, record: str) -> dict[str, Any]:
    """Returns a record as plain values. Raises NotFound."""
    found: dict[str, Any] = json.loads(store.read(key_of(run_id, record)))
    return found


def find_run(store: Store, run_id: str) -> dict[str, Any] | None:
    """Returns the record that a run pinned when it began: settings, champion, onboarded, dag_run; None for a run not begun."""
    try:
        found = read(store, run_id, RUN)
    except NotFound:
        return None
    return found | {"dag_run": found.get("dag_run", "")}


def read_run(store: Store, run_id: str) -> dict[str, Any]:
    """Returns the record of a run that has begun, as `find_run`. Raises NotFound that names the newest runs."""
    found = find_run(store, run_id)
    if found is None:
        known = run_ids(store)
        raise NotFound(f"no run {run_id!r}", where=store.uri, expected=", ".join(known[-5:]) or "a run: this store has none yet")
    return found
