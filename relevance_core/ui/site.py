"""The base of all pages: the store, the templates, the user of a request, and addresses."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import ChoiceLoader, Environment, PackageLoader
from markupsafe import Markup

from relevance_core.reporting.page import environment
from relevance_core.store import Store
from relevance_core.ui.access import User

RETRAIN: Final = "relevance_retrain"
"""The DAG whose runs the pages show."""


@dataclass(frozen=True)
class Site:
    """The pages' surroundings. open_store: opens the product's store; called on every request, so it should cache the store.

    dag_id: the DAG of the loop.
    """

    open_store: Callable[[], Store]
    dag_id: str = RETRAIN

    @property
    def store(self) -> Store:
        """The product's store."""
        return self.open_store()

    def page(self, request: Request, template: str, /, status: int = HTTPStatus.OK, **values: Any) -> HTMLResponse:
        """Renders a template of `templates/` as an answer.

        Besides `values`, the template has `root` (the prefix of these pages' addresses), `airflow` (the prefix of Airflow's),
        `dag_id`, `user` (a name) and `may_edit`.
        """
        text = (
            _templates()
            .get_template(template)
            .render(
                root=root(request),
                airflow=airflow_root(request),
                dag_id=self.dag_id,
                user=user_of(request).name,
                may_edit=may_edit(request),
                **values,
            )
        )
        return HTMLResponse(text, status)

    def text(self, template: str, /, **values: Any) -> Markup:
        """Renders a template as a part of a page; it has `values` alone."""
        return Markup(_templates().get_template(template).render(**values))  # noqa: S704  # every value was escaped in it


@functools.cache
def _templates() -> Environment:
    loader = ChoiceLoader([PackageLoader("relevance_core.ui"), PackageLoader("relevance_core.reporting")])
    made = environment(loader)
    made.filters["quote"] = lambda text: quote(str(text), safe="")
    made.filters["when"] = lambda text: str(text)[:16].replace("T", " ")
    return made


def root(request: Request) -> str:
    """Returns the prefix of the pages' addresses, as the browser sees them: /relevance, after a proxy's prefix if there is one."""
    return str(request.scope.get("root_path", "")).rstrip("/")


def airflow_root(request: Request) -> str:
    """Returns the prefix of the addresses of Airflow's own pages: empty, or a proxy's prefix."""
    return root(request).rpartition("/")[0]


def user_of(request: Request) -> User:
    """Returns the sender of a request."""
    found: User = request.state.user
    return found


def may_edit(request: Request) -> bool:
    """Tells whether the user may change something."""
    return bool(request.state.may_edit)
