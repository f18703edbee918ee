"""The client of a search service: pairs in; p(yes), the decision and the version out.

    with ScoringClient("s3://bucket/prefix") as client:
        scores = client.score("QC", [Pair("de", "laufschuhe", "Sports > Shoes")])

It follows the alias, makes the prompts of the version that serves, and asks any server that has that version's base. All pairs
of a call are scored by one version: when the version or its servers are gone and another version serves by then, the whole call is
scored anew. `AsyncScoringClient` is the same for asyncio.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from relevance_core.config import ServingSettings
from relevance_core.errors import ServingError
from relevance_core.pairs import Task
from relevance_core.registry.signing import Key
from relevance_core.serving.pool import Pool
from relevance_core.serving.prompts import Pair, Prompts, open_prompts
from relevance_core.serving.view import View, Watch
from relevance_core.serving.wire import BATCH
from relevance_core.store import Store, open_store

__all__ = ["AsyncScoringClient", "Pair", "Scores", "ScoringClient"]

Done = Callable[[int], object]

_OPENED: Final = 8
_MOVES: Final = 5
_ATTEMPTS: Final = 6
_OUTAGE_SECONDS: Final = 600.0


@dataclass(frozen=True)
class Scores:
    """The answer of one call, all of it by one version.

    p: p(yes) of each pair, in the pairs' order. relevant: True where p reaches the version's threshold.
    """

    p: npt.NDArray[np.float64]
    relevant: npt.NDArray[np.bool_]
    task: Task
    version: str
    threshold: float


class AsyncScoringClient:
    """Scores pairs on vLLM servers. For one event loop; any number of tasks may call it at once.

    Args:
        store: the registry, or its address; read access is enough.
        endpoints: the servers; empty for `settings.endpoints` and those that registered themselves in the store.
        settings: how stale the alias may be, how long an answer may take, and the key that manifests must be signed with.
        batch: pairs of one request.
        concurrency: requests under way at a time, of all calls together; further ones wait.
        attempts: tries of a batch, on other servers where there are any.
        outage: seconds for which the known alias is used while the store can't be read.
    """

    def __init__(
        self,
        store: Store | str,
        endpoints: Sequence[str] = (),
        settings: ServingSettings | None = None,
        *,
        batch: int = BATCH,
        concurrency: int = 8,
        attempts: int = _ATTEMPTS,
        outage: float = _OUTAGE_SECONDS,
    ) -> None:
        settings = settings or ServingSettings()
        self._store = open_store(store) if isinstance(store, str) else store
        self._own_store = isinstance(store, str)
        self._settings = settings
        self._key = Key.load(settings.verify_key) if settings.verify_key else None
        self._batch, self._concurrency = batch, concurrency
        self._watch = Watch(self._store, settings, endpoints, outage)
        self._pool = Pool(settings.timeout_seconds, concurrency, attempts)
        self._opened: OrderedDict[tuple[Task, str], asyncio.Task[Prompts]] = OrderedDict()
        # One thread: a fast tokenizer is not safe in two at a time, and the event loop goes on meanwhile.
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="relevance-prompts")
        self._closed = False

    async def score(self, task: Task, pairs: Sequence[Pair], *, version: str | None = None, done: Done | None = None) -> Scores:
        """Scores pairs with the version that serves the task, or with `version`. A cancelled call cancels its requests.

        Args:
            task: QC or QI.
            pairs: to score.
            version: 16 hex digits; None for the champion.
            done: called with the number of pairs scored so far; a smaller number means that the call began anew.

        Raises:
            ServingError: no server answers or the client is closed.
            NotFound: nothing serves the task.
            RegistryError: the version is damaged.
            StoreError: the alias can't be read for too long.
        """
        pairs = list(pairs)
        begun = float("-inf")
        for move in range(_MOVES + 1):
            self._require_open()
            view = await self._watch.view(begun)
            chosen, begun = version or view.champion(task), time.monotonic()
            try:
                return await self._score(task, chosen, pairs, view, done or _ignore)
            except ServingError:
                fresh = await self._watch.view(begun)
                unmoved = (version or fresh.champion(task)) == chosen and fresh.endpoints == view.endpoints
                if unmoved or move == _MOVES:
                    raise
        raise AssertionError("unreachable")

    async def close(self) -> None:
        """Closes every connection; calls under way fail."""
        self._closed = True
        self._watch.close()
        for opening in self._opened.values():
            opening.cancel()
        await self._pool.close()
        await asyncio.to_thread(self._encoder.shutdown, cancel_futures=True)
        if self._own_store:
            self._store.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def _score(self, task: Task, version: str, pairs: Sequence[Pair], view: View, done: Done) -> Scores:
        opened = await self._open(task, version)
        self._pool.use(view.endpoints)
        p = np.empty(len(pairs))
        starts, finished = iter(range(0, len(pairs), self._batch)), 0

        async def work() -> None:
            nonlocal finished
            for start in starts:
                batch = pairs[start : start + self._batch]
                p[start : start + len(batch)] = await self._batch_of(opened, batch)
                finished += len(batch)
                done(finished)

        await _together(work() for _ in range(min(self._concurrency, -(-len(pairs) // self._batch))))
        threshold = opened.manifest.threshold
        return Scores(p, p >= threshold, task, version, threshold)

    async def _batch_of(self, opened: Prompts, batch: Sequence[Pair]) -> npt.NDArray[np.float64]:
        prompts = await asyncio.get_running_loop().run_in_executor(self._encoder, opened.encode, batch)
        return await self._pool.score(opened.manifest.name, opened.manifest.base.label, prompts, opened.answers)

    async def _open(self, task: Task, version: str) -> Prompts:
        """Returns the version, opened once for all calls; keeps the most recently used ones."""
        key = (task, version)
        opening = self._opened.get(key)
        if opening is None:
            opening = asyncio.create_task(asyncio.to_thread(open_prompts, self._store, task, version, self._key, self._settings))
            self._opened[key] = opening
        self._opened.move_to_end(key)
        if len(self._opened) > _OPENED:
            self._opened.popitem(last=False)
        try:
            # shielded: other calls may wait for it when this call is cancelled
            return await asyncio.shield(opening)
        except BaseException:
            if opening.done():
                self._opened.pop(key, None)
            raise

    def _require_open(self) -> None:
        if self._closed:
            raise ServingError("the client is closed", do="make a new one")


class ScoringClient:
    """`AsyncScoringClient` for blocking code: the same arguments and errors. Any number of threads may call it at once.

    It has a thread of its own, so make it after a process has forked. Close it, or use it in a `with`.
    """

    def __init__(
        self, store: Store | str, endpoints: Sequence[str] = (), settings: ServingSettings | None = None, **options: Any
    ) -> None:
        self._client = AsyncScoringClient(store, endpoints, settings, **options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relevance-client", daemon=True)
        self._closing = threading.Lock()
        self._closed = False
        self._thread.start()

    def score(self, task: Task, pairs: Sequence[Pair], *, version: str | None = None, done: Done | None = None) -> Scores:
        """Scores pairs as `AsyncScoringClient.score` does; `done` is called in the client's thread."""
        return self._run(self._client.score(task, pairs, version=version, done=done))

    def close(self) -> None:
        """Closes every connection and the thread; calls under way in other threads fail with a ServingError."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _run(self, call: Coroutine[Any, Any, Scores]) -> Scores:
        with self._closing:
            if self._closed:
                call.close()
                raise ServingError("the client is closed", do="make a new one")
            future = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError as error:
            raise ServingError(
                "the client was closed during the call", do="make a new one, and close it after the last call"
            ) from error
        except BaseException:
            future.cancel()  # an interrupt of the caller's thread cancels the requests
            raise

    async def _end(self) -> None:
        calls = asyncio.all_tasks() - {asyncio.current_task()}
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await self._client.close()


async def _together(work: Iterator[Coroutine[Any, Any, None]]) -> None:
    """Runs the coroutines concurrently; the first error, or a cancellation, ends all and is raised."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def _ignore(finished: int) -> None:
    """Ignores the progress of a call."""
