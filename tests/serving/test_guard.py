"""What a server answers and what it refuses, in front of an application that answers everything."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from relevance_core.serving import plugin
from relevance_core.serving.cache import GRACE_SECONDS, AdapterCache
from relevance_core.serving.guard import MAX_BODY, Guard
from tests.support.clock import Clock

ONE, TWO, THREE = (f"relevance-qc@{digit * 16}" for digit in "123")
SCORE = {"prompt": [1, 2], "max_tokens": 1, "logprobs": 2, "logprob_token_ids": [7, 8]}


class Answers:
    """An application in vLLM's place that answers 200 to everything, knows which adapters it holds, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[bytes, bytes], bytes]] = []
        self.adapters: set[str] = set()
        self.hold = asyncio.Event()
        self.hold.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        more = scope["method"] == "POST"
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        self.asked.append((scope["method"], scope["path"], dict(scope["headers"]), body))
        status = await self._act(scope["path"], json.loads(body) if body else {})
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"vllm"})

    async def _act(self, path: str, fields: dict[str, Any]) -> int:
        if path == "/v1/completions":
            self.adapters.add(fields["model"])
            await self.hold.wait()
        if path == "/v1/unload_lora_adapter":
            if fields["lora_name"] not in self.adapters:
                return 404
            self.adapters.remove(fields["lora_name"])
        return 200


Work = Callable[[httpx.AsyncClient, Answers], Awaitable[None]]


def talk(work: Work, cache: AdapterCache | None = None) -> Answers:
    """Run `work` against a guarded application."""

    async def run() -> Answers:
        app = Answers()
        transport = httpx.ASGITransport(Guard(app, cache))
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            await work(client, app)
        return app

    return asyncio.run(run())


def refusal(method: str, path: str, **request: Any) -> tuple[int, str]:
    """Status and reason of a request that must not reach the application."""
    answers: list[httpx.Response] = []

    async def work(client: httpx.AsyncClient, app: Answers) -> None:
        answers.append(await client.request(method, path, **request))

    assert talk(work).asked == []
    error = answers[0].json()["error"]
    assert error["code"] == answers[0].status_code
    return answers[0].status_code, error["message"]


@pytest.mark.parametrize("path", ["/health", "/ping", "/version", "/metrics", "/v1/models"])
def test_what_is_open_to_read(path: str) -> None:
    """Health, version, metrics and models are answered by the server itself, and take GET only."""

    async def work(client: httpx.AsyncClient, app: Answers) -> None:
        assert (await client.get(path)).text == "vllm"

    assert [asked[:2] for asked in talk(work).asked] == [("GET", path)]
    assert refusal("POST", path)[0] == 405


@pytest.mark.parametrize(
    "path",
    ["/v1/chat/completions", "/v1/completions/", "/v1/completions/render", "//v1/completions", "/v1/embeddings", "/score",
     "/invocations", "/generative_scoring", "/inference/v1/generate", "/tokenize", "/docs", "/openapi.json", "/sleep",
     "/collective_rpc", "/reset_prefix_cache", "/"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_is_closed(method: str, path: str) -> None:
    """Every other route of vLLM, and other spellings of an open one, is not found."""
    status, why = refusal(method, path, json={"model": ONE} if method == "POST" else None)
    assert status == 404
    assert "is not open" in why


def test_what_it_computes_with_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """GET /relevance answers the numbers that the plugin was told, without asking vLLM."""
    monkeypatch.setattr(plugin, "dtype", lambda: "bfloat16")

    async def work(client: httpx.AsyncClient, app: Answers) -> None:
        assert (await client.get("/relevance")).json() == {"dtype": "bfloat16"}

    assert talk(work).asked == []


def test_an_adapter_is_scored() -> None:
    """The body reaches the server as it was sent, and its answer comes back."""

    async def work(client: httpx.AsyncClient, app: Answers) -> None:
        answer = await client.post("/v1/completions", json=SCORE | {"model": ONE})
        assert (answer.status_code, answer.text) == (200, "vllm")

    ((method, path, _, body),) = talk(work).asked
    assert (method, path, json.loads(body)) == ("POST", "/v1/completions", SCORE | {"model": ONE})


@pytest.mark.parametrize(
    ("model", "status"),
    [("random-base@b1", 404), ("/models/base", 404), ("", 404), ("relevance-qc@../../x", 404), (f"{ONE}\n", 404),
     (ONE.upper(), 404), (7, 404), ([ONE], 404), ({"a": 1}, 404), (None, 400)],
)  # fmt: skip
def test_the_base_model_is_not_scored(model: object, status: int) -> None:
    """Neither by its name nor by a name left out, which vLLM takes for the base."""
    found, why = refusal("POST", "/v1/completions", json=SCORE | {"model": model})
    assert found == status
    assert ("base model is not scored" in why) or ("'model' is missing" in why)


def test_a_model_left_out() -> None:
    """No model at all is refused, and so is the last of two that vLLM would take."""
    assert refusal("POST", "/v1/completions", json=SCORE)[0] == 400
    both = json.dumps(SCORE)[:-1] + f', "model": "{ONE}", "model": "random-base@b1"}}'
    assert refusal("POST", "/v1/completions", content=both.encode())[0] == 404


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff\xfe", b"[" * 100_000])
def test_a_body_that_is_no_object(body: bytes) -> None:
    """What can't be read is refused, however deep it is nested."""
    assert refusal("POST", "/v1/completions", content=body)[0] == 400


def test_plain_log_probabilities() -> None:
    """Without the tokens they are of, they would be garbage beside requests that name theirs."""
    status, why = refusal("POST", "/v1/completions", json={"model": ONE, "prompt": [1], "logprobs": 5})
    assert status == 400
    assert "logprob_token_ids" in why


def test_a_body_that_is_too_large() -> None:
    """More than 8 MiB is refused before it is read to the end."""
    status, why = refusal("POST", "/v1/completions", content=b" " * (MAX_BODY + 1))
    assert status == 413
    assert "smaller batches" in why


@pytest.mark.parametrize("name", [ONE, "x"])
def test_nothing_is_loaded_by_path(name: str) -> None:
    """Whatever name and path are given, in place or not."""
    body = {"lora_name": name, "lora_path": "/tmp/x", "load_inplace": True}
    assert refusal("POST", "/v1/load_lora_adapter", json=body)[0] == 403


def test_a_web_socket_is_closed() -> None:
    """vLLM's realtime route is not reachable."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def run() -> None:
        app = Answers()
        await Guard(app)({"type": "websocket", "path": "/v1/realtime"}, send, send)  # type: ignore[arg-type]
        assert app.asked == []

    asyncio.run(run())
    assert sent == [{"type": "websocket.close", "code": 1008}]


# Adapters that a server forgets


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(tmp_path: Path, clock: Clock) -> AdapterCache:
    """A cache of one adapter that holds two, of which the server was given both, `ONE` first."""
    cache = AdapterCache(tmp_path, 1, clock)
    for name in (ONE, TWO):
        (tmp_path / name).mkdir()
        cache.hand_out(name, tmp_path / name)
        clock.now += 1
    return cache


def kept(cache: AdapterCache) -> list[str]:
    """What is left after the cache was made to forget what it may."""
    cache.evict()
    return sorted(path.name for path in cache.root.iterdir())


def test_an_unloaded_adapter_may_go(cache: AdapterCache, clock: Clock) -> None:
    """After vLLM has confirmed it; a refused name reaches neither vLLM nor the cache."""

    async def work(client: httpx.AsyncClient, app: Answers) -> None:
        app.adapters = {ONE, TWO}
        assert (await client.post("/v1/unload_lora_adapter", json={"lora_name": ONE})).status_code == 200
        assert (await client.post("/v1/unload_lora_adapter", json={"lora_name": "../x"})).status_code == 404
        assert (await client.post("/v1/unload_lora_adapter", json={})).status_code == 400

    assert len(talk(work, cache).asked) == 1
    clock.now += GRACE_SECONDS
    assert kept(cache) == [TWO]


async def held_up(client: httpx.AsyncClient, app: Answers) -> asyncio.Task[httpx.Response]:
    """A request for ONE that runs until `app.hold` is set, where ONE and TWO are loaded."""
    app.adapters = {ONE, TWO}
    app.hold.clear()
    running = asyncio.create_task(client.post("/v1/completions", json=SCORE | {"model": ONE}))
    while not app.asked:
        await asyncio.sleep(0)
    return running


def test_an_adapter_unloaded_under_a_request_stays(cache: AdapterCache, clock: Clock) -> None:
    """A request that began before the unloading may still need the folder, whatever the clock says."""

    async def work(client: httpx.AsyncClient, app: Answers) -> None:
        running = await held_up(client, app)
        clock.now += 2 * GRACE_SECONDS
        await client.post("/v1/unload_lora_adapter", json={"lora_name": ONE})
        assert ONE in kept(cache)
        app.hold.set()
        assert (await running).status_code == 200

    talk(work, cache)
    assert ONE in kept(cache)


def test_vllm_forgets_what_is_not_asked_for(cache: AdapterCache, clock: Clock) -> None:
    """Beyond the cache's size the longest unused adapter is unloaded after a request, with that request's own authority."""
    clock.now += GRACE_SECONDS

    async def work(client: httpx.AsyncClient, app: Answers) -> None:
        app.adapters = {ONE, TWO}
        await client.post("/v1/completions", json=SCORE | {"model": TWO}, headers={"authorization": "Bearer t", "x-other": "y"})
        assert app.adapters == {TWO}

    _, (method, path, headers, body) = talk(work, cache).asked
    assert (method, path, json.loads(body)) == ("POST", "/v1/unload_lora_adapter", {"lora_name": ONE})
    assert headers == {
        b"authorization": b"Bearer t",
        b"content-type": b"application/json",
        b"content-length": str(len(body)).encode(),
    }
    assert kept(cache) == [TWO]


def test_vllm_keeps_what_is_in_use(cache: AdapterCache, clock: Clock) -> None:
    """The longest unused adapter is not unloaded while a request for it runs; and never one that is not in surplus."""
    clock.now += GRACE_SECONDS

    async def work(client: httpx.AsyncClient, app: Answers) -> None:
        running = await held_up(client, app)
        await client.post("/v1/unload_lora_adapter", json={"lora_name": THREE})
        assert app.adapters == {ONE, TWO}
        app.hold.set()
        await running
        assert app.adapters == {ONE}, "now the other one is the longest unused"

    talk(work, cache)
    assert kept(cache) == [ONE]
