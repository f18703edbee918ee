"""`relevance serve`: a vLLM server for the base of the champions, from its start to its end.

It is ready when it is healthy and reproduces the golden pairs' scores for every version of its base that serves, or that it was
started for. From then on until its end, it is in the store's list of servers (`fleet`).
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from relevance_core.config import ServingSettings
from relevance_core.errors import NotFound, RelevanceError, SettingsError
from relevance_core.machine import require_python
from relevance_core.pairs import TASKS
from relevance_core.registry import Manifest, Registry, Release, golden, names
from relevance_core.registry.releases import CHAMPION
from relevance_core.serving import fleet, readiness
from relevance_core.serving.server import LocalServer, spec_for
from relevance_core.serving.wire import Server

log = logging.getLogger(__name__)
_POLL_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Plan:
    """The purpose of a server.

    base: champion, or the name of a version whose base it runs (`relevance-qc@…` or `QC@…`). task: the champion of only this one.
    advertise: the address that others reach it by; None for that of host and port; empty keeps it out of the list.
    until_replaced: ends the server when no release stands on the base any more, once one has.
    """

    base: str = CHAMPION
    task: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    gpus: int | None = None
    advertise: str | None = None
    until_replaced: bool = False
    flags: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        """The address for clients and rollouts."""
        if self.advertise is not None:
            return self.advertise
        everywhere = self.host in ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
        return f"http://{socket.gethostname() if everywhere else self.host}:{self.port}"


def serve(registry: Registry, plan: Plan, settings: ServingSettings, work: Path) -> int:
    """Starts the server, writes `ready http://…` to stdout when it is ready, and returns its exit status when it has ended.

    SIGTERM and SIGINT let it finish the requests in flight and end.

    Args:
        registry: of the versions.
        plan: of the server.
        settings: of serving.
        work: folder of its cache of adapters.

    Raises:
        NotFound: nothing serves yet, or there is no such version.
        SettingsError: the base to run is ambiguous.
        ServingError: the server does not start or does not agree with the golden pairs.
    """
    versions, release = to_serve(registry, plan), registry.current()
    spec = spec_for(registry.store, versions, settings, host=plan.host, port=plan.port, gpus=plan.gpus, work=work, flags=plan.flags)
    log.info("vLLM with %s on %s, %s, at %s", spec.base.label, f"{spec.gpus} GPU" if spec.gpus else "the CPU", spec.dtype, spec.url)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with LocalServer.start(spec, require_python(settings), to_file=False) as server:
        try:
            server.wait()
            with Server(server.url, settings.timeout_seconds) as connection:
                prove(connection, registry, versions, settings)
            with _listed(registry, plan, server):
                sys.stdout.write(f"ready {plan.address or server.url}\n")
                sys.stdout.flush()
                _watch(server, registry, plan, release.number if release else 1)
        except KeyboardInterrupt:
            log.info("asked to end: the server finishes what is in flight")
        return server.stop()


def to_serve(registry: Registry, plan: Plan) -> list[Manifest]:
    """Returns the versions that a server must agree with to be ready: the one that it is started for, and its base's champions.

    Raises NotFound where nothing serves yet, SettingsError where the champions stand on several bases or the name is no version's.
    """
    if plan.base != CHAMPION:
        named = _named(registry, plan.base)
        return [named] + [one for one in champions_on(registry, named.base.label) if one.name != named.name]
    release = registry.current()
    bases = {task: label for task, label in release.bases.items() if plan.task in (None, task)} if release else {}
    if not release or not bases:
        raise NotFound(
            f"no version{f' of {plan.task}' if plan.task else ''} serves yet",
            where=registry.store.uri,
            do="promote one, or name the version whose base is to run: --base TASK@VERSION",
        )
    if len(set(bases.values())) > 1:
        raise SettingsError(
            f"the champions stand on several bases: {', '.join(f'{task} on {label}' for task, label in sorted(bases.items()))}",
            where="--base champion",
            expected="one base a server",
            do=f"start one for each: {' and '.join(f'--base {task}@{release.versions[task]}' for task in sorted(bases))}",
        )
    return champions_on(registry, *bases.values())


def champions_on(registry: Registry, *labels: str) -> list[Manifest]:
    """Returns the versions that serve on one of these bases."""
    release = registry.current()
    tasks = [task for task, label in sorted(release.bases.items()) if label in labels] if release else []
    return [registry.manifest(task, release.versions[task]) for task in tasks] if release else []


def _named(registry: Registry, text: str) -> Manifest:
    task, _, version = text.partition("@")
    if parsed := names.parse(text):
        task, version = parsed
    if task not in TASKS or not version:
        raise SettingsError(
            f"{text!r} names no version",
            where="--base",
            expected=f"{CHAMPION}, TASK@VERSION or relevance-task@version, of QC or QI",
        )
    return registry.resolve(task, version)


def prove(server: Server, registry: Registry, versions: Sequence[Manifest], settings: ServingSettings) -> None:
    """Loads the versions, which warms the server up, and holds it to their golden pairs.

    Args:
        server: the server to prove.
        registry: has the golden pairs.
        versions: to load.
        settings: of serving.

    Raises:
        ServingError: the server does not agree with the golden pairs.
        RegistryError: a version has damaged golden pairs.
    """
    for version in versions:
        largest, _ = readiness.check(server, version, golden.load(registry, version), settings)
        log.info("%s: p(yes) within %.1e of the trainer's", version.name, largest)


@contextmanager
def _listed(registry: Registry, plan: Plan, server: LocalServer) -> Iterator[None]:
    """Keeps the server in the store's list of servers while the body runs."""
    if not plan.address:
        yield
        return
    entry = fleet.Entry(plan.address, server.spec.base.label, socket.gethostname(), os.getpid())
    fleet.register(registry.store, entry)
    try:
        yield
    finally:
        try:
            fleet.leave(registry.store, entry)
        except RelevanceError as error:
            log.warning("%s stays in the list of servers until somebody finds that it is gone: %s", plan.address, error)


def _watch(
    server: LocalServer,
    registry: Registry,
    plan: Plan,
    first: int,
    *,
    poll_seconds: float = _POLL_SECONDS,
    look_seconds: float = _LOOK_SECONDS,
) -> None:
    """Returns when the server has ended, or when its base was replaced and `plan` says so, after the time to drain.

    Args:
        server: the server to watch.
        registry: of the releases.
        plan: of the server; with `until_replaced` a replaced base ends it.
        first: number of the first release to read. Every later one is read too: a release on the base may come and go between
            two looks.
        poll_seconds: seconds between two checks that the server runs.
        look_seconds: least seconds between two looks at the releases.
    """
    label, looked = server.spec.base.label, time.monotonic()
    stood = False
    while server.alive():
        time.sleep(poll_seconds)
        if not plan.until_replaced or time.monotonic() - looked < look_seconds:
            continue
        looked = time.monotonic()
        try:
            release = registry.current()
            stood |= any(label in one.bases.values() for one in _since(registry, release, first))
        except RelevanceError as error:  # An outage of the store must not end a server.
            log.warning("the server goes on, since the releases can't be read: %s", error)
            continue
        first = release.number if release else first
        if stood and release is not None and label not in release.bases.values():
            log.info("nothing stands on %s any more", label)
            time.sleep(server.spec.settings.drain_seconds + server.spec.settings.staleness_seconds)
            return
    log.warning("the server has ended by itself")


def _since(registry: Registry, release: Release | None, number: int) -> Iterator[Release]:
    """Yields this release and those before it, down to that number."""
    while release is not None and release.number >= number:
        yield release
        release = registry.release(release.previous) if release.previous is not None else None
