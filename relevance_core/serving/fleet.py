"""Which vLLM servers there are: those that the settings name, and those that registered themselves in the store.

`relevance serve` writes `servers/<id>.json` when it is ready and deletes it when it ends. One that was killed stays in the list
until a rollout finds that it does not answer; its entry is then taken out, since a server that comes back registers again.
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
    """A server that registered itself. base: label of the base that it runs. host, pid: the process that looks after it."""

    url: str
    base: str
    host: str
    pid: int

    @property
    def key(self) -> str:
        """Where it stands in the store."""
        return f"{_FOLDER}{self.url.partition('://')[2].replace(':', '-').strip('/')}.json"


def register(store: Store, entry: Entry) -> None:
    """Lets clients and rollouts find a server that is ready."""
    store.write(entry.key, canonical(asdict(entry)))


def leave(store: Store, entry: Entry) -> None:
    """Takes a server out of the list, unless another process runs one at its address by now."""
    if entry in registered(store):
        store.delete(entry.key)


def registered(store: Store) -> list[Entry]:
    """Every server in the list, by address; whether it answers is not asked."""
    found = []
    for item in store.list(_FOLDER):
        try:
            values: dict[str, Any] = json.loads(store.read(item.key))
        except NotFound:  # it left since the list was read
            continue
        found.append(Entry(**values))
    return sorted(found, key=lambda entry: entry.url)


def endpoints(store: Store, settings: ServingSettings) -> list[str]:
    """The addresses of all servers: the configured ones, then the registered ones."""
    return list(dict.fromkeys([*settings.endpoints, *(entry.url for entry in registered(store))]))


@contextmanager
def connected(store: Store, settings: ServingSettings) -> Iterator[list[Server]]:
    """Connections to every server, closed at the end.

    A configured server that does not answer raises ServingError; a registered one leaves the list.
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
    """Those of the servers that run this base."""
    return [server for server in found if server.base() == label]


@dataclass(frozen=True)
class Started:
    """A server that was started here, and how to stop it again."""

    server: Server
    stop: Callable[[], None]


def start(store: Store, manifest: Manifest, settings: ServingSettings) -> list[Started]:
    """Starts `serving.start_servers` processes `relevance serve` on this machine for the base of a version, and waits for them.

    They go on when this process ends, and end by themselves when no release stands on their base any more. Raises ServingError
    when one of them dies or is not ready in time; what was started is stopped then.
    """
    from relevance_core.serving.process import Supervisor
    from relevance_core.serving.wire import Server

    supervisors = [Supervisor.start(store.uri, manifest.name, settings) for _ in range(settings.start_servers)]
    deadline = time.monotonic() + settings.start_seconds
    try:
        while waiting := {one.url for one in supervisors} - {entry.url for entry in registered(store)}:
            log.info("waiting for %s, which is to run %s", ", ".join(sorted(waiting)), manifest.base.label)
            for one in supervisors:
                one.require_alive()
            if time.monotonic() > deadline:
                raise ServingError(f"no server was ready within {settings.start_seconds:g} s", where=", ".join(sorted(waiting)))
            time.sleep(_POLL_SECONDS)
    except BaseException:
        for one in supervisors:
            one.stop()
        raise
    return [Started(Server(one.url, settings.timeout_seconds), one.stop) for one in supervisors]
