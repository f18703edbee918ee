"""The guard of a server with adapters: ASGI middleware in front of vLLM's routes that lets only known requests through.

Only scoring with a version's own name gets through. vLLM's CPU build can give requests to the base model an adapter's weights when
both are in one batch, and garbage to requests for plain log probabilities beside requests for those of given tokens; and a path in
a request would load a file of the sender's choice. The guard also tells the adapters' cache which names vLLM has forgotten, and
makes vLLM forget adapters that were not asked for in a while.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from relevance_core.registry import names
from relevance_core.serving import plugin
from relevance_core.serving.cache import AdapterCache

SCORE, UNLOAD, LOAD = "/v1/completions", "/v1/unload_lora_adapter", "/v1/load_lora_adapter"
ABOUT = "/relevance"
READ = frozenset({"/health", "/ping", "/version", "/metrics", "/v1/models", ABOUT})
MAX_BODY = 8 << 20
_FORGOTTEN = (200, 404)
_log = logging.getLogger("vllm.relevance.guard")  # below the one name whose loggers vLLM sets up


class Refusal(Exception):
    """The answer to a request that does not reach vLLM: status, kind and reason."""

    def __init__(self, status: int, kind: str, why: str) -> None:
        self.status, self.kind, self.why = status, kind, why
        super().__init__(why)


class Guard:
    """vLLM's `--middleware relevance_core.serving.guard.Guard`.

    Open are health, version, metrics, the list of models and `/relevance`, which tells the dtype that the server computes in (GET);
    `/v1/completions` with the name of a version as its `model`; and `/v1/unload_lora_adapter` with such a name. All else is
    refused with a JSON error in vLLM's form that gives the reason: 400 for an invalid request, 403 for loading by path, 404 for
    other routes and models, 405 for other methods, 413 for a body above 8 MiB.
    cache: the resolver's; by default that of the registered plugin.
    """

    def __init__(self, app: ASGIApp, cache: AdapterCache | None = None) -> None:
        self._app, self._cache = app, cache
        self._running: Counter[str] = Counter()
        self._forgetting = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one ASGI connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        try:
            _check_route(scope["method"], scope["path"])
            if scope["path"] == ABOUT:
                await _answer(send, 200, {"dtype": plugin.dtype()})
            elif scope["path"] in READ:
                await self._app(scope, receive, send)
            else:
                body = await _body(receive)
                name = _adapter(scope["path"], body)
                await self._pass(scope, _replay(body, receive), send, name)
        except Refusal as refusal:
            _log.warning("refused %s %r: %s", scope["method"], scope["path"][:80], refusal.why)
            fields = {"message": refusal.why, "type": refusal.kind, "param": None, "code": refusal.status}
            await _answer(send, refusal.status, {"error": fields})

    async def _pass(self, scope: Scope, receive: Receive, send: Send, name: str) -> None:
        """Lets the request through; afterwards handles the adapters that vLLM has forgotten, or should forget."""
        again = dict(scope)
        answer = _Status(send)
        if scope["path"] == UNLOAD:
            await self._app(scope, receive, answer)
            self._forgotten(name, answer.status)
        else:
            self._running[name] += 1
            try:
                await self._app(scope, receive, answer)
            finally:
                self._ended(name)
        await self._forget_surplus(again)

    def _ended(self, name: str) -> None:
        self._running[name] -= 1
        if not self._running[name]:
            del self._running[name]
        if cache := self._adapters():
            cache.used(name)

    def _forgotten(self, name: str, status: int) -> None:
        """Releases the folder of `name`, which vLLM was asked to forget, unless a request for it is running.

        A request that began before, or resolved the name anew, would be running here: requests reach vLLM through this guard only,
        and nothing is awaited since the answer.
        """
        if status in _FORGOTTEN and not self._running[name] and (cache := self._adapters()):
            cache.release(name)

    async def _forget_surplus(self, scope: Scope) -> None:
        """Unloads the least recently used adapters beyond the cache's size, with the rights of this request."""
        cache = self._adapters()
        if cache is None or self._forgetting:
            return
        self._forgetting = True
        try:
            for name in cache.surplus():
                if not self._running[name]:
                    self._forgotten(name, await self._unload(scope, name))
        finally:
            self._forgetting = False

    async def _unload(self, scope: Scope, name: str) -> int:
        body = json.dumps({"lora_name": name}).encode()
        kept = [(key, value) for key, value in scope["headers"] if key == b"authorization"]
        headers = [*kept, (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        answer = _Status(_drop)
        asked = {"path": UNLOAD, "raw_path": UNLOAD.encode(), "query_string": b"", "method": "POST", "headers": headers}
        await self._app({**scope, **asked}, _replay(body, _nothing_more), answer)
        return answer.status

    def _adapters(self) -> AdapterCache | None:
        if self._cache is None and (resolver := plugin.registered()):
            self._cache = resolver.cache
        return self._cache


class _Status:
    """Passes an answer on and keeps its status; 0 before it begins."""

    def __init__(self, send: Send) -> None:
        self._send, self.status = send, 0

    async def __call__(self, message: Message) -> None:
        """Sends one message of the answer."""
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
        await self._send(message)


def _check_route(method: str, path: str) -> None:
    """Raises the Refusal of a route that is not open."""
    if path == LOAD:
        raise Refusal(403, "PermissionDeniedError", "adapters are not loaded by path: ask for a published version by its name")
    methods = {"GET", "HEAD"} if path in READ else {"POST"} if path in (SCORE, UNLOAD) else set()
    if not methods:
        raise Refusal(404, "NotFoundError", f"this server scores pairs at {SCORE}; {path[:80]!r} is not open")
    if method not in methods:
        raise Refusal(405, "BadRequestError", f"{path} takes {' or '.join(sorted(methods))}")


def _adapter(path: str, body: bytes) -> str:
    """Returns the adapter's name in the body. Raises Refusal for an invalid body or name."""
    try:
        fields = json.loads(body)  # as vLLM's framework reads it, so that both take the last of duplicate keys
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "BadRequestError", "the body is not JSON") from error
    field = "model" if path == SCORE else "lora_name"
    name = fields.get(field) if isinstance(fields, dict) else None
    if name is None:
        raise Refusal(400, "BadRequestError", f"{field!r} is missing: name the version, such as {names.name_of('QC', '0' * 16)}")
    if not isinstance(name, str) or names.parse(name) is None:
        why = "is no version of an adapter, and the base model is not scored on a server with adapters"
        raise Refusal(404, "NotFoundError", f"{str(name)[:80]!r} {why}")
    if path == SCORE and fields.get("logprobs") is not None and not fields.get("logprob_token_ids"):
        raise Refusal(400, "BadRequestError", "logprobs without logprob_token_ids is not answered: name the tokens")
    return name


async def _body(receive: Receive) -> bytes:
    """Reads the whole body. Raises Refusal if it is too large or breaks off."""
    data = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refusal(400, "BadRequestError", "the request broke off")
        data += message.get("body", b"")
        if len(data) > MAX_BODY:
            raise Refusal(413, "BadRequestError", f"the body is larger than {MAX_BODY} bytes: send smaller batches")
        if not message.get("more_body", False):
            return bytes(data)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Makes a `receive` that returns `body` once, and then the client's disconnection."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


async def _nothing_more() -> Message:
    return {"type": "http.disconnect"}


async def _drop(message: Message) -> None:
    pass


async def _answer(send: Send, status: int, fields: dict[str, Any]) -> None:
    body = json.dumps(fields).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
