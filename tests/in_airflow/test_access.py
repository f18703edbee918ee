"""Who gets what of the pages from a real Airflow, with a login and without."""

from __future__ import annotations

import json
import time

import httpx
import pytest

from relevance_core.tools.demo.launcher import USER
from relevance_core.ui.static import names
from tests.support.access_cases import CHANGES, NO_PAGES, paths
from tests.support.airflow_home import VIEWER, Home
from tests.support.airflow_runs import SHORT_SECONDS

pytestmark = [pytest.mark.airflow, pytest.mark.slow]


def session(home: Home, user: str) -> httpx.Client:
    """A client with the user's cookie, as a browser has it after the login form."""
    client = httpx.Client(base_url=home.client.url, trust_env=False)
    client.cookies.set("_token", home.token(user))
    return client


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


def test_a_login_that_ended(home: Home) -> None:
    """A token reads until its time is over, or until its user logs out; then it answers 401."""
    short, long = home.token(USER, "token/cli"), home.token(USER)
    with httpx.Client(base_url=home.client.url, trust_env=False) as client:

        def status(token: str) -> int:
            return client.get("/relevance/static/links.js", headers={"authorization": f"Bearer {token}"}).status_code

        assert (status(short), status(long)) == (200, 200)
        assert client.get("/api/v2/auth/logout", headers={"authorization": f"Bearer {long}"}).has_redirect_location
        time.sleep(SHORT_SECONDS)
        assert (status(short), status(long)) == (401, 401)


def test_a_viewer_reads(home: Home) -> None:
    """A viewer, by cookie or by bearer token, reads every page and every static file."""
    with session(home, VIEWER) as client:
        for path in ("", "review", *(f"static/{name}" for name in names())):
            assert client.get(f"/relevance/{path}").status_code == 200, path
    with httpx.Client(base_url=home.client.url, trust_env=False) as client:
        bearer = {"authorization": f"Bearer {home.token(VIEWER)}"}
        assert client.get("/relevance/", headers=bearer).status_code == 200


def test_a_viewer_changes_nothing(home: Home) -> None:
    """Every method that is no reading, on every path, answers a viewer with 403, from the right origin too."""
    with session(home, VIEWER) as client:
        for path in paths():
            for method in CHANGES:
                answer = client.request(method, f"/relevance/{path}", headers={"origin": home.client.url})
                assert answer.status_code == 403, (method, path)


def test_a_change_from_elsewhere(home: Home) -> None:
    """An admin's change without an Origin, or from another one, answers 403; from the pages' own it reaches the application."""
    with session(home, USER) as client:
        for headers in ({}, {"origin": "http://evil.example"}, {"origin": "null"}):
            for path in paths():
                answer = client.post(f"/relevance/{path}", headers=headers)
                assert answer.status_code == 403, (headers, path)
        assert client.post("/relevance/nothing", headers={"origin": home.client.url}).status_code == 404


def test_no_schema_for_anybody(home: Home) -> None:
    """What is no page does not exist for an admin either: no documentation, no schema, no file outside the static ones."""
    with session(home, USER) as client:
        for path in NO_PAGES:
            assert client.get(f"/relevance/{path}").status_code == 404, path


def test_a_static_file_is_fetched_once(home: Home) -> None:
    """A static file has its type and a tag; asked again with the tag, it is not sent again."""
    with session(home, VIEWER) as client:
        first = client.get("/relevance/static/plotly.js")
        assert first.headers["content-type"] == "text/javascript; charset=utf-8"
        again = client.get("/relevance/static/plotly.js", headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_the_places_in_airflows_ui(home: Home) -> None:
    """Airflow lists the page in its navigation and the tab of a run, and the entry's icon is served."""
    plugins = home.client.call("GET", "plugins", limit=100)["plugins"]
    views = next(plugin["external_views"] for plugin in plugins if plugin["name"] == "relevance")
    assert [(view["name"], view["destination"]) for view in views] == [("Relevance", "nav"), ("Relevance", "dag_run")]
    with session(home, VIEWER) as client:
        assert client.get(f"/{views[0]['icon']}").headers["content-type"] == "image/svg+xml"
    assert json.dumps(home.client.import_errors()) == "[]"
