"""Who gets past the gate of the pages: rules on plain values, then a real Airflow with an admin, a viewer and nobody."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from starlette.types import Message, Receive, Scope, Send

from relevance_core.demo.nights import PROJECT
from relevance_core.store import Store
from relevance_core.ui.access import POLICY, Gate, Right, User, same_origin
from relevance_core.ui.app import create_app, pages
from relevance_core.ui.site import Site
from relevance_core.ui.static import names
from tests.airflow_home import VIEWER, Home, airflow_home

HOST = "shop.example:8080"
SHORT_SECONDS = 4
CHANGES = ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE")
NO_PAGES = (
    "nothing",
    "docs",
    "redoc",
    "openapi.json",
    "docs/oauth2-redirect",
    "static",
    "static/../app.py",
    "static/%2e%2e/app.py",
    "%2f",
)


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


def routes() -> list[APIRoute]:
    """Every route of the pages."""
    found = pages(Site(_no_store)).routes
    assert found
    assert all(isinstance(route, APIRoute) for route in found), "a mount or a schema would have to be crawled too"
    return [route for route in found if isinstance(route, APIRoute)]


def paths() -> list[str]:
    """Every path below /relevance/: of each route, each static file, and what should not be there."""
    of_routes = {re.sub(r"\{[^}]*\}", "2026-10-04-0123abcd", route.path).removeprefix("/") for route in routes()}
    return sorted(of_routes | {f"static/{name}" for name in names()} | set(NO_PAGES))


def _no_store() -> Store:
    raise AssertionError("the store was opened for somebody who may not read it")


def test_the_whole_application_is_gated() -> None:
    """Without a login every path and method of the real application answers 401, and the store is not so much as opened."""
    app = create_app(_no_store, USERS)
    assert {"", "review", "static/plotly.js", "static/links.js"} <= set(paths())
    for path in paths():
        for method in ("GET", "HEAD", *CHANGES):
            answer = ask(app, method, path=f"/relevance/{path}", root_path="/relevance", headers=origin(f"http://{HOST}"))
            assert answer[0]["status"] == 401, (method, path)


@pytest.mark.airflow
def test_the_plugin_is_light(tmp_path: Path) -> None:
    """Every component of Airflow imports the plugin: that imports none of the pages, no polars, and opens no store."""
    text = (
        "import sys, relevance_ui; print([name for name in ('relevance_core.ui.app', 'polars', 'plotly') if name in sys.modules])"
    )
    own = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "RELEVANCE_"))}
    environment = own | {"AIRFLOW_HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join((str(PROJECT / "plugins"), str(PROJECT)))}
    command = [sys.executable, "-W", "ignore", "-c", text]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "[]"


# ── a real Airflow ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    lifetime = {"AIRFLOW__API_AUTH__JWT_CLI_EXPIRATION_TIME": str(SHORT_SECONDS), "AIRFLOW__API_AUTH__JWT_LEEWAY": "0"}
    with airflow_home(tmp_path_factory.mktemp("airflow"), lifetime) as running:
        yield running


def session(home: Home, user: str) -> httpx.Client:
    """A client with the user's cookie, as a browser has it after the login form."""
    client = httpx.Client(base_url=home.client.url, trust_env=False)
    client.cookies.set("_token", home.token(user))
    return client


@pytest.mark.airflow
@pytest.mark.slow
@pytest.mark.parametrize(
    "login",
    [
        {},
        {"cookie": "_token=nonsense"},
        {"cookie": "_token="},
        {"authorization": "Bearer nonsense"},
        {"authorization": "Bearer"},
        {"authorization": "Basic YWRtaW46YWRtaW4="},
        {"cookie": "_token=eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiIsInJvbGUiOiJhZG1pbiJ9."},
    ],
)
def test_nobody_gets_anything(home: Home, login: dict[str, str]) -> None:
    """In a real Airflow every path of the plugin answers 401 without a login, with a made-up token, and with an unsigned one."""
    with httpx.Client(base_url=home.client.url, trust_env=False) as client:
        for path in paths():
            for method in ("GET", "HEAD", "POST", "DELETE", "OPTIONS"):
                answer = client.request(method, f"/relevance/{path}", headers={**login, "origin": home.client.url})
                assert answer.status_code == 401, (method, path)
                assert method == "HEAD" or answer.json() == {"detail": "log in to Airflow first"}


@pytest.mark.airflow
@pytest.mark.slow
def test_a_login_that_ended(home: Home) -> None:
    """A token reads until its time is over, or until its user logs out; then it answers 401."""
    short, long = home.token("admin", "token/cli"), home.token("admin")
    with httpx.Client(base_url=home.client.url, trust_env=False) as client:

        def status(token: str) -> int:
            return client.get("/relevance/static/links.js", headers={"authorization": f"Bearer {token}"}).status_code

        assert (status(short), status(long)) == (200, 200)
        assert client.get("/api/v2/auth/logout", headers={"authorization": f"Bearer {long}"}).has_redirect_location
        time.sleep(SHORT_SECONDS)
        assert (status(short), status(long)) == (401, 401)


@pytest.mark.airflow
@pytest.mark.slow
def test_a_viewer_reads(home: Home) -> None:
    """A viewer, by cookie or by bearer token, reads every page and every static file."""
    with session(home, VIEWER) as client:
        for path in ("", "review", *(f"static/{name}" for name in names())):
            assert client.get(f"/relevance/{path}").status_code == 200, path
    with httpx.Client(base_url=home.client.url, trust_env=False) as client:
        bearer = {"authorization": f"Bearer {home.token(VIEWER)}"}
        assert client.get("/relevance/", headers=bearer).status_code == 200


@pytest.mark.airflow
@pytest.mark.slow
def test_a_viewer_changes_nothing(home: Home) -> None:
    """Every method that is no reading, on every path, answers a viewer with 403, from the right origin too."""
    with session(home, VIEWER) as client:
        for path in paths():
            for method in CHANGES:
                answer = client.request(method, f"/relevance/{path}", headers={"origin": home.client.url})
                assert answer.status_code == 403, (method, path)


@pytest.mark.airflow
@pytest.mark.slow
def test_a_change_from_elsewhere(home: Home) -> None:
    """An admin's change without an Origin, or from another one, answers 403; from the pages' own it reaches the application."""
    with session(home, "admin") as client:
        for headers in ({}, {"origin": "http://evil.example"}, {"origin": "null"}):
            for path in paths():
                answer = client.post(f"/relevance/{path}", headers=headers)
                assert answer.status_code == 403, (headers, path)
        assert client.post("/relevance/nothing", headers={"origin": home.client.url}).status_code == 404


@pytest.mark.airflow
@pytest.mark.slow
def test_no_schema_for_anybody(home: Home) -> None:
    """What is no page does not exist for an admin either: no documentation, no schema, no file outside the static ones."""
    with session(home, "admin") as client:
        for path in NO_PAGES:
            assert client.get(f"/relevance/{path}").status_code == 404, path


@pytest.mark.airflow
@pytest.mark.slow
def test_a_static_file_is_fetched_once(home: Home) -> None:
    """A static file has its type and a tag; asked again with the tag, it is not sent again."""
    with session(home, VIEWER) as client:
        first = client.get("/relevance/static/plotly.js")
        assert first.headers["content-type"] == "text/javascript; charset=utf-8"
        again = client.get("/relevance/static/plotly.js", headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.airflow
@pytest.mark.slow
def test_the_places_in_airflows_ui(home: Home) -> None:
    """Airflow lists the page in its navigation and the tab of a run, and the entry's icon is served."""
    plugins = home.client.call("GET", "plugins", limit=100)["plugins"]
    views = next(plugin["external_views"] for plugin in plugins if plugin["name"] == "relevance_ui")
    assert [(view["name"], view["destination"]) for view in views] == [("Relevance", "nav"), ("Relevance", "dag_run")]
    with session(home, VIEWER) as client:
        assert client.get(f"/{views[0]['icon']}").headers["content-type"] == "image/svg+xml"
    assert json.dumps(home.client.import_errors()) == "[]"
