"""Who gets past the gate of the pages: rules on plain values. Through a real Airflow: tests/in_airflow/test_access.py."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from relevance_core.tools.demo.nights import PROJECT
from relevance_core.ui.access import POLICY, Gate, Right, User, same_origin
from relevance_core.ui.app import create_app
from tests.support.access_cases import CHANGES, no_store, paths

HOST = "shop.example:8080"


@dataclass
class Users:
    """Users by name with their rights, who say their name in a header."""

    rights: dict[str, set[Right]]

    async def user(self, scope: Scope) -> User | None:
        name = dict(scope["headers"]).get(b"x-user", b"").decode()
        return User(name) if name in self.rights else None

    def may(self, user: User, right: Right) -> bool:
        return right in self.rights[user.name]


USERS = Users({"editor": {"read", "edit"}, "viewer": {"read"}, "stranger": set(), "writer": {"edit"}})


@dataclass
class Inner:
    """An application that keeps the scopes that reach it, and answers with headers of its own."""

    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    seen: list[Scope] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.seen.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        await send({"type": "http.response.body", "body": b"inside"})


def ask(app: Callable[[Scope, Receive, Send], Any], method: str = "GET", user: str = "", **more: Any) -> list[Message]:
    """What the application sends for one request. Headers: `host`, the user, and those of `more`."""
    headers = [(b"host", HOST.encode()), (b"x-user", user.encode()), *more.pop("headers", [])]
    scope = {"type": "http", "method": method, "path": "/relevance/", "headers": headers, "state": {}} | more
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent


def origin(value: str) -> list[tuple[bytes, bytes]]:
    return [(b"origin", value.encode())]


@pytest.mark.parametrize(
    ("user", "method", "status"),
    [
        ("", "GET", 401),
        ("", "POST", 401),
        ("nobody", "GET", 401),
        ("stranger", "GET", 403),
        ("stranger", "HEAD", 403),
        ("viewer", "GET", 200),
        ("viewer", "HEAD", 200),
        *(("viewer", method, 403) for method in CHANGES),
        ("viewer", "get", 403),
        ("writer", "GET", 403),
        ("writer", "POST", 403),
        ("editor", "GET", 200),
        *(("editor", method, 200) for method in CHANGES),
    ],
)
def test_who_may_do_what(user: str, method: str, status: int) -> None:
    """Nobody gets 401; who may not see gets 403; a viewer only reads; whatever is not GET or HEAD is a change, which needs both."""
    inner = Inner()
    answer = ask(Gate(inner, USERS), method, user, headers=origin(f"http://{HOST}"))
    assert answer[0]["status"] == status
    assert bool(inner.seen) is (status == 200)


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        (origin(f"http://{HOST}"), True),
        (origin(f"https://{HOST}"), True),
        ([*origin(f"https://{HOST}"), (b"sec-fetch-site", b"same-origin")], True),
        ([], False),
        (origin(""), False),
        (origin("null"), False),
        (origin("http://evil.example"), False),
        (origin("http://shop.example"), False),
        (origin(f"http://{HOST}.evil.example"), False),
        (origin(f"http://evil.example/{HOST}"), False),
        (origin(f"http://{HOST}@evil.example"), False),
        (origin(f"//{HOST}"), False),
        (origin(HOST), False),
        (origin(f"ftp://{HOST}"), False),
        ([*origin(f"http://{HOST}"), *origin("http://evil.example")], False),
        ([*origin(f"http://{HOST}"), (b"host", b"evil.example")], False),
        ([*origin(f"http://{HOST}"), (b"sec-fetch-site", b"cross-site")], False),
        ([*origin(f"http://{HOST}"), (b"sec-fetch-site", b"same-site")], False),
        ([*origin(f"http://{HOST}"), (b"sec-fetch-site", b"none")], False),
    ],
)
def test_where_a_change_may_come_from(headers: list[tuple[bytes, bytes]], allowed: bool) -> None:
    """Only one Origin that is the one Host counts, and nothing that says otherwise beside it."""
    inner = Inner()
    answer = ask(Gate(inner, USERS), "POST", "editor", headers=headers)
    assert answer[0]["status"] == (200 if allowed else 403)
    assert bool(inner.seen) is allowed


def test_no_host_has_no_origin() -> None:
    """Without a Host, or with an empty one, nothing is of the same origin: not even an Origin that is empty too."""
    assert not same_origin({"headers": [(b"origin", b"http://")]})
    assert not same_origin({"headers": [(b"origin", b"http://"), (b"host", b"")]})


def test_a_socket_is_refused() -> None:
    """A web socket is closed before it is accepted, whoever asks."""
    inner = Inner()
    answer = ask(Gate(inner, USERS), user="editor", type="websocket")
    assert answer == [{"type": "websocket.close", "code": 1008}]
    assert inner.seen == []


@pytest.mark.parametrize(("user", "may_edit"), [("editor", True), ("viewer", False)])
def test_the_pages_know_who_asks(user: str, may_edit: bool) -> None:
    """A request's state holds the user and the right to edit; the state of what surrounds the pages stays as it came."""
    inner, around = Inner(), {"user": "Airflow's own", "more": 1}
    ask(Gate(inner, USERS), user=user, state=around)
    assert inner.seen[0]["state"] == {"user": User(user), "may_edit": may_edit}
    assert around == {"user": "Airflow's own", "more": 1}


@pytest.mark.parametrize("user", ["", "stranger", "viewer"])
def test_every_answer_is_secured(user: str) -> None:
    """Refused or not, an answer has the policy, and is not for a shared cache, another site, or a guess at its type."""
    headers = dict(ask(Gate(Inner(), USERS), user=user)[0]["headers"])
    assert headers[b"content-security-policy"].decode() == POLICY
    assert headers[b"cache-control"] == b"private, no-store"
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert headers[b"cross-origin-resource-policy"] == b"same-origin"
    assert headers[b"referrer-policy"] == b"same-origin"


def test_an_answer_may_be_stricter() -> None:
    """A header that the application sets itself is not set twice."""
    own = [(b"Content-Security-Policy", b"default-src 'none'")]
    headers = ask(Gate(Inner(own), USERS), user="viewer")[0]["headers"]
    assert [value for key, value in headers if key.lower() == b"content-security-policy"] == [b"default-src 'none'"]


def test_the_policy_runs_no_inline_script() -> None:
    """Scripts come from the pages' own origin only, nothing else is allowed by default, and only that origin may frame them."""
    rules = dict(part.strip().split(" ", 1) for part in POLICY.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["connect-src"] == rules["frame-ancestors"] == rules["form-action"] == "'self'"
    assert "unsafe-eval" not in POLICY


def test_the_whole_application_is_gated() -> None:
    """Without a login every path and method of the real application answers 401, and the store is not so much as opened."""
    app = create_app(no_store, USERS)
    assert {"", "review", "static/plotly.js", "static/links.js"} <= set(paths())
    for path in paths():
        for method in ("GET", "HEAD", *CHANGES):
            answer = ask(app, method, path=f"/relevance/{path}", root_path="/relevance", headers=origin(f"http://{HOST}"))
            assert answer[0]["status"] == 401, (method, path)


@pytest.mark.airflow
def test_the_plugin_is_light(tmp_path: Path) -> None:
    """Every component of Airflow imports the plugin, and the DAGs the rest: neither imports the pages, polars, plotly or torch."""
    text = (
        "import sys\nfrom relevance_airflow import metrics, notices, operators, pages, params, texts\n"
        "print([name for name in ('relevance_core.ui.app', 'polars', 'plotly', 'torch') if name in sys.modules])"
    )
    own = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "RELEVANCE_"))}
    environment = own | {"AIRFLOW_HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join((str(PROJECT / "plugins"), str(PROJECT)))}
    command = [sys.executable, "-W", "ignore", "-c", text]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "[]"
