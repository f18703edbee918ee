"""Access control of the pages: one gate in front of every route, static file and unknown path."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Literal, Protocol, get_args

from starlette.types import ASGIApp, Message, Receive, Scope, Send

Right = Literal["read", "edit"]

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; frame-ancestors 'self'; base-uri 'none'; form-action 'self'"
)
"""The content security policy of every answer that has none of its own. Plots set inline styles; no inline script runs."""

_READS: Final = frozenset({"GET", "HEAD"})
_RIGHTS: Final[tuple[Right, ...]] = get_args(Right)


@dataclass(frozen=True)
class User:
    """The sender of a request. name: recorded with decisions. handle: the login system's object for the user."""

    name: str
    handle: Any = None


class Access(Protocol):
    """The login system's side of access control."""

    async def user(self, scope: Scope) -> User | None:
        """Returns the sender of a request; None for nobody, or an expired login."""

    def may(self, user: User, right: Right) -> bool:
        """Tells whether the user may read the pages, or change something through them. Called in a thread, so it may block."""


class Gate:
    """ASGI middleware: without a login 401; without the right 403; a change from another origin 403.

    Reading is GET and HEAD; every other method is a change, which needs both rights. A request that passes gets a new state with
    only `user` and `may_edit` in it. Every answer gets the policy, and may not be kept by a shared cache.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one ASGI connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        user = await self._access.user(scope)
        if user is None:
            await _refuse(send, HTTPStatus.UNAUTHORIZED, "log in to Airflow first")
            return
        rights = await asyncio.to_thread(self._rights, user)
        reads = scope["method"] in _READS
        if "read" not in rights or not (reads or "edit" in rights):
            await _refuse(send, HTTPStatus.FORBIDDEN, f"{user.name} may not {'see' if reads else 'change'} this")
            return
        if not (reads or same_origin(scope)):
            await _refuse(send, HTTPStatus.FORBIDDEN, "a change has to come from these pages themselves (Origin)")
            return
        # A new state: the application around these pages keeps its user in the old one.
        state = {"user": user, "may_edit": "edit" in rights}
        await self._app({**scope, "state": state}, receive, _Secured(send))

    def _rights(self, user: User) -> set[Right]:
        return {right for right in _RIGHTS if self._access.may(user, right)}


def same_origin(scope: Scope) -> bool:
    """Tells whether the request's one Origin is the host that it was sent to. Without an Origin it is refused: browsers send it.

    Behind a proxy that ends TLS, the browser's scheme is unknown here; where the browser compares the two itself (Sec-Fetch-Site,
    on every https page), its result must be same-origin too. The proxy has to pass Host on.
    """
    origins, hosts, sites = (_values(scope, name) for name in (b"origin", b"host", b"sec-fetch-site"))
    if len(origins) != 1 or len(hosts) != 1 or sites not in ([], ["same-origin"]):
        return False
    return bool(hosts[0]) and origins[0] in {f"{scheme}://{hosts[0]}" for scheme in ("http", "https")}


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]


class _Secured:
    """Passes an answer on with the headers that keep it safe."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", []))
            there = {key.lower() for key, _ in headers}
            message = {**message, "headers": headers + [item for item in _SAFE if item[0] not in there]}
        await self._send(message)


_SAFE: Final = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),  # under no-referrer, a browser sends `Origin: null` with its forms
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"private, no-store"),
)


async def _refuse(send: Send, status: HTTPStatus, why: str) -> None:
    body = json.dumps({"detail": why}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *_SAFE]
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": body})
