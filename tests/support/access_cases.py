"""The methods that change something, and every path below /relevance/."""

from __future__ import annotations

import re

from fastapi.routing import APIRoute

from relevance_core.store import Store
from relevance_core.ui.app import pages
from relevance_core.ui.site import Site
from relevance_core.ui.static import names

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


def no_store() -> Store:
    """Fails: what asks for the store has let somebody through."""
    raise AssertionError("the store was opened for somebody who may not read it")


def routes() -> list[APIRoute]:
    """Every route of the pages."""
    found = pages(Site(no_store)).routes
    assert found
    assert all(isinstance(route, APIRoute) for route in found), "a mount or a schema would have to be crawled too"
    return [route for route in found if isinstance(route, APIRoute)]


def paths() -> list[str]:
    """Every path below /relevance/: of each route, each static file, and what should not be there."""
    of_routes = {re.sub(r"\{[^}]*\}", "2026-10-04-0123abcd", route.path).removeprefix("/") for route in routes()}
    return sorted(of_routes | {f"static/{name}" for name in names()} | set(NO_PAGES))
