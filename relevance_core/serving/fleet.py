"""The known vLLM servers: those that the settings name, and those that registered themselves in the store.

`relevance serve` writes `servers/<id>.json` when it is ready and deletes it when it ends. A killed server stays in the list until a
rollout gets no answer from it and removes its entry; a server that comes back registers again.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from relevance_core.config import ServingSettings
from relevance_core.errors import NotFound, ServingError
from relevance_core.processes import Pace
from relevance_core.registry import Manifest
from relevance_core.registry.manifest import canonical
from relevance_core.store import Store

if TYPE_CHECKING:
    from relevance_core.serving.wire import Server

log = logging.getLogger(__name__)

_FOLDER = "servers/"
_POLL_SECONDS = 2.0


@dataclass(frozen=True)
class Entry:
    """A server that registered itself. base: label of the base that it runs. host, pid: of the process that supervises it."""

    url: str
    base: str
    host: str
    pid: int

    @property
    def key(self) -> str:
        """Its key in the store."""
        return f"{_FOLDER}{self.url.partition('://')[2].replace(':', '-').strip('/')}.json"


def register(store: Store, entry: Entry) -> None:
    """Lists a server that is ready, so that clients and rollouts find it."""
    store.write(entry.key, canonical(asdict(entry)))


def leave(store: Store, entry: Entry) -> None:
    """Removes a server from the list, unless another process has registered at its address since."""
    if entry in registered(store):
        store.delete(entry.key)


def registered(store: Store) -> list[Entry]:
    """Returns every server in the list, by address, without asking whether it answers."""
    found = []
    for item in store.list(_FOLDER):
        try:
            values: dict[str, Any] = json.loads(store.read(item.key))
        except NotFound:  # it has left since the list was read
            continue
        found.append(Entry(**values))
    return sorted(found, key=lambda entry: entry.url)


def endpoints(store: Store, settings: ServingSettings) -> list[str]:
    """Returns the addresses of all servers: the configured ones, then the registered ones."""
    return list(dict.fromkeys([*settings.endpoints, *(entry.url for entry in registered(store))]))


@contextmanager
def connected(store: Store, settings: ServingSettings) -> Iterator[list[Server]]:
    """Yields connections to every server, and closes them at the end.

    Raises ServingError for a configured server that does not answer; removes a registered one from the list.
    """
    from relevance_core.serving.wire import Server

    entries = {entry.url: entry for entry in registered(store)}
    found = []
    with ExitStack() as connections:
        for url in endpoints(store, settings):
            server = connections.enter_context(Server(url, settings.timeout_seconds))
            if server.healthy():
                found.append(server)
            elif url in settings.endpoints:
                do = "start it, or take it out of serving.endpoints"
                raise ServingError("a server does not answer", where=url, expected="/health with 200", do=do)
            else:
                leave(store, entries[url])
        yield found


def on_base(found: Iterable[Server], label: str) -> list[Server]:
    """Returns the servers that run this base."""
    return [server for server in found if server.base() == label]


@dataclass(frozen=True)
class Started:
    """A server that was started here. stop: stops it again."""

    server: Server
    stop: Callable[[], None]


def start(store: Store, manifest: Manifest, settings: ServingSettings) -> list[Started]:
    """Starts `serving.start_servers` processes `relevance serve` on this machine for the base of a version, and waits for them.

    They outlive this process, and end when no release stands on their base any more.

    Args:
        store: holds the registry and the list of servers.
        manifest: of the version.
        settings: of serving.

    Raises:
        ServingError: a server died or was not ready in time; those that were started are stopped.
    """
    from relevance_core.serving.process import Supervisor
    from relevance_core.serving.wire import Server

    supervisors = [Supervisor.start(store.uri, manifest.name, settings) for _ in range(settings.start_servers)]
    log.info("%s starts on %s", manifest.base.label, ", ".join(one.url for one in supervisors))
    pace = Pace()
    try:
        while waiting := {one.url for one in supervisors} - {entry.url for entry in registered(store)}:
            for one in supervisors:
                one.require_alive()
            if pace.seconds > settings.start_seconds:
                raise ServingError(f"no server was ready within {settings.start_seconds:g} s", where=", ".join(sorted(waiting)))
            if pace.due():
                log.info("%s starts on %s: %.0f s", manifest.base.label, ", ".join(sorted(waiting)), pace.seconds)
            time.sleep(_POLL_SECONDS)
    except BaseException:
        for one in supervisors:
            one.stop()
        raise
    return [Started(Server(one.url, settings.timeout_seconds), one.stop) for one in supervisors]
