"""The protocol with a vLLM server: request and answer of a scored batch, and a blocking client of one server.

A prompt is sent as token ids, so that the server adds and cuts nothing; one token is generated and only the two answers' log
probabilities are requested, which is exact and cheapest (`logprobs=20` can miss an answer). Every answer names the version that
gave it, and is checked before a number leaves this module.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Self

import httpx
import numpy as np
import numpy.typing as npt

from relevance_core.errors import ServingError, SettingsError

COMPLETIONS: Final = "/v1/completions"
MODELS: Final = "/v1/models"
UNLOAD: Final = "/v1/unload_lora_adapter"
HEALTH: Final = "/health"
ABOUT: Final = "/relevance"
BATCH: Final = 64
"""Pairs of one request."""

_BUSY: Final = frozenset((HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS))
_IMPOSSIBLE: Final = -9999.0  # vLLM's log probability for a probability of 0
_SHOWN: Final = 300
_CONNECT_SECONDS: Final = 5.0
_KEEP_SECONDS: Final = 2.0  # less than vLLM's 5, so that no request goes out on a connection that vLLM is just closing


class Unavailable(ServingError):
    """The error of a server that can't be reached, is too busy, failed, or answered nonsense: retryable, or on another server."""


class Refused(ServingError):
    """The error of a server that refuses this request: not retryable."""


class UnknownVersion(Refused):
    """The error of a server that has no adapter of the name and can't get it."""


def payload(name: str, prompts: Sequence[Sequence[int]], answers: tuple[int, int]) -> dict[str, Any]:
    """Returns the body of POST /v1/completions that requests both answers' log probabilities after each prompt.

    Args:
        name: of the adapter.
        prompts: token ids, at least one prompt.
        answers: the ids of yes and no.
    """
    return {
        "model": name,
        "prompt": [list(prompt) for prompt in prompts],
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": len(answers),
        "logprob_token_ids": list(answers),
        "return_tokens_as_token_ids": True,
    }


def p_yes(
    answer: Mapping[str, Any], rows: int, answers: tuple[int, int], *, name: str = "", where: str = ""
) -> npt.NDArray[np.float64]:
    """Returns p(yes) of each prompt, in their order, from the server's answer to `payload`.

    It is the sigmoid of l_yes − l_no, the difference of the log probabilities (arXiv 2510.21671, eq. 2).

    Args:
        answer: the parsed JSON.
        rows: the number of prompts.
        answers: the ids of yes and no.
        name: the adapter that must have answered; empty for any.
        where: the server, for messages.

    Raises:
        Unavailable: the answer is of another version or length, lacks one of the two tokens, or has a log probability that is no
            number.
    """
    if name and answer.get("model") != name:
        raise _nonsense(f"the answer is by {answer.get('model')!r}", where, f"by {name}")
    choices = answer.get("choices")
    if not isinstance(choices, list) or len(choices) != rows:
        found = len(choices) if isinstance(choices, list) else "no"
        raise _nonsense(f"the answer has {found} rows", where, f"{rows} rows, one a prompt")
    margins = np.full(rows, np.nan)
    for choice in choices:
        place, margin = _row(choice, answers, where)
        if not 0 <= place < rows or not math.isnan(margins[place]):
            raise _nonsense(f"the answer has a row {place}, or has it twice", where, f"each of the rows 0 to {rows - 1} once")
        margins[place] = margin
    return np.asarray(np.exp(-np.logaddexp(0.0, -margins)), dtype=np.float64)


def _row(choice: Any, answers: tuple[int, int], where: str) -> tuple[int, float]:
    """Returns the place of one row of an answer, and its l_yes − l_no. Raises Unavailable for a malformed row."""
    try:
        found = choice["logprobs"]["top_logprobs"][0]
        yes, no = (float(found[f"token_id:{token}"]) for token in answers)
        place = int(choice["index"])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise _nonsense(
            f"a row of the answer has no log probability of a wanted token: {error!r}",
            where,
            f"token_id:{answers[0]} and token_id:{answers[1]} under choices[…].logprobs.top_logprobs[0]",
        ) from error
    if not (math.isfinite(yes) and math.isfinite(no)) or max(yes, no) <= _IMPOSSIBLE:
        raise _nonsense(f"the answers' log probabilities are {yes} and {no}", where, "finite numbers, not both impossible")
    return place, yes - no


def listed(answer: Any, where: str) -> tuple[str, frozenset[str]]:
    """Returns the base model's label and the names of the loaded adapters, from GET /v1/models. Raises Unavailable."""
    try:
        cards = {str(card["id"]): card.get("parent") for card in answer["data"]}
        (base,) = (name for name, parent in cards.items() if not parent)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _nonsense("the list of models can't be read", where, "one base model, and adapters with a parent") from error
    return base, frozenset(cards) - {base}


def body(response: httpx.Response, where: str) -> Any:
    """Returns the JSON of a server's answer.

    Raises UnknownVersion for 404, Unavailable for 408, 429, 5xx and invalid JSON, Refused for any other status but 200.
    """
    status = response.status_code
    if status != HTTPStatus.OK:
        told = f"the server answered {status}: {_message(response)}"
        if status == HTTPStatus.NOT_FOUND:
            raise UnknownVersion(told, where=where, do="see the server's log for why it can't load that version")
        if status in _BUSY or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise Unavailable(told, where=where, do="if it stays so, look at the server's log")
        raise Refused(told, where=where, expected="200", do="see the server's log")
    try:
        return response.json()
    except ValueError as error:
        raise _nonsense(f"the answer is no JSON: {response.text[:_SHOWN]!r}", where, "a vLLM server") from error


def _message(response: httpx.Response) -> str:
    """Returns the message of an error's body: vLLM's, or the beginning of any other text."""
    try:
        told = response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        told = response.text
    return str(told)[:_SHOWN]


def unreachable(error: httpx.TransportError, where: str) -> Unavailable:
    """Makes the error of a server that can't be reached, or did not answer in time."""
    what = "does not answer in time" if isinstance(error, httpx.TimeoutException) else "can't be reached"
    return Unavailable(
        f"the server {what}: {type(error).__name__} {error}".rstrip(), where=where, do="see whether it runs: `relevance ready`"
    )


def _nonsense(what: str, where: str, expected: str) -> Unavailable:
    return Unavailable(what, where=where, expected=expected, do="see that the address is a vLLM server with the plugin")


def endpoint(url: str) -> str:
    """Returns a server's address without a trailing slash. Raises SettingsError for anything but an http(s) address of a server."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise SettingsError(f"{url!r} is no address: {error}", where="serving.endpoints", expected="http://host:port") from error
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.query or parsed.userinfo:
        raise SettingsError(f"{url!r} is no address of a server", where="serving.endpoints", expected="http://host:port")
    return url.rstrip("/")


def connection(seconds: float) -> dict[str, Any]:
    """Returns the arguments of httpx clients for one's own servers.

    An answer may take `seconds`, a connection a few at most; the caller limits the number of connections. A proxy of the
    environment is bypassed: it is for outside addresses.
    """
    return {
        "timeout": httpx.Timeout(seconds, connect=min(seconds, _CONNECT_SECONDS)),
        "limits": httpx.Limits(keepalive_expiry=_KEEP_SECONDS),
        "trust_env": False,
    }


class Server:
    """One vLLM server, asked from blocking code; safe to use from several threads. Close it, or use it in a `with`.

    url: such as http://10.0.0.5:8000. timeout: seconds that one answer may take. Every method raises a ServingError that names
    the address when the server can't be reached, refuses, or answers nonsense; nothing is retried.
    """

    def __init__(self, url: str, timeout: float) -> None:
        self.url = endpoint(url)
        self._client = httpx.Client(base_url=self.url, **connection(timeout))

    def healthy(self) -> bool:
        """Tells whether server and engine run; False when the server can't be reached."""
        try:
            return self._client.get(HEALTH).status_code == HTTPStatus.OK
        except httpx.TransportError:
            return False

    def base(self) -> str:
        """Returns the label of the base model that it serves (`BaseInfo.label`)."""
        return self._models()[0]

    def adapters(self) -> set[str]:
        """Returns the names of the adapters that it holds."""
        return set(self._models()[1])

    def dtype(self) -> str | None:
        """Returns the dtype that it computes in, float32 or bfloat16; None for a server without the guard, which does not tell."""
        try:
            told = self._ask("GET", ABOUT)["dtype"]
        except Refused:
            return None
        return str(told)

    def score(self, name: str, prompts: Sequence[Sequence[int]], answers: tuple[int, int]) -> npt.NDArray[np.float64]:
        """Scores prompts with an adapter, which is loaded if the server lacks it; returns p(yes) of each, in their order.

        Args:
            name: of the adapter.
            prompts: token ids.
            answers: the ids of yes and no.

        Raises:
            UnknownVersion: the server can't get the adapter.
        """
        scores = np.empty(len(prompts))
        for start in range(0, len(prompts), BATCH):
            batch = prompts[start : start + BATCH]
            answer = self._ask("POST", COMPLETIONS, payload(name, batch, answers))
            scores[start : start + len(batch)] = p_yes(answer, len(batch), answers, name=name, where=self.url)
        return scores

    def unload(self, name: str) -> None:
        """Makes the server forget an adapter; does nothing for one that it does not hold."""
        try:
            response = self._client.post(UNLOAD, json={"lora_name": name})
        except httpx.TransportError as error:
            raise unreachable(error, self.url) from error
        if response.status_code not in (HTTPStatus.OK, HTTPStatus.NOT_FOUND):
            body(response, self.url)

    def close(self) -> None:
        """Closes its connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _models(self) -> tuple[str, frozenset[str]]:
        return listed(self._ask("GET", MODELS), self.url)

    def _ask(self, method: str, path: str, json: Any = None) -> Any:
        try:
            return body(self._client.request(method, path, json=json), self.url)
        except httpx.TransportError as error:
            raise unreachable(error, self.url) from error
