"""A translation model on a server: vLLM, or any other server with OpenAI's `/v1/completions`."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

import httpx

from relevance_core.errors import ServingError, SettingsError
from relevance_core.languages import LANGUAGES, named, token_of
from relevance_core.pairs import normalise
from relevance_core.translators.answers import read
from relevance_core.translators.protocol import HERE, Machine, Translated, require

T = TypeVar("T")

PROMPT: Final = "Translate the following {source} sentence into {target}:\n{text} {tag}"
"""Seed-X's prompt (ByteDance-Seed/Seed-X-PPO-7B), for an answer without reasoning before it."""

_DECODING: Final = {"temperature": 0, "stop": ["\n"]}
_ALGORITHM: Final = "vllm-1"
_LATER: Final = frozenset((HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS))
_CONNECT_SECONDS: Final = 5.0
_SHOWN: Final = 300


class _Later(ServingError):
    """A retryable failure: the server is unreachable, too busy, failed, or answered nonsense."""


@dataclass(frozen=True)
class EndpointTranslator:
    """Translates with a causal model, greedily (temperature 0), on those servers of `serving.translators` that have it.

    How it works. A batch is divided among the servers, one request each; a request with a retryable failure is retried on the next
    server, with growing pauses. The servers' model lists are read first, so that a wrong address or name is reported before any
    work.

    What it does not do. It can't verify the weights behind a model's name on a server: `revision` is as configured.

    Known limits. Equal prompts can be answered differently where two tokens are almost equally likely; the translation memory keeps
    the first answer.
    """

    model: str
    revision: str
    max_new_tokens: int
    machine: Machine = field(default=HERE, compare=False)
    name: str = field(default="vllm", init=False)
    batch: ClassVar[int] = 256
    pauses: ClassVar[tuple[float, ...]] = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
    """Seconds before each retry of a request with a retryable failure."""

    @cached_property
    def version(self) -> str:
        """12 hex digits over the model, its prompt, the way it generates, and the way its answers are parsed."""
        parts = [_ALGORITHM, PROMPT, _DECODING, self.model, self.revision, self.max_new_tokens]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]

    @property
    def languages(self) -> frozenset[str]:
        """The languages of the table."""
        return frozenset(LANGUAGES)

    def can(self, source: str, target: str) -> bool:
        """Tells whether both languages are in the table."""
        return source != target and {source, target} <= self.languages

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Translated]:
        """Returns one answer per text.

        Raises SettingsError for a pair of languages that it can't translate, without a server, or for servers that lack the model;
        ServingError when no server answers after all retries, or a server refuses.
        """
        require(self, source, target)
        if not texts:
            return []
        texts = [normalise(text) for text in texts]
        prompts = [prompt(text, source, target) for text in texts]
        with httpx.Client(headers=self._headers(), timeout=self._timeout(), trust_env=False) as client:
            urls = _patiently(lambda attempt: self._find(client), self.pauses)
            share = -(-len(prompts) // len(urls))
            requests = [prompts[start : start + share] for start in range(0, len(prompts), share)]
            with ThreadPoolExecutor(len(urls)) as pool:
                answers = [
                    row
                    for rows in pool.map(lambda n: self._ask(client, urls, n, requests[n]), range(len(requests)))
                    for row in rows
                ]
        return [read(said, text, source, whole=whole) for (said, whole), text in zip(answers, texts, strict=True)]

    def _headers(self) -> dict[str, str]:
        file = self.machine.serving.translator_key
        if not file:
            return {}
        try:
            return {"Authorization": f"Bearer {Path(file).expanduser().read_text(encoding='utf-8').strip()}"}
        except OSError as error:
            raise SettingsError(
                f"the key can't be read: {error.strerror}", where=f"serving.translator_key = {file}", expected="a file"
            ) from error

    def _timeout(self) -> httpx.Timeout:
        seconds = self.machine.serving.timeout_seconds
        return httpx.Timeout(seconds, connect=min(seconds, _CONNECT_SECONDS))

    def _find(self, client: httpx.Client) -> list[str]:
        """Returns the reachable servers that have the model. Raises _Later when none is reachable."""
        urls = [url.rstrip("/") for url in self.machine.serving.translators]
        if not urls:
            raise SettingsError(
                f"a text has to be translated by {self.model}, and there is no server for it",
                where="serving.translators",
                expected="the address of a server that has it, such as http://10.0.0.7:8000",
                do="name one; what the translation memory holds needs none",
            )
        known: dict[str, list[str]] = {}
        failure: ServingError | None = None
        for url in urls:
            try:
                known[url] = _models(_get(client, url), url)
            except ServingError as error:
                failure = error
        if failure and not known:
            raise failure
        found = [url for url, models in known.items() if self.model in models]
        if not found:
            raise SettingsError(
                f"no server has the translation model {self.model}",
                where=f"serving.translators = {', '.join(known)}",
                expected=f"it among {', '.join(sorted({model for models in known.values() for model in models}))}",
                do="serve it under that name (--served-model-name), or correct translate.translator",
            )
        return found

    def _ask(self, client: httpx.Client, urls: list[str], number: int, prompts: list[str]) -> list[tuple[str, bool]]:
        """Returns the model's completion of each prompt, and whether it ended before the length limit."""
        body = {"model": self.model, "prompt": prompts, "max_tokens": self.max_new_tokens, **_DECODING}

        def post(attempt: int) -> list[tuple[str, bool]]:
            url = urls[(number + attempt) % len(urls)]
            return _rows(_json(lambda: client.post(f"{url}/v1/completions", json=body), url), len(prompts), url)

        return _patiently(post, self.pauses)


def prompt(text: str, source: str, target: str) -> str:
    """Returns Seed-X's prompt for a normalised text."""
    return PROMPT.format(source=named(source), target=named(target), text=text, tag=token_of(target, "seed-x"))


def _patiently(call: Callable[[int], T], pauses: Sequence[float]) -> T:
    """Returns the answer of `call`, which gets the number of earlier attempts. Retryable failures are retried after pauses."""
    for attempt, pause in enumerate(pauses):
        with suppress(_Later):
            return call(attempt)
        time.sleep(pause)
    return call(len(pauses))


def _get(client: httpx.Client, url: str) -> Any:
    return _json(lambda: client.get(f"{url}/v1/models"), url)


def _json(send: Callable[[], httpx.Response], url: str) -> Any:
    """Returns the JSON of a server's answer. Raises _Later for a retryable failure, ServingError for a refusal."""
    try:
        response = send()
    except (httpx.TransportError, httpx.InvalidURL) as error:
        told = f"the translation server can't be reached, or does not answer in time: {type(error).__name__} {error}"
        raise _Later(told.rstrip(), where=url, do="see whether it runs, and that serving.translators has its address") from error
    status = response.status_code
    if status != HTTPStatus.OK:
        kind = _Later if status in _LATER or status >= HTTPStatus.INTERNAL_SERVER_ERROR else ServingError
        told = f"the translation server answered {status}: {response.text[:_SHOWN]}"
        raise kind(told, where=url, expected="200", do="see the server's log")
    try:
        return response.json()
    except ValueError as error:
        raise _nonsense(f"it is no JSON: {response.text[:_SHOWN]!r}", url) from error


def _models(answer: Any, url: str) -> list[str]:
    try:
        return [str(card["id"]) for card in answer["data"]]
    except (KeyError, TypeError) as error:
        raise _nonsense(f"it lists no models: {error!r}", url) from error


def _rows(answer: Any, count: int, url: str) -> list[tuple[str, bool]]:
    """Returns the completion of each of `count` prompts, in their order, and whether it ended before the length limit."""
    try:
        rows = {int(row["index"]): (str(row["text"]), row["finish_reason"] != "length") for row in answer["choices"]}
        return [rows[place] for place in range(count)]
    except (KeyError, TypeError, ValueError) as error:
        raise _nonsense(f"it has not a row for each of {count} prompts: {error!r}", url) from error


def _nonsense(what: str, url: str) -> _Later:
    return _Later(
        f"the translation server's answer can't be read: {what}",
        where=url,
        expected="what OpenAI's /v1/completions and /v1/models answer",
        do="see that the address is a vLLM server, or one that speaks as it does",
    )
