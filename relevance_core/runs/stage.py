"""The machinery of every stage: its inputs, its report, and the rule that finished work is reused, never repeated.

A stage is a function decorated with `@stage(...)`: the body gets `(settings, inputs, out)`, writes its tables and files through
`out` and returns a `Report`; the decorated function is `run(settings, inputs, store) -> Report`. Its output lives at
`stages/<name>[-<task>]/<key>/`, where the key is the digest of the settings that the stage uses and of its inputs' digests. The
manifest is written last, so an output without a manifest is unfinished and is made again.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from filelock import FileLock, Timeout

from relevance_core.config import Settings, value_at
from relevance_core.errors import ProgramError
from relevance_core.machine import scratch
from relevance_core.pairs import Task
from relevance_core.processes import PartLogger, part
from relevance_core.runs.approval import Approval
from relevance_core.runs.artifacts import Artifact, Output, Report, finish, folder_of, label, open_artifact
from relevance_core.store import Store

log = PartLogger(logging.getLogger(__name__))


@dataclass(frozen=True)
class Inputs:
    """A stage's inputs: earlier outputs by role (`relevance_core.runs.steps`), the task, and the values pinned when the run began.

    Attributes:
        champion: task → id of the version that served when the run began.
        onboarded: the languages onboarded by then.
        approvals: task → a person's answer since, for stages that obey it.
        decisions: names of the objects that held people's decisions about labels when the run began (relevance_core.runs.review).
        stage: the stage that they are for, for errors.
    """

    artifacts: Mapping[str, Artifact] = field(default_factory=dict)
    task: Task | None = None
    champion: Mapping[str, str] = field(default_factory=dict)
    onboarded: tuple[str, ...] = ()
    approvals: Mapping[Task, Approval] = field(default_factory=dict)
    decisions: tuple[str, ...] = ()
    stage: str = ""

    def __getitem__(self, role: str) -> Artifact:
        if role not in self.artifacts:
            raise ProgramError(
                f"stage {self.stage or 'unknown'} asks for the role {role!r}, which no step fills",
                where="relevance_core/runs/steps.py",
                expected=", ".join(sorted(self.artifacts)) or "no role",
                do="name the role in `needs` of its step, or ask for another",
            )
        return self.artifacts[role]


_BY_PEOPLE: Final = ("decisions", "approvals")
"""Pinned inputs that enter the key only where there are some, so that keys of outputs without any stay the same."""

_NONE: Final = object()

Body = Callable[[Settings, Inputs, Output], Report]
Run = Callable[..., Report]
Held = Callable[[Inputs, Artifact], "Report | None"]
"""Compares the finished output of an effect with the registry: returns the report as it is true now, None for an effect to redo."""


def stage(
    name: str,
    *,
    uses: tuple[str, ...] | Callable[[Settings], tuple[str, ...]],
    machine: tuple[str, ...] = (),
    version: int = 1,
    pinned: tuple[str, ...] | Callable[[Settings], tuple[str, ...]] = (),
    fingerprint: Callable[[Settings], str] | None = None,
    held: Held | None = None,
) -> Callable[[Body], Run]:
    """Makes a stage's `run(settings, inputs, store)` from its body, which gets only the settings that are named here.

    Args:
        name: of the stage.
        uses: the settings (dotted) that its output depends on, or a function from the settings to these.
        machine: further settings that its body reads but its output does not depend on: processes, servers, keys.
        version: raised whenever the code changes the output for the same inputs.
        pinned: those of "champion", "onboarded", "approvals", "decisions" that its output depends on, or such a function.
        fingerprint: a digest of what the stage reads from outside the store; "" for nothing.
        held: of an effect, compares a finished output with the registry; without it, a finished output is reused.
    """

    def decorate(body: Body) -> Run:
        @functools.wraps(body)
        def run(settings: Settings, inputs: Inputs, store: Store) -> Report:
            outside = fingerprint(settings) if fingerprint else ""
            depends = pinned(settings) if callable(pinned) else pinned
            used = uses(settings) if callable(uses) else uses
            _require_known((*used, *machine), settings, name)
            key = output_key(name, version, used, depends, outside, settings, inputs)
            address = folder_of(name, inputs.task) + key
            who = label(name, inputs.task)
            with part(who), alone(address):
                found = open_artifact(store, address)
                standing = _standing(found, inputs, held) if found else None
                if standing is not None:
                    log.info("found finished output %s", address)
                    return standing
                log.info("started")
                out = Output(store, address)
                started = time.monotonic()
                report = body(settings.only((*used, *machine), who), inputs, out)
                if not isinstance(report, Report):
                    raise ProgramError(f"the body of stage {name} returned {report!r}", expected="a Report", do="return it")
                finished = finish(out, report, name, inputs.task)
                log.info("%d rows kept, %.1f s", finished.rows.kept, time.monotonic() - started)
                return finished

        run.effect = held is not None  # type: ignore[attr-defined]
        run.stage = name  # type: ignore[attr-defined]
        return run

    return decorate


def _require_known(names: tuple[str, ...], settings: Settings, stage: str) -> None:
    """Raises ProgramError for a name that no setting has."""
    for name in names:
        if value_at(settings, name, _NONE) is _NONE:
            raise ProgramError(
                f"stage {stage} names the setting {name!r}, which does not exist",
                where="uses= or machine= of its decorator",
                expected="a dotted name of docs/settings.md",
            )


def _standing(found: Artifact, inputs: Inputs, held: Held | None) -> Report | None:
    """Returns the report of a finished output, None for an effect to redo."""
    return held(inputs, found) if held else found.report


@contextmanager
def alone(address: str) -> Iterator[None]:
    """Keeps two processes of this machine off one output's scratch folder: a task that was taken for dead may still be running."""
    lock = FileLock(scratch("locks") / address.replace("/", "_"))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        log.info("another process of this machine is at it; waiting for that one")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def output_key(
    name: str, version: int, uses: tuple[str, ...], pinned: tuple[str, ...], outside: str, settings: Settings, inputs: Inputs
) -> str:
    """Returns the key of a stage's output: a digest of everything that it depends on.

    Args:
        name: of the stage.
        version: of its code.
        uses: dotted settings that it depends on.
        pinned: names of pinned inputs that it depends on.
        outside: digest of what it reads from outside the store.
        settings: the run's.
        inputs: the stage's.
    """
    values = settings.model_dump(mode="json")
    parts: dict[str, Any] = {
        "stage": name,
        "version": version,
        "task": inputs.task,
        "settings": {use: value_at(values, use, None) for use in sorted(uses)},
        "inputs": {role: artifact.digest for role, artifact in sorted(inputs.artifacts.items())},
        "outside": outside,
        "pinned": {what: getattr(inputs, what) for what in pinned if what not in _BY_PEOPLE or getattr(inputs, what)},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:20]
