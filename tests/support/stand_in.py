"""A stand-in for a vLLM server that can be told to fail in ways that a real one can't be made to show at will.

It speaks the few routes that the client uses, over real HTTP. Its p(yes) is a digest of the adapter's name and the prompt's ids, so
that a score tells which version gave it and for which pair. tests/serving/test_serving_live.py shows the agreement with vLLM
itself.

    python -m tests.support.stand_in PORT BASE    as a process of its own, which can be killed; it answers no scoring request
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import socket
import sys
import threading
import time
from collections.abc import Iterable
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

NEVER = 3600.0


def expected(name: str, ids: Iterable[int]) -> float:
    """The stand-in's p(yes), between 0 and 1."""
    return (hashlib.sha256(f"{name} {list(ids)}".encode()).digest()[0] + 0.5) / 256


class StandIn:
    """One server. base: the label of its base model. known: the adapters that it can get; None: any name.

    faults: what the next scoring requests meet, one each: a status, or one of the names in `_broken`. always: the same for all
    requests when there is none left in `faults`. Afterwards `requests` has the (name, rows) of each and `most` how many were under
    way at once.
    """

    def __init__(self, base: str, known: set[str] | None = None, port: int = 0) -> None:
        self.base, self.known = base, known
        self.faults: list[int | str] = []
        self.always: int | str | None = None
        self.seconds = 0.0
        self.requests: list[tuple[str, int]] = []
        self.asked_base = self.now = self.most = 0
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", port))
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        config = uvicorn.Config(self._app(), log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)

    def start(self) -> StandIn:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        return self

    def stop(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join()
        self._socket.close()

    def run(self) -> None:
        """Serves in this thread, for ever."""
        self._server.run([self._socket])

    def _app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/health")
        async def health() -> Response:
            return Response()

        @app.get("/v1/models")
        async def models() -> Any:
            self.asked_base += 1
            adapters = [{"id": name, "parent": self.base} for name in sorted(self.known or ())]
            return {"data": [{"id": self.base, "parent": None}, *adapters]}

        @app.post("/v1/unload_lora_adapter")
        async def unload(request: Request) -> Response:
            name = (await request.json())["lora_name"]
            if name not in (self.known or ()):
                return _error(404, "cannot be found")
            assert self.known is not None
            self.known.remove(name)
            return Response("Success")

        @app.post("/v1/completions")
        async def completions(request: Request) -> Response:
            asked = await request.json()
            self.requests.append((asked["model"], len(asked["prompt"])))
            self.now += 1
            self.most = max(self.most, self.now)
            try:
                await asyncio.sleep(self.seconds)
                fault = self.faults.pop(0) if self.faults else self.always
                return await self._answer(asked, fault)
            finally:
                self.now -= 1

        return app

    async def _answer(self, asked: dict[str, Any], fault: int | str | None) -> Response:
        if isinstance(fault, int):
            return _error(fault, "told to")
        if fault == "hang":
            await asyncio.sleep(NEVER)
        if self.known is not None and asked["model"] not in self.known:
            return _error(404, "does not exist")
        asked |= {"model": _OTHER} if fault == "other version" else {}
        answer = {"model": asked["model"], "choices": [_row(i, asked, ids) for i, ids in enumerate(asked["prompt"])]}
        return Response(_broken(answer, fault), media_type="application/json", headers=_CUT if fault == "cut" else None)


_CUT = {"content-length": "1000000"}
_OTHER = "relevance-qc@ffffffffffffffff"


def _row(index: int, asked: dict[str, Any], ids: list[int]) -> dict[str, Any]:
    p = expected(asked["model"], ids)
    yes, no = asked["logprob_token_ids"]
    return {"index": index, "logprobs": {"top_logprobs": [{f"token_id:{yes}": math.log(p), f"token_id:{no}": math.log1p(-p)}]}}


def _broken(answer: dict[str, Any], fault: str | None) -> bytes:
    """The answer as a broken server gives it."""
    if fault == "short":
        answer["choices"].pop()
    elif fault == "no token":
        answer["choices"][0]["logprobs"]["top_logprobs"][0].popitem()
    elif fault == "nan":
        answer["choices"][0]["logprobs"]["top_logprobs"] = [
            dict.fromkeys(answer["choices"][0]["logprobs"]["top_logprobs"][0], math.nan)
        ]
    elif fault == "page":
        return b"<html>It works!</html>"
    return json.dumps(answer).encode()


def _error(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": {"message": message}}, status)


if __name__ == "__main__":
    stand_in = StandIn(sys.argv[2], port=int(sys.argv[1]))
    stand_in.always = "hang"
    stand_in.run()
