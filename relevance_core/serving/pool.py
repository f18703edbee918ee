"""A pool of vLLM servers that answers like one: chooses a server for each batch, and handles failures.

A batch goes to the server of the right base that has the fewest requests under way. A server that can't be reached, is busy or
answers nonsense rests a little, longer each time, and at least as long as it let a batch wait, up to a few seconds; the batch goes
to another, after a random pause that grows with every try. A server that refuses a batch is not asked again for it. At most
`concurrency` requests are under way; further ones wait for their turn.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx
import numpy as np
import numpy.typing as npt

from relevance_core.errors import ServingError
from relevance_core.serving import wire
from relevance_core.serving.wire import Refused, Unavailable, UnknownVersion

_Scored = npt.NDArray[np.float64]
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0


@dataclass
class _Member:
    """A server. base: its label, None while it is not known. resting_until: `time.monotonic()`. failures: consecutive ones."""

    url: str
    base: str | None = None
    in_flight: int = 0
    failures: int = 0
    resting_until: float = 0.0
    failure: ServingError | None = None
    asking: asyncio.Task[None] | None = None

    @property
    def rest(self) -> float:
        """The seconds for which it still rests."""
        return max(0.0, self.resting_until - time.monotonic())

    def failed(self, error: ServingError, begun: float) -> None:
        """Lets the server rest; its base is asked again afterwards, since a server may come back with another one.

        begun: when it was asked. A hanging server may still list its models, so that after a short rest the next batch would wait
        as long.
        """
        self.base, self.failure = None, error
        if not self.rest:  # requests that fail together are one failure
            self.failures += 1
            now = time.monotonic()
            self.resting_until = now + max(pause(self.failures), min(now - begun, _LONGEST_PAUSE))


def pause(tries: int) -> float:
    """Returns the seconds before the next try: random, so that many clients don't come back at once, with a bound that doubles."""
    return random.uniform(0.5, 1) * min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** (tries - 1))  # noqa: S311 - no secret


class Pool:
    """Scores batches on any server that can. For one event loop.

    timeout: seconds for one answer. concurrency: requests under way. attempts: tries of a batch before its error is raised.
    """

    def __init__(self, timeout: float, concurrency: int, attempts: int) -> None:
        self._timeout, self._attempts = timeout, attempts
        self._client = httpx.AsyncClient(**wire.connection(timeout))
        self._turn = asyncio.Semaphore(concurrency)
        self._members: dict[str, _Member] = {}

    def use(self, endpoints: Sequence[str]) -> None:
        """Sets the servers; keeps the state of those that stay. Raises SettingsError for a wrong address."""
        urls = [wire.endpoint(url) for url in endpoints]
        for url in self._members.keys() - set(urls):
            _forget(self._members.pop(url))
        for url in urls:
            self._members.setdefault(url, _Member(url))

    async def score(
        self, name: str, base: str, prompts: Sequence[Sequence[int]], answers: tuple[int, int]
    ) -> npt.NDArray[np.float64]:
        """Scores the prompts with an adapter, on a server of its base; returns p(yes) of each.

        Args:
            name: of the adapter.
            base: label of the base.
            prompts: token ids.
            answers: the ids of yes and no.

        Raises:
            UnknownVersion: every such server lacks the adapter.
            Refused: every such server refused.
            Unavailable: none answered in `attempts` tries.
            ServingError: all servers run another base.
        """
        request, refused = wire.payload(name, prompts, answers), dict[str, Refused]()
        tries = 1
        while True:
            try:
                async with self._turn:
                    member = await self._choose(base, refused)
                    answer = await self._scored(member, request, refused)
                if answer is not None:
                    return answer
            except Unavailable as error:
                if tries >= self._attempts and refused:
                    raise _clearest(refused) from error
                if tries >= self._attempts:
                    raise
                await asyncio.sleep(max(pause(tries), self._rest()))
                tries += 1

    async def close(self) -> None:
        """Closes all connections."""
        for member in self._members.values():
            _forget(member)
        await self._client.aclose()

    async def _scored(self, member: _Member, request: dict[str, Any], refused: dict[str, Refused]) -> _Scored | None:
        """Returns the scores by this server; None when it refused, which goes into `refused`.

        Raises Unavailable, after which the server rests.
        """
        answers, begun = request["logprob_token_ids"], time.monotonic()
        try:
            answer = await self._ask(member, "POST", wire.COMPLETIONS, request)
            scores = wire.p_yes(answer, len(request["prompt"]), answers, name=request["model"], where=member.url)
        except Refused as error:
            refused[member.url] = error
            member.base = None  # a server that was started anew at this address may have another base
            return None
        except Unavailable as error:
            member.failed(error, begun)
            raise
        member.failures = 0
        return scores

    async def _choose(self, base: str, refused: dict[str, Refused]) -> _Member:
        """Returns the server for the next try. Raises the errors of `score` when there is none."""
        while True:
            left = [member for member in self._members.values() if member.url not in refused]
            able = [member for member in left if member.base == base]
            asked = [self._identify(member) for member in left if member.base is None and (member.asking or not member.rest)]
            if able:
                return min(able, key=lambda member: (member.in_flight, random.random()))  # noqa: S311 - no secret
            if not asked:
                raise self._nobody(base, left, refused)
            await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)

    def _identify(self, member: _Member) -> asyncio.Task[None]:
        """Returns the task that asks for the server's base; batches that another server can take don't wait for it."""
        if member.asking is None:
            member.asking = asyncio.create_task(self._ask_base(member))
        return member.asking

    async def _ask_base(self, member: _Member) -> None:
        begun = time.monotonic()
        try:
            member.base, _ = wire.listed(await self._ask(member, "GET", wire.MODELS), member.url)
        except ServingError as error:
            member.failed(error, begun)
        finally:
            member.asking = None

    async def _ask(self, member: _Member, method: str, path: str, json: Any = None) -> Any:
        """Returns the JSON of one answer.

        Raises the errors of `wire.body`, Unavailable when there is none in time, and ServingError on a closed client.
        """
        if self._client.is_closed:
            raise ServingError("the client is closed", do="make a new one")
        member.in_flight += 1
        try:
            # httpx bounds each read only: a server that sends a byte now and then would hold a request for ever.
            async with asyncio.timeout(self._timeout):
                response = await self._client.request(method, member.url + path, json=json)
        except TimeoutError as error:
            raise Unavailable(
                f"the server does not answer within {self._timeout:g} s",
                where=member.url,
                do="see its load; serving.timeout_seconds is the bound",
            ) from error
        except httpx.TransportError as error:
            raise wire.unreachable(error, member.url) from error
        finally:
            member.in_flight -= 1
        return wire.body(response, member.url)

    def _rest(self) -> float:
        """Returns the seconds until a server may be asked."""
        return min((member.rest for member in self._members.values()), default=0.0)

    def _nobody(self, base: str, left: Sequence[_Member], refused: dict[str, Refused]) -> ServingError:
        """Returns the error of a batch without a server; Unavailable when a later try may find one."""
        told = "; ".join(f"{member.url}: {member.base or (member.failure and member.failure.what)}" for member in left)
        if any(member.base is None for member in left):
            return Unavailable(f"no server with the base {base} answers", where=told, do="see whether it runs: `relevance ready`")
        if not self._members:
            return ServingError("no server is known", where="serving.endpoints", do="start one with `relevance serve`, or name it")
        if refused:
            return _clearest(refused)
        return ServingError(f"no server has the base {base}", where=told, do="start one with `relevance serve`")


def _clearest(refused: dict[str, Refused]) -> Refused:
    """Returns the most informative refusal: an unknown version, before others."""
    return min(refused.values(), key=lambda error: not isinstance(error, UnknownVersion))


def _forget(member: _Member) -> None:
    if member.asking is not None:
        member.asking.cancel()
