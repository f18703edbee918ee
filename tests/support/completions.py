"""A stand-in for a server of a translation model, over real HTTP, that can be told to fail; and a recorder before a real one."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import httpx

_PATIENT: dict[str, Any] = {"timeout": 120, "trust_env": False}
_JSON = {"content-type": "application/json"}
_PROMPT = re.compile(r"Translate the following \w+ sentence into \w+:\n(.*) <\w+>", re.DOTALL)


class _Http:
    """A server of its own thread. Use it in a `with`."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def read(self) -> bytes:
        return self.rfile.read(int(self.headers["content-length"]))

    def send(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        """Says nothing."""


class Completions(_Http):
    """Serves `model`. Use it in a `with`.

    says: text → what the model writes; `[text]` for any other. faults: what the next requests meet, one each: None, a status, or
    "cut" (the connection ends), "page" (no JSON), "short" (a row too few). finish: how every answer ends. reverse: rows come last
    first. Afterwards `requests` has the body of each POST, `answered` the texts that were answered, `authorizations` the header.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        self.says: dict[str, str] = {}
        self.faults: list[int | str | None] = []
        self.finish, self.reverse = "stop", False
        self.requests: list[dict[str, Any]] = []
        self.answered: list[str] = []
        self.authorizations: list[str | None] = []
        super().__init__(self._handler())

    def answer(self, body: dict[str, Any], fault: int | str | None) -> bytes:
        """The answer to a request for completions."""
        texts = [match[1] for match in map(_PROMPT.fullmatch, body["prompt"]) if match]
        if fault == "page":
            return b"<html>It works!</html>"
        rows = [
            {"index": n, "text": self.says.get(text, f"[{text}]"), "finish_reason": self.finish} for n, text in enumerate(texts)
        ]
        if fault == "short":
            rows.pop()
        else:
            self.answered += texts
        return json.dumps({"choices": rows[::-1] if self.reverse else rows}).encode()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(_Handler):
            def do_GET(self) -> None:
                self.send(200, json.dumps({"data": [{"id": outer.model}]}).encode())

            def do_POST(self) -> None:
                body = json.loads(self.read())
                outer.requests.append(body)
                outer.authorizations.append(self.headers["authorization"])
                fault = outer.faults.pop(0) if outer.faults else None
                if fault == "cut":
                    self.close_connection = True
                    return
                status = fault if isinstance(fault, int) else 200
                self.send(status, b"told to" if status != 200 else outer.answer(body, fault))

        return Handler


class Recorder(_Http):
    """Passes requests on to a real server and its answers back, the end of a connection too.

    meanwhile: number of a POST, from 1 → what is done while the server has it. Afterwards `bodies` has the body of each POST, and
    `answers` the (prompt, text) pairs of those that were answered.
    """

    def __init__(self, url: str) -> None:
        self.meanwhile: dict[int, Callable[[], None]] = {}
        self.bodies: list[dict[str, Any]] = []
        self.answers: list[tuple[str, str]] = []
        outer = self

        class Handler(_Handler):
            def do_GET(self) -> None:
                self.relay(lambda: httpx.get(url + self.path, **_PATIENT))

            def do_POST(self) -> None:
                data = self.read()
                body = json.loads(data)
                outer.bodies.append(body)
                if meanwhile := outer.meanwhile.get(len(outer.bodies)):
                    threading.Timer(0.02, meanwhile).start()
                response = self.relay(lambda: httpx.post(url + self.path, content=data, headers=_JSON, **_PATIENT))
                if response is not None and response.is_success:
                    rows = {row["index"]: row["text"] for row in response.json()["choices"]}
                    outer.answers += [(prompt, rows[n]) for n, prompt in enumerate(body["prompt"])]

            def relay(self, call: Callable[[], httpx.Response]) -> httpx.Response | None:
                try:
                    response = call()
                except httpx.TransportError:
                    self.close_connection = True
                    return None
                self.send(response.status_code, response.content)
                return response

        super().__init__(Handler)
