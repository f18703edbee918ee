"""A client's view of the store: the release that serves and the servers, read again every few seconds."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from relevance_core.config import ServingSettings
from relevance_core.errors import NotFound, RelevanceError, StoreError
from relevance_core.registry import Registry, Release
from relevance_core.serving import fleet
from relevance_core.store import Store

log = logging.getLogger(__name__)
_RETRY_SECONDS: Final = 1.0


@dataclass(frozen=True)
class View:
    """One reading of the store.

    release: the champions, None before the first. endpoints: the servers' addresses. read_at: `time.monotonic()` before the read.
    """

    release: Release | None
    endpoints: tuple[str, ...]
    read_at: float

    def champion(self, task: str) -> str:
        """Returns the version that serves the task. Raises NotFound while none does."""
        version = self.release.versions.get(task) if self.release else None
        if version is None:
            raise NotFound(f"no version of {task} serves yet", do="promote one: `relevance registry promote`")
        return version


class Watch:
    """Reads the view from the store when a caller wants it and the last is too old; concurrent callers share one read.

    endpoints: the servers; empty for those of the settings and those that registered themselves in the store. outage: seconds for
    which a known view may be used while the store can't be read; each read may take `settings.timeout_seconds`. For one event loop.
    """

    def __init__(self, store: Store, settings: ServingSettings, endpoints: Sequence[str], outage: float) -> None:
        self._registry, self._settings, self._endpoints, self._outage = Registry(store), settings, tuple(endpoints), outage
        self._view: View | None = None
        self._reading: asyncio.Task[None] | None = None
        self._started = self._failed_at = float("-inf")
        self._failure: RelevanceError | None = None

    async def view(self, after: float = float("-inf")) -> View:
        """Returns a view that was read at most `staleness_seconds` ago, and after `after` (`time.monotonic()`).

        When the store fails, returns the known view until the outage has lasted too long. Raises StoreError then, and at once when
        nothing is known yet.
        """
        for _ in range(2):  # the first read may have begun before `after`
            if self._reading is None and self._due(after):
                self._started = time.monotonic()
                self._reading = asyncio.create_task(self._read())
            if self._reading is not None:
                await self._wait(self._reading)
        known = self._view
        if known is None or time.monotonic() - known.read_at > self._settings.staleness_seconds + self._outage:
            raise self._too_long(known) from self._failure
        return known

    def close(self) -> None:
        """Cancels a read that is under way."""
        if self._reading is not None:
            self._reading.cancel()

    async def _wait(self, reading: asyncio.Task[None]) -> None:
        """Waits for the read as long as a read may take; asyncio.wait does not stop it when this caller is cancelled."""
        left = max(0.0, self._started + self._settings.timeout_seconds - time.monotonic())
        await asyncio.wait([reading], timeout=left)
        if reading.done() and not reading.cancelled():
            reading.result()

    def _due(self, after: float) -> bool:
        """Tells whether the view is too old, and the last failed read is some time ago."""
        now = time.monotonic()
        old = self._view is None or self._view.read_at <= after or now - self._view.read_at >= self._settings.staleness_seconds
        return old and (self._view is None or now - self._failed_at >= _RETRY_SECONDS)

    async def _read(self) -> None:
        try:
            release, endpoints = await asyncio.to_thread(self._load)
        except RelevanceError as error:
            if self._failure is None:
                log.warning("the alias can't be read; going on with what is known for %.0f s at most: %s", self._outage, error)
            self._failure, self._failed_at = error, time.monotonic()
        else:
            self._view, self._failure = View(release, endpoints, self._started), None
        finally:
            self._reading = None

    def _load(self) -> tuple[Release | None, tuple[str, ...]]:
        return self._registry.current(), self._endpoints or tuple(fleet.endpoints(self._registry.store, self._settings))

    def _too_long(self, known: View | None) -> StoreError:
        lasted = "" if known is None else f" for {time.monotonic() - known.read_at:.0f} s"
        return StoreError(
            f"the alias can't be read{lasted}, so it is not known which version serves",
            where=self._registry.store.uri,
            expected=f"an answer within {self._settings.timeout_seconds:g} s",
            do=f"make the store reachable: {self._failure}" if self._failure else "make the store reachable",
        )
