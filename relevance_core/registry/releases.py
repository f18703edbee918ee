"""The registry of adapters: immutable versions, and the log of the releases that serve.

An entry of the log, `aliases/champion/<number>.json`, is a release: the version of every task that serves from then on. The
highest number is current. A writer that has read entry n may create entry n + 1; of several writers one succeeds, and the others
read again. Nothing is overwritten, so the log needs only one guarantee from the store: `create` has a single winner.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from relevance_core.errors import Conflict, NotFound, RegistryError
from relevance_core.registry.manifest import Manifest, Release
from relevance_core.registry.versions import Versions, check_task
from relevance_core.store.objects import Store

CHAMPION = "champion"
LOG: Final = f"aliases/{CHAMPION}/"
"""Prefix of the log in a store."""
_ENTRY = re.compile(rf"{LOG}([0-9]{{8}})\.json")


@dataclass(frozen=True, slots=True)
class Older:
    """A state that a rollback restores, and the state that it replaces.

    Attributes:
        versions: task → version to restore.
        restores: task → number of the restored release; empty where a version was named.
        serving: task → version that served when this state was found; None where none did.
    """

    versions: Mapping[str, str]
    restores: Mapping[str, int]
    serving: Mapping[str, str | None]


class Registry(Versions):
    """Versions and the champion's log in one store; threads may share an instance."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._seen = 0
        """The highest number found so far: the log only grows, so a look at it begins there."""

    def resolve(self, task: str, reference: str) -> Manifest:
        """Returns the manifest for 'champion', a version id, or an unambiguous beginning of an id (4 digits or more).

        Raises `NotFound`, `SettingsError` for a malformed reference, or `RegistryError` for an ambiguous one or a damaged version.
        """
        if reference != CHAMPION:
            return self.find(task, reference)
        release = self.current()
        if release is None or check_task(task) not in release.versions:
            raise NotFound(f"no version of {task} serves yet", where=self.store.uri, do="publish and promote one")
        return self.manifest(task, release.versions[task])

    def current(self) -> Release | None:
        """Returns the release that serves, which is the entry with the highest number; None before the first.

        Entries have no gaps, so new ones are found by reading on from the last known number. That costs less than a listing, which
        some stores also update late.
        """
        latest = (self._newest(self._seen + 1) or self._found(self._seen)) if self._seen else None
        if latest is None:  # the first call, or the log was replaced by another
            listed = self._listed()
            latest = self._newest(listed + 1) or (self.release(listed) if listed else None)
        self._seen = latest.number if latest else 0
        return latest

    def history(self) -> list[Release]:
        """Returns every release, oldest first. Raises `RegistryError` if an entry is missing or damaged."""
        releases = [self.release(number) for number in range(1, self._listed() + 1)]
        while newer := self._found(len(releases) + 1):
            releases.append(newer)
        return releases

    def release(self, number: int) -> Release:
        """Returns one entry of the log. Raises `RegistryError` if it is missing or does not fit its place."""
        try:
            return self._entry(number)
        except NotFound as error:
            raise RegistryError(
                f"release {number} is missing from the log",
                where=self.store.uri_of(_key(number)),
                do="restore that object from a backup",
            ) from error

    def _entry(self, number: int) -> Release:
        key = _key(number)
        release = Release.from_bytes(self.store.read(key), self.store.uri_of(key))
        if release.number != number or release.previous != (number - 1 or None):
            raise RegistryError(
                f"the entry says that it is release {release.number} after {release.previous}",
                where=self.store.uri_of(key),
                expected=f"release {number} after {number - 1 or None}",
                do="restore that object from a backup",
            )
        return release

    def promote(
        self, versions: Mapping[str, str], *, who: str, why: str, run_id: str = "", expect: Mapping[str, str | None] | None = None
    ) -> Release:
        """Lets these versions serve from now on; other tasks keep theirs.

        Each version is verified first, byte by byte. A race lost over other tasks is retried. Promoting what serves already returns
        the current release.

        Args:
            versions: task → version id.
            who: name of the person or DAG that decides.
            why: the reason, for the log.
            run_id: the run that made the versions, if any.
            expect: task → version that the caller believes serves (None: nothing yet); default: what serves when the call begins.

        Raises:
            Conflict: a task's version is not the expected one any more; names both.
            RegistryError: a version is damaged, or `versions`, `who` or `why` is empty.
            NotFound: a version does not exist.
        """
        expected = _serving(self.current(), versions) if expect is None else {task: expect.get(task) for task in versions}
        return self._append(dict(versions), expected, _Decision(who, why, run_id))

    def rollback(self, task: str | None = None, to: str | int | None = None, *, who: str, why: str, run_id: str = "") -> Release:
        """Appends a log entry that lets an older state serve again: the one that `older` finds, every version verified first.

        Args:
            task: the only task to change; None: every task.
            to: the state to restore, see `older`.
            who: name of the person who decides.
            why: the reason, for the log.
            run_id: the run that asks for the rollback, if any.

        Raises:
            NotFound: there is no such state, or a version of it is gone.
            RegistryError: `to` is ambiguous or names a version without a task, or a version is damaged.
            Conflict: somebody else changed the state meanwhile.
        """
        return self.restore(self.older(task, to), who=who, why=why, run_id=run_id)

    def restore(self, older: Older, *, who: str, why: str, run_id: str = "") -> Release:
        """Appends a log entry that lets an older state serve again, every version verified first.

        Args:
            older: the state, from `older`.
            who: name of the person who decides.
            why: the reason, for the log.
            run_id: the run that asks for the rollback, if any.

        Raises:
            NotFound: a version of the state is gone.
            RegistryError: a version is damaged.
            Conflict: one of the tasks serves another version than when `older` was found.
        """
        do = "look at `relevance registry list`, and roll back again if what serves now is to go too"
        return self._append(dict(older.versions), older.serving, _Decision(who, why, run_id, older.restores, do))

    def older(self, task: str | None = None, to: str | int | None = None) -> Older:
        """Finds the state that a rollback restores; two rollbacks in a row go back two steps.

        Args:
            task: the only task to change; None: every task. A task that the older release did not have keeps its version.
            to: a release's number, a version (then `task` is needed), or None for the state before the current one.

        Raises:
            NotFound: there is no such state.
            RegistryError: `to` is ambiguous, or names a version without a task.
        """
        current = self.current()
        if current is None:
            raise NotFound("nothing serves, so there is nothing to go back from", where=self.store.uri, do="promote a version")
        if isinstance(to, str):
            if task is None:
                raise RegistryError("a version was given without its task", do="name the task, for example --task QC")
            return Older({task: self.find(task, to).version}, {}, _serving(current, {task}))
        tasks = set(current.versions) if task is None else {check_task(task)}
        older = self._before(current, tasks) if to is None else self._numbered(to, current)
        versions = {name: version for name, version in older.versions.items() if name in tasks}
        if not versions:
            raise NotFound(f"release {to} has no version of {task}", where=self.store.uri, do="see `relevance registry list`")
        return Older(versions, dict.fromkeys(versions, older.number), _serving(current, versions))

    def _append(self, versions: dict[str, str], expected: Mapping[str, str | None], decision: "_Decision") -> Release:
        """Creates the next entry, or returns the current one if it already says the same; after a lost race it decides again."""
        if not versions or not decision.who.strip() or not decision.why.strip():
            raise RegistryError("a release needs a version, who decided it and why", do="give --who and --why")
        bases = {task: self.require_intact(task, version).base.label for task, version in versions.items()}
        while True:
            current = self.current()
            serving = _serving(current, versions)
            if current and serving == versions:
                return current
            _check_unmoved(serving, expected, current, decision.do)
            entry = Release(
                number=current.number + 1 if current else 1,
                previous=current.number if current else None,
                versions=(current.versions if current else {}) | versions,
                bases=(current.bases if current else {}) | bases,
                restores=dict(decision.restores),
                who=decision.who,
                why=decision.why,
                run_id=decision.run_id,
                at=datetime.now(UTC).isoformat(timespec="seconds"),
            )
            if self.store.create(_key(entry.number), entry.to_bytes()):
                return entry

    def _newest(self, number: int) -> Release | None:
        """Returns the highest entry from `number` on."""
        latest = None
        while newer := self._found(number):
            latest, number = newer, number + 1
        return latest

    def _found(self, number: int) -> Release | None:
        """Returns one entry, or None where it does not exist."""
        try:
            return self._entry(number)
        except NotFound:
            return None

    def _listed(self) -> int:
        """Returns the highest number in a listing, or 0."""
        return max((release_at(entry.key) or 0 for entry in self.store.list(LOG)), default=0)

    def _numbered(self, number: int, current: Release) -> Release:
        if not 1 <= number <= current.number:
            raise NotFound(f"there is no release {number}", where=self.store.uri, expected=f"a number from 1 to {current.number}")
        return self.release(number)

    def _before(self, current: Release, tasks: set[str]) -> Release:
        """Returns the newest release before the current state in which a task of `tasks` had another version.

        An entry that restored an older release counts as that release, so that a second rollback does not go forward.
        """
        entry = current
        while True:
            restored = {entry.restores.get(task) for task in tasks}
            number = restored.pop() if len(restored) == 1 else None
            if number is not None:
                entry = self.release(number)
            elif entry.number == 1:
                raise NotFound(
                    f"nothing else served {', '.join(sorted(tasks))} before", where=self.store.uri, do="give --release or --version"
                )
            else:
                entry = self.release(entry.number - 1)
            serving = _serving(current, tasks)
            if number is None and any(entry.versions.get(task, serving[task]) != serving[task] for task in tasks):
                return entry


@dataclass(frozen=True, slots=True)
class _Decision:
    who: str
    why: str
    run_id: str
    restores: Mapping[str, int] = field(default_factory=dict)
    do: str = (
        "run the loop again, so that the new one is judged against what serves now; or, to let it serve all the same, "
        "`relevance registry promote TASK=VERSION --why …`"
    )
    """For the person whose decision came too late."""


def _key(number: int) -> str:
    return f"{LOG}{number:08d}.json"


def release_at(key: str) -> int | None:
    """Returns the number of the release stored under a key; None for any other key."""
    match = _ENTRY.fullmatch(key)
    return int(match[1]) if match else None


def _serving(release: Release | None, tasks: Mapping[str, str] | set[str]) -> dict[str, str | None]:
    return {task: release.versions.get(task) if release else None for task in tasks}


def _check_unmoved(serving: Mapping[str, str | None], expected: Mapping[str, str | None], current: Release | None, do: str) -> None:
    moved = [f"{task} serves {serving[task]}, not {expected[task]}" for task in serving if serving[task] != expected[task]]
    if moved:
        raise Conflict(
            f"the champion moved while this was decided: {'; '.join(moved)}",
            where=f"release {current.number} by {current.who}" if current else "no release",
            expected="the version that served when it was decided",
            do=do,
        )
