"""The static files: our style and scripts, and plotly from its package. Nothing comes from another host."""

from __future__ import annotations

import functools
import hashlib
from importlib import resources
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from relevance_core.errors import NotFound
from relevance_core.ui.site import Site

_TYPES: Final = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
_OF_THE_REPORT: Final = ("report.css", "draw.js")
PLOTLY: Final = "plotly.js"


def routes(site: Site) -> APIRouter:
    """Routes `/static/NAME`."""
    router = APIRouter()

    @router.get("/static/{name}")
    def static(request: Request, name: str) -> Response:
        """Serves a file with its digest as its tag, so that a browser revalidates it but does not download it twice."""
        data, tag = content(name)
        headers = {"etag": tag, "cache-control": "private, no-cache"}
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(data, media_type=_TYPES[name.rpartition(".")[2]], headers=headers)

    return router


def names() -> list[str]:
    """Lists every static file."""
    own = [item.name for item in resources.files("relevance_core.ui").joinpath("static").iterdir()]
    return sorted([*own, *_OF_THE_REPORT, PLOTLY])


@functools.cache
def content(name: str) -> tuple[bytes, str]:
    """Returns the bytes of a static file and its tag, a digest of them. Raises NotFound for an unknown name."""
    if name not in names():
        raise NotFound(f"no file {name!r}", expected=", ".join(names()))
    data = _read(name)
    return data, f'"{hashlib.sha256(data).hexdigest()[:16]}"'


def _read(name: str) -> bytes:
    if name == PLOTLY:
        from plotly.offline import get_plotlyjs

        return str(get_plotlyjs()).encode()
    folder = ("relevance_core.reporting", "templates") if name in _OF_THE_REPORT else ("relevance_core.ui", "static")
    return resources.files(folder[0]).joinpath(folder[1], name).read_bytes()
