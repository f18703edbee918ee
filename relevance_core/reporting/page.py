"""The report's page: one HTML file that needs only a browser.

Texts of a log are hostile. The template escapes everything, data for the plots is in JSON blocks that no browser executes, and the
page's content security policy admits only two scripts, by digest, and no requests.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

from relevance_core.reporting.blocks import Page

if TYPE_CHECKING:
    from jinja2 import BaseLoader, Environment

_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})


def render(page: Page) -> str:
    """Renders the page as HTML; the same page gives the same bytes."""
    from jinja2 import PackageLoader
    from markupsafe import Markup

    scripts = [_plotly(), _file("draw.js")]
    template = environment(PackageLoader("relevance_core.reporting")).get_template("report.html")
    return template.render(
        page=page,
        css=Markup(_file("report.css")),  # noqa: S704  # our own file
        scripts=[Markup(script) for script in scripts],  # noqa: S704  # our own files and plotly's
        policy=_policy(scripts),
    )


def environment(loader: BaseLoader) -> Environment:
    """Returns the template environment of all the product's pages: everything is escaped, and a missing name is an error."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters["cell"] = cell
    made.filters["json"] = lambda value: Markup(as_script_json(value))  # noqa: S704  # escaped for a JSON block
    return made


def cell(value: object) -> str:
    """Formats a table's value for people: counts with thousands separators, shares and scores with four digits, a dash for None."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def as_script_json(value: Mapping[str, Any]) -> str:
    """Returns JSON that is safe inside a script element: no part of it ends the element or begins a comment."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True).translate(_ESCAPES)


def _policy(scripts: list[str]) -> str:
    digests = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {digests}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    )


def _file(name: str) -> str:
    return resources.files("relevance_core.reporting").joinpath("templates", name).read_text(encoding="utf-8")


@functools.cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    # A browser ends the element at the first "</script", even inside a string.
    return str(get_plotlyjs()).replace("</script", "<\\/script")
