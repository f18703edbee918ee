"""The application: its pages, its static files, and the gate in front of both."""

from __future__ import annotations

import json
from collections.abc import Callable
from http import HTTPStatus

import polars as pl
from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.types import ASGIApp

from relevance_core.errors import NotFound, RelevanceError
from relevance_core.store import Store
from relevance_core.ui import overview, review, run, static
from relevance_core.ui.access import Access, Gate
from relevance_core.ui.site import Site


def create_app(open_store: Callable[[], Store], access: Access) -> ASGIApp:
    """Makes the pages over a store, behind `access`."""
    return Gate(pages(Site(open_store)), access)


def pages(site: Site) -> FastAPI:
    """Makes the application with every route, open to everybody. It serves no schema and no documentation of the routes."""
    app = FastAPI(title="Relevance", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    for part in (overview, run, review, static):
        app.include_router(part.routes(site))

    @app.exception_handler(pl.exceptions.PolarsError)
    @app.exception_handler(json.JSONDecodeError)
    @app.exception_handler(FileNotFoundError)
    async def damaged(request: Request, error: Exception) -> Response:
        """Answers for a record or an output of which a part is gone: pages don't verify outputs."""
        what = f"what this page shows is damaged or gone: {error}; what to do: run the stage again, which makes it anew"
        return site.page(request, "error.html", status=HTTPStatus.SERVICE_UNAVAILABLE, title="This can't be shown", what=what)

    @app.exception_handler(RelevanceError)
    async def explain(request: Request, error: RelevanceError) -> Response:
        """Answers with an error's cause and advice, as a page."""
        status = HTTPStatus.NOT_FOUND if isinstance(error, NotFound) else HTTPStatus.SERVICE_UNAVAILABLE
        return site.page(request, "error.html", status=status, title="This can't be shown", what=str(error))

    return app
