"""Servers that a rollout starts by itself, and what it logs while it waits for them."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from relevance_core.config import ServingSettings
from relevance_core.errors import ServingError
from relevance_core.registry import Manifest, Registry
from relevance_core.serving import fleet
from relevance_core.serving.process import Supervisor
from relevance_core.store import Store
from tests.support.registry_cases import make_adapter, make_meta

FIRST, SECOND = "http://127.0.0.1:1", "http://127.0.0.1:2"


class Clock:
    """A clock that goes on while somebody sleeps, and lists the servers in the store at their time."""

    def __init__(self, store: Store, ready: dict[float, str]) -> None:
        self.now, self._store, self._ready = 0.0, store, ready

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for at, url in self._ready.items():
            if at <= self.now:
                fleet.register(self._store, fleet.Entry(url, "tiny@b1", "here", 1))


@pytest.fixture
def version(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return Registry(store).publish("QC", make_adapter(tmp_path_factory.mktemp("version") / "adapter"), make_meta())


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Has two supervisors started without a process; the servers that were stopped."""
    found: list[str] = []

    def made() -> Iterator[SimpleNamespace]:
        for url in (FIRST, SECOND):
            yield SimpleNamespace(url=url, require_alive=lambda: None, stop=lambda url=url: found.append(url))

    supervisors = made()
    monkeypatch.setattr(Supervisor, "start", lambda *_: next(supervisors))
    return found


def begun(monkeypatch: pytest.MonkeyPatch, store: Store, version: Manifest, ready: dict[float, str]) -> list[fleet.Started]:
    clock = Clock(store, ready)
    monkeypatch.setattr("relevance_core.processes.time.monotonic", lambda: clock.now)
    monkeypatch.setattr("relevance_core.serving.fleet.time.sleep", clock.sleep)
    return fleet.start(store, version, ServingSettings(start_servers=2, start_seconds=30))


@pytest.mark.usefixtures("stopped")
def test_a_wait_for_servers_is_a_line_every_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, store: Store, version: Manifest
) -> None:
    """Servers that are ready after 11 and 25 s: a line when they start, after 10 s for both, and after 20 s for the second."""
    caplog.set_level("INFO", "relevance_core.serving.fleet")
    found = begun(monkeypatch, store, version, {11: FIRST, 25: SECOND})
    for one in found:
        one.server.close()
    assert [one.server.url for one in found] == [FIRST, SECOND]
    assert caplog.messages == [
        f"tiny@b1 starts on {FIRST}, {SECOND}", f"tiny@b1 starts on {FIRST}, {SECOND}: 10 s", f"tiny@b1 starts on {SECOND}: 20 s",
    ]  # fmt: skip


def test_servers_that_are_too_slow_are_stopped(
    monkeypatch: pytest.MonkeyPatch, store: Store, version: Manifest, stopped: list[str]
) -> None:
    """After `serving.start_seconds` the missing server is named, and both are stopped."""
    with pytest.raises(ServingError, match=f"no server was ready within 30 s; where: {SECOND}$"):
        begun(monkeypatch, store, version, {11: FIRST})
    assert stopped == [FIRST, SECOND]
