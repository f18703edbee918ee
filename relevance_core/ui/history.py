"""A store's runs, versions and releases, read for a page: few requests, all of them small.

A listing gives for every object a tag that changes when the object is written again, so a record that was read and parsed once is
kept under its tag and not requested again. No artifact is opened: the record that a run keeps of each stage holds its figures.
A record that can't be read is one line in `Reader.damaged` and hides no other.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Literal, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from relevance_core.errors import NotFound, RegistryError
from relevance_core.pairs import Task
from relevance_core.registry import Manifest, Release
from relevance_core.registry.releases import LOG, release_at
from relevance_core.registry.versions import ADAPTERS, contradictions, version_at
from relevance_core.runs import folder
from relevance_core.runs.approval import NEEDED, Approval, is_answer, latest, waits
from relevance_core.runs.folder import RunFile, StageFile, stage_record
from relevance_core.runs.steps import COMMON, PER_TASK
from relevance_core.store import Entry, Store

T = TypeVar("T")

_AT_ONCE: Final = 16
"""Requests under way at a time: a page's time is mostly the network's."""
_KEPT: Final = 20_000


class LanguageFigures(BaseModel):
    """The quality of a version in one language, on its judgement rows."""

    f1: float
    auc: float | None = None
    rows: int
    positives: int


class ChampionFigures(LanguageFigures):
    """The champion's side of a comparison."""

    per_language: dict[str, LanguageFigures]
    languages: list[str] = []


class Figures(LanguageFigures):
    """The quality of a version, and of the champion on the same rows."""

    threshold: float
    always_yes_f1: float
    per_language: dict[str, LanguageFigures]
    champion: ChampionFigures | None = None


@dataclass(frozen=True)
class Version:
    """A published version. figures: None where its publisher stated none."""

    manifest: Manifest
    figures: Figures | None


class Kept:
    """A cache of parsed records by (store, key, tag), least recently used first out. Shared by threads."""

    def __init__(self, most: int) -> None:
        self._most, self._lock = most, threading.Lock()
        self._found: OrderedDict[tuple[str, ...], Any] = OrderedDict()

    def get(self, name: tuple[str, ...]) -> Any:
        """Returns the value kept under a name, or None."""
        with self._lock:
            if name in self._found:
                self._found.move_to_end(name)
            return self._found.get(name)

    def put(self, name: tuple[str, ...], value: Any) -> None:
        """Keeps a value, and drops the least recently used ones above the limit."""
        with self._lock:
            self._found[name] = value
            while len(self._found) > self._most:
                self._found.popitem(last=False)


_RECORDS: Final = Kept(_KEPT)
_APPROVAL: Final = TypeAdapter(Approval)


@dataclass(frozen=True)
class _Damage:
    """The reason why a record can't be read."""

    text: str


@dataclass
class Reader:
    """The reads of one answer. damaged: a line for every record that could not be read."""

    store: Store
    damaged: list[str] = field(default_factory=list)

    def read(self, entries: Iterable[Entry], parse: Callable[[bytes, str], T]) -> dict[str, T]:
        """Returns key → parsed object, without the damaged ones. Raises StoreError.

        parse: gets the bytes and the key; raises ValueError or RegistryError for a damaged object.
        """
        wanted = {entry.key: (self.store.uri, entry.key, entry.tag, str(entry.size)) for entry in entries}
        found = {key: _RECORDS.get(name) for key, name in wanted.items()}
        missing = [key for key, value in found.items() if value is None]
        for key, record in zip(missing, self._fetched(missing, parse), strict=True):
            found[key] = record
            _RECORDS.put(wanted[key], record)
        self.damaged += [f"{key}: {value.text}" for key, value in found.items() if isinstance(value, _Damage)]
        return {key: value for key, value in found.items() if not isinstance(value, _Damage)}

    def _fetched(self, keys: Sequence[str], parse: Callable[[bytes, str], T]) -> list[T | _Damage]:
        if len(keys) < 2 or self.store.local_path(keys[0]) is not None:
            return [self._parsed(key, parse) for key in keys]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(lambda key: self._parsed(key, parse), keys))

    def _parsed(self, key: str, parse: Callable[[bytes, str], T]) -> T | _Damage:
        try:
            return parse(self.store.read(key), key)
        except ValidationError as error:
            return _Damage("; ".join(f"{'.'.join(map(str, e['loc'])) or 'document'}: {e['msg']}" for e in error.errors()[:3]))
        except (ValueError, RegistryError, NotFound) as error:
            return _Damage(str(error))


@dataclass(frozen=True)
class Outcome:
    """The outcome of a task in a run: a word, its tone, and a sentence."""

    word: str
    tone: Literal["good", "wait", "ask", "bad", "none"]
    text: str


@dataclass(frozen=True)
class RunRecord:
    """A run's records so far. entries: its objects by name without suffix; stages: the parsed stage records (`gate-qc`)."""

    run_id: str
    about: RunFile
    newest: bool
    entries: Mapping[str, Entry]
    stages: Mapping[str, StageFile]
    answers: Mapping[Task, Approval]

    @property
    def begun(self) -> float:
        """The beginning of the run, in seconds since 1970."""
        return self.entries["run"].modified

    @property
    def ended(self) -> bool:
        """True once the run has its report, which is written whatever happened."""
        return "report" in self.entries

    def of(self, stage: str, task: Task) -> StageFile | None:
        """Returns the record of a task's stage, or None."""
        return self.stages.get(stage_record(stage, task))

    @cached_property
    def outcomes(self) -> dict[Task, Outcome]:
        """The outcome of each of its tasks."""
        return {task: _outcome(self, task) for task in self.about.settings.tasks}

    def waits(self, task: Task) -> bool:
        """Tells whether the run waits for a person's answer about the task."""
        gate, ended = self.of("gate", task), "rollout" in self.entries or self.ended
        return gate is not None and waits(gate.figures.get("verdict"), "", self.answers.get(task), ended)


def _outcome(run: RunRecord, task: Task) -> Outcome:
    gate = run.of("gate", task)
    if gate is None:
        return _unjudged(run, task)
    verdict, answer = gate.figures.get("verdict"), run.answers.get(task)
    failed = ", ".join(map(str, _list(gate.figures.get("failed"))))
    if verdict == "hold":
        return Outcome("Held", "wait", f"the champion stays; failed: {failed}")
    if verdict == NEEDED and answer is None:
        return (
            Outcome("Not approved", "wait", f"nobody answered: {failed}") if run.ended else Outcome("Needs approval", "ask", failed)
        )
    if answer is not None and not answer.approved:
        return Outcome("Rejected" if answer.who else "No answer", "wait", answer.told())
    return _rolled_out(run, task, f", {answer.told()}" if answer else "")


def _rolled_out(run: RunRecord, task: Task, told: str) -> Outcome:
    """Returns the outcome of a version that may serve."""
    rollout = run.stages.get("rollout")
    if rollout is None and not run.ended:
        return _on_the_way(run, "rollout")
    if rollout is None:
        return Outcome("Failed at rollout", "bad", f"passed{told}, and does not serve")
    mine = _dict(_dict(rollout.figures.get("tasks")).get(task))
    if mine.get("promoted"):
        since = "serves since" if mine.get("serves", True) else "replaced since; it was"
        return Outcome("Published", "good", f"{since} release {mine.get('number')}{told}")
    return Outcome("Waits", "wait", f"passed{told}; {rollout.figures.get('waits') or 'not rolled out'}")


def _unjudged(run: RunRecord, task: Task) -> Outcome:
    """Returns the outcome of a task without a verdict."""
    validate = run.stages.get("validate")
    if validate is not None and validate.failure:
        return Outcome("Failed at validate", "bad", validate.failure.get("what", ""))
    missing = [name for name in COMMON if name not in run.entries]
    missing += [name for name in PER_TASK if stage_record(name, task) not in run.entries]
    if not missing:
        return Outcome("Can't be told", "bad", "the record of its verdict can't be read")
    # *mine* needs no base, so a dry run may have run it.
    trained = any(stage_record(name, task) in run.entries for name in PER_TASK if name != "mine")
    if run.ended and missing[0] == "base" and not trained:
        return Outcome("No model", "none", "the rows were prepared and no base was built, as in a dry run")
    if run.ended:
        return Outcome(f"Failed at {missing[0]}", "bad", "the champion stays")
    return _on_the_way(run, missing[0])


def _on_the_way(run: RunRecord, stage: str) -> Outcome:
    if run.newest:
        return Outcome(f"At {stage}", "none", "the run goes on")
    return Outcome(f"Stopped at {stage}", "bad", "without a report, and a newer run has begun")


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else []


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def recent(reader: Reader, count: int) -> list[RunRecord]:
    """Returns the newest `count` runs, newest first, by the end of the window that their ids begin with, then by their beginning.

    A run whose name begins with no date comes after all that do.
    """
    listed = folder.of_runs(reader.store, folder.latest_named(folder.run_ids(reader.store), count))
    begun = {name: entries[folder.RUN].modified for name, entries in listed.items() if folder.RUN in entries}
    return _opened(reader, folder.newest_first(begun), listed)


def _opened(reader: Reader, names: Sequence[str], listed: Mapping[str, Mapping[str, Entry]]) -> list[RunRecord]:
    """Reads the runs with the records that their outcomes need, all of them at a time."""
    abouts = reader.read([listed[name][folder.RUN] for name in names], RunFile.parse)
    outcomes = [entry for name in names for stem, entry in listed[name].items() if _tells(stem, listed[name])]
    stages = reader.read(outcomes, StageFile.parse)
    answers = reader.read([entry for name in names for record, entry in listed[name].items() if is_answer(record)], _approval)
    found = []
    newest = max(names, key=lambda name: listed[name][folder.RUN].modified, default="")
    for name in names:
        about = abouts.get(listed[name][folder.RUN].key)
        if about is not None:
            own = {stem: stages[entry.key] for stem, entry in listed[name].items() if entry.key in stages}
            answered = latest(answers[entry.key] for entry in listed[name].values() if entry.key in answers)
            found.append(RunRecord(name, about, name == newest, listed[name], own, answered))
    return found


def _tells(stem: str, run: Mapping[str, Entry]) -> bool:
    """Tells whether a record of a run is needed for its outcome."""
    judged = any(name.startswith("gate-") for name in run)
    return stem.startswith(("gate-", "publish-")) or stem == "rollout" or (stem == "validate" and not judged)


def whole(reader: Reader, run: RunRecord) -> dict[str, StageFile]:
    """Reads every stage record that the run has, by name (`mine-qc`)."""
    names = {*COMMON, *(stage_record(name, task) for name in PER_TASK for task in run.about.settings.tasks)}
    entries = {name: entry for name, entry in run.entries.items() if name in names}
    found = reader.read(entries.values(), StageFile.parse)
    return {name: found[entry.key] for name, entry in entries.items() if entry.key in found}


def judged(reader: Reader, records: Mapping[str, StageFile], run: RunRecord, task: Task) -> Figures | None:
    """Returns the figures that *evaluate* recorded in a run, or None."""
    name = stage_record("evaluate", task)
    if name not in records:
        return None
    try:
        return Figures.model_validate(records[name].figures)
    except ValidationError as error:
        reader.damaged.append(f"{run.entries[name].key}: {error.error_count()} figures are missing or no numbers")
        return None


def versions(reader: Reader) -> dict[str, list[Version]]:
    """Reads the published versions of each task, oldest data first."""
    entries = [entry for entry in reader.store.list(ADAPTERS) if version_at(entry.key)]
    found: dict[str, list[Version]] = {}
    for version in reader.read(entries, _version).values():
        found.setdefault(version.manifest.task, []).append(version)
    for of_task in found.values():
        of_task.sort(key=lambda version: (version.manifest.created, version.manifest.version))
    return found


def releases(reader: Reader) -> list[Release]:
    """Reads the champion's log, oldest first."""
    entries = [entry for entry in reader.store.list(LOG) if release_at(entry.key)]
    return sorted(reader.read(entries, _release).values(), key=lambda release: release.number)


def _approval(data: bytes, key: str) -> Approval:
    return _APPROVAL.validate_json(data)


def _version(data: bytes, key: str) -> Version:
    manifest = Manifest.from_bytes(data, key)
    problems = contradictions(manifest, *(version_at(key) or ("", "")))
    if problems:
        raise RegistryError("; ".join(problems))
    return Version(manifest, Figures.model_validate(manifest.metrics) if manifest.metrics else None)


def _release(data: bytes, key: str) -> Release:
    release = Release.from_bytes(data, key)
    if release_at(key) != release.number:
        raise RegistryError(f"it says that it is release {release.number}")
    return release
