"""The pages of the loop in Airflow's UI: *Relevance* in the navigation, and a tab on each run of the loop.

Airflow mounts an application of a plugin as it is, open to everybody; `relevance_core.ui.access.Gate` closes this one. This module
adds the part that needs Airflow: the login that a request carries, and its rights to the DAG. Every component of Airflow imports
this file, so the pages themselves are imported by the first request.
"""

from __future__ import annotations

import asyncio
import functools
import os
from typing import TYPE_CHECKING, Any

from airflow.plugins_manager import AirflowPlugin

from relevance_airflow import params as rules

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from relevance_core.store import Store
    from relevance_core.ui.access import Right, User

PREFIX = "/relevance"
DAG_ID = "relevance_retrain"
METHODS = {"read": "GET", "edit": "PUT"}
"""Right → the method that Airflow's auth manager checks: GET sees a DAG, PUT edits it or its runs."""


class AirflowAccess:
    """Airflow's logins, and their rights to the DAG of the loop by its auth manager."""

    async def user(self, scope: Scope) -> User | None:
        """Returns the sender of a request, by bearer token or else by the session's cookie, as Airflow's own API; or None."""
        from airflow.api_fastapi.core_api.security import resolve_user_from_token
        from fastapi import HTTPException

        from relevance_core.ui.access import User

        try:
            found = await resolve_user_from_token(_token(scope))
        except HTTPException:  # no token, an expired token, or a token that Airflow did not sign
            return None
        return User(found.get_name(), found)

    def may(self, user: User, right: Right) -> bool:
        """Asks the auth manager for the user's right to the DAG."""
        from airflow.api_fastapi.app import get_auth_manager
        from airflow.api_fastapi.auth.managers.models.resource_details import DagDetails
        from airflow.models.dag import DagModel

        details = DagDetails(id=DAG_ID, team_name=DagModel.get_team_name(DAG_ID))
        manager: Any = get_auth_manager()
        return bool(manager.is_authorized_dag(method=METHODS[right], details=details, user=user.handle))


def _token(scope: Scope) -> str | None:
    from airflow.api_fastapi.auth.managers.base_auth_manager import COOKIE_NAME_JWT_TOKEN
    from starlette.requests import HTTPConnection

    request = HTTPConnection(scope)
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    return request.cookies.get(COOKIE_NAME_JWT_TOKEN)


class Pages:
    """The application, built on its first request."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one ASGI connection."""
        app = await asyncio.to_thread(_pages)
        await app(scope, receive, send)


@functools.cache
def _pages() -> ASGIApp:
    from relevance_core.ui.app import create_app

    return create_app(_store, AirflowAccess())


@functools.cache
def _store() -> Store:
    """Opens the deployment's store. Raises SettingsError, which a page shows, where none is configured."""
    from relevance_core.store import open_store

    return open_store(rules.Deployment.of(os.environ).store)


class RelevancePlugin(AirflowPlugin):
    """The pages, and their two places in Airflow's UI."""

    name = "relevance"
    fastapi_apps = [{"name": "Relevance", "app": Pages(), "url_prefix": PREFIX}]  # noqa: RUF012  # read by Airflow as it stands
    # Addresses without a leading slash: Airflow's page resolves them against its own base, which may lie behind a proxy's prefix.
    external_views = [  # noqa: RUF012
        {
            "name": "Relevance",
            "href": "relevance/",
            "destination": "nav",
            "url_route": "relevance",
            "nav_top_level": True,
            "icon": "relevance/static/icon.svg",
        },
        {
            "name": "Relevance",
            "href": "relevance/dag-run/{RUN_ID}?dag_id={DAG_ID}",
            "destination": "dag_run",
            "url_route": "relevance-run",
        },
    ]
