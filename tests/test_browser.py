"""The pages as people use them: a real chromium on a real Airflow, from the login form to an approved language.

Then without a browser: who gets what of them from that Airflow, with a login and without.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import httpx
import polars as pl
import pytest
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from relevance_core import config
from relevance_core.demo.launcher import USER
from relevance_core.demo.nights import DAG
from relevance_core.store import Registry, Release, open_store
from relevance_core.ui.static import names
from tests.airflow_home import MARKET, SETTINGS, VIEWER, Home, airflow_home
from tests.browser import PHONE, Browser, browser, require_browser
from tests.registry_cases import answering_no
from tests.test_ui_access import CHANGES, NO_PAGES, paths

pytestmark = [pytest.mark.browser, pytest.mark.airflow, pytest.mark.slow]

HOSTILE = ("<script>window.owned = 1</script>", '"><img src=x onerror="window.owned = 1">', "</script><svg onload=window.owned=1>")
END = "2026-10-04"
SHORT_SECONDS = 4


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """An Airflow over a market without a judged German query but many a hostile one, with a filter that asks people.

    A token of `token/cli` lasts for `SHORT_SECONDS`.
    """
    market = dataclasses.replace(MARKET, market_languages=("it",))
    settings = config.merge(SETTINGS, {"denoise": {"action": "review", "confidence": 0.5}})
    lifetime = {"AIRFLOW__API_AUTH__JWT_CLI_EXPIRATION_TIME": str(SHORT_SECONDS), "AIRFLOW__API_AUTH__JWT_LEEWAY": "0"}
    with airflow_home(tmp_path_factory.mktemp("airflow"), lifetime, market, settings) as running:
        for logs in (running.folder / "market" / "logs").rglob("*.parquet"):
            spoil(logs)
        yield running


def spoil(logs: Path) -> None:
    """Puts a hostile text behind one query of three, the same text whenever the query comes."""
    rows = pl.read_parquet(logs)
    texts = pl.concat([pl.Series(HOSTILE), pl.Series([""] * 2 * len(HOSTILE))])
    behind = (pl.col("query").hash(7) % len(texts)).replace_strict(range(len(texts)), texts)
    rows.with_columns(query=pl.concat_str(pl.col("query"), pl.lit(" "), behind).str.strip_chars()).write_parquet(logs)


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Browser]:
    """A browser; where there is none, the tests that want it are skipped before an Airflow is started."""
    require_browser()
    home = request.getfixturevalue("home")
    with browser(home.client.url, tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture
def admin(home: Home, window: Browser) -> Iterator[Browser]:
    """The window, logged in as somebody who may do everything; at the end no page may have complained."""
    window.log_in(home, USER)
    window.problems()
    yield window
    assert window.problems() == []


@pytest.fixture
def viewer(home: Home, window: Browser) -> Iterator[Browser]:
    """The same for somebody who may only look."""
    window.log_in(home, VIEWER)
    window.problems()
    yield window
    assert window.problems() == []


@pytest.fixture(scope="module")
def onboarding(home: Home, window: Browser) -> str:
    """An onboarding of German for QC, started with the trigger form, that waits for an approval: Airflow's run id."""
    window.log_in(home, USER)
    run = trigger_by_form(home, window)
    window.leave()
    home.await_state(run, "adapter.approve[0]", "awaiting_input")
    return run


@pytest.fixture(scope="module")
def approved(home: Home, window: Browser, onboarding: str) -> str:
    """The same run after somebody has approved it and it has ended."""
    window.log_in(home, USER)
    answer(window, onboarding, "Approve")
    window.leave()
    assert home.ended(onboarding) == "success"
    return onboarding


def test_the_page_in_the_navigation(admin: Browser) -> None:
    """After the login form, *Relevance* in Airflow's navigation opens the page in a frame, and its links stay in there."""
    admin.open("/")
    admin.find("a[aria-label=Relevance]").click()
    admin.enter_frame()
    assert admin.find("h1").text
    admin.find("a", "Review queue").click()
    admin.find("h1", "Review queue")
    assert admin.script("return window.top !== window") is True


def test_an_onboarding_waits_for_a_person(home: Home, admin: Browser, onboarding: str) -> None:
    """A language without judged rows ends in an approval: the run waits, nothing serves, and the page says what waits for whom."""
    assert release(home) is None
    assert "de" in home.client.call("GET", f"dags/{DAG}/dagRuns/{quote(onboarding)}")["conf"]["onboard"]
    admin.open("/relevance/")
    admin.find("a[data-airflow][href*=approve], a[data-airflow][href*=runs]")
    admin.whole_screenshot("overview-waits")


def test_approving_publishes(home: Home, admin: Browser, approved: str) -> None:
    """*Approve* in Airflow's own form lets the version serve, with German; the page shows it as the champion."""
    serving = release(home)
    assert serving is not None
    assert set(serving.versions) == {"QC"}
    version = serving.versions["QC"]
    assert "de" in Registry(open_store(str(home.folder / "store"))).manifest("QC", version).languages
    admin.open("/relevance/")
    admin.find("main")
    assert version[:8] in admin.text()
    assert "German" in admin.text()
    admin.whole_screenshot("overview")


def test_the_tab_of_a_run(admin: Browser, approved: str) -> None:
    """A run's tab in Airflow shows the run, with its plots drawn; a link to one of Airflow's pages leads Airflow itself there."""
    admin.open(f"/dags/{DAG}/runs/{quote(approved, safe='')}/plugin/relevance-run")
    admin.enter_frame()
    admin.until(lambda: admin.all(".js-plotly-plot .main-svg"), "a plot")
    assert len(admin.all(".plot.js-plotly-plot")) == len(admin.all("[data-figure]"))
    admin.find("a[data-airflow]").click()
    admin.driver.switch_to.default_content()
    admin.until(lambda: "/plugin/" not in admin.driver.current_url and f"/dags/{DAG}" in admin.driver.current_url, "Airflow's page")
    admin.open(f"/relevance/dag-run/{quote(approved, safe='')}")
    admin.find("main")
    admin.whole_screenshot("run")


def test_a_run_of_another_dag(home: Home, admin: Browser) -> None:
    """The tab of a run that is none of the loop's says so."""
    admin.open("/dags/relevance_rollback/runs/x/plugin/relevance-run")
    admin.driver.switch_to.default_content()
    admin.open("/relevance/dag-run/x?dag_id=relevance_rollback")
    assert "relevance_rollback" in admin.find("main").text


def test_a_hostile_query_is_text(home: Home, admin: Browser, approved: str) -> None:
    """Queries of the log that are markup stand on the pages as text, and nothing in them has run."""
    read = []
    for path in pages_of(home, approved):
        admin.open(path)
        admin.find("main")
        read.append(admin.script("return document.body.textContent"))
        assert admin.script("return window.owned === undefined && document.querySelector('img[src=x], svg[onload]') === null"), path
    for text in HOSTILE:
        assert any(text in page for page in read), text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone(home: Home, admin: Browser, approved: str, scheme: Literal["light", "dark"]) -> None:
    """At 390 px no page scrolls sideways, in light and in dark, and the paper has the scheme's colour."""
    for number, path in enumerate(pages_of(home, approved)):
        admin.open(path)
        with admin.scheme(scheme), admin.metrics(*PHONE):
            admin.find("main")
            admin.fits(path)
            red = admin.script("return Number(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])")
            assert (red < 128) is (scheme == "dark"), path
            admin.whole_screenshot(f"phone-{scheme}-{number}")


def test_dark_as_airflow_is(admin: Browser) -> None:
    """Where a reader has switched Airflow to dark, the page in its frame is dark too."""
    admin.open("/")
    admin.script("localStorage.setItem('theme', 'dark')")
    admin.open("/plugin/relevance")
    admin.enter_frame()
    dark = "return matchMedia('(prefers-color-scheme: dark)').matches"
    admin.until(lambda: admin.script(dark), "a dark frame")
    admin.driver.switch_to.default_content()
    admin.screenshot("overview-dark")
    admin.script("localStorage.setItem('theme', 'light')")


def test_a_viewer_sees_no_button(home: Home, viewer: Browser, approved: str) -> None:
    """Who may only look finds nothing that changes anything, and nothing to onboard a language with."""
    for path in pages_of(home, approved):
        viewer.open(path)
        viewer.find("main")
        assert viewer.all("form[method=post]") == [], path
        assert "Onboard a language" not in viewer.text(), path


def test_a_decision_in_the_review_queue(home: Home, admin: Browser, approved: str) -> None:
    """A row of the queue is decided with a button of the page in its frame; the next comes, and the user's name is kept."""
    admin.open("/plugin/relevance/relevance/review")
    admin.enter_frame()
    query = admin.find("dl.pair dd").text
    admin.whole_screenshot("review")
    admin.find("button[name=decision][value=keep]").click()
    admin.until(lambda: admin.find("dl.pair dd").text != query or "Nothing waits" in admin.text(), "the next row")
    decided = [entry.key for entry in open_store(str(home.folder / "store")).list("review/decisions/")]
    assert len(decided) == 1
    assert f'"who": "{USER}"'.replace(" ", "") in open_store(str(home.folder / "store")).read(decided[0]).decode().replace(" ", "")


def test_rejecting_leaves_the_champion(home: Home, admin: Browser, approved: str, tmp_path: Path) -> None:
    """*Reject* ends the run well, and what served before it serves on, though the new version would be better."""
    serving, registry = release(home), Registry(open_store(str(home.folder / "store")))
    assert serving is not None
    without = {"languages": ("en", "es", "fr", "pt"), "onboarded": ()}
    worse = answering_no(registry, "QC", serving.versions["QC"], tmp_path, **without)
    before = registry.promote({"QC": worse.version}, who="test", why="to be beaten by any other")
    admin.leave()
    home.client.trigger(DAG, "rejected", {"window.end": END, "onboard": ["de"], "tasks": ["QC"]})
    home.await_state("rejected", "adapter.approve[0]", "awaiting_input")
    answer(admin, "rejected", "Reject")
    admin.leave()
    assert home.ended("rejected") == "success"
    assert release(home) == before
    admin.open("/relevance/")
    assert admin.find("main")


# ── without a browser ───────────────────────────────────────────────────────────────────────────────────────────────


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
    views = next(plugin["external_views"] for plugin in plugins if plugin["name"] == "relevance_ui")
    assert [(view["name"], view["destination"]) for view in views] == [("Relevance", "nav"), ("Relevance", "dag_run")]
    with session(home, VIEWER) as client:
        assert client.get(f"/{views[0]['icon']}").headers["content-type"] == "image/svg+xml"
    assert json.dumps(home.client.import_errors()) == "[]"


# ── what the tests share ────────────────────────────────────────────────────────────────────────────────────────────


def trigger_by_form(home: Home, window: Browser) -> str:
    """Fills in the form as a person would; the id of the run that comes of it."""
    window.open(f"/dags/{DAG}")
    window.find("button", "Trigger").click()
    form = "[role=dialog]"
    window.find(f"{form} button", "What to train").click()
    onboard, tasks = window.until(lambda: pair(window.visible(f"{form} input[aria-label^='Select']")), "two multi-selects")
    onboard.send_keys("German")
    window.find("[role=option]", "German (de)")
    onboard.send_keys(Keys.ENTER)
    tasks.send_keys(Keys.BACKSPACE)  # takes the last choice away
    window.until(lambda: chosen(window, "onboard") == ["de"] and chosen(window, "tasks") == ["QC"], "German for QC alone is chosen")
    window.screenshot("trigger-form")
    window.find(f"{form} button", "Which rows").click()
    window.find(f"{form} input[type=date]").send_keys("10042026")
    window.until(lambda: field(window, "window.end") == END, "the date")
    known = runs(home)
    window.find(f"{form} button", "Trigger").click()
    return window.until(lambda: runs(home) - known, "a new run").pop()


def pair(found: list[WebElement]) -> list[WebElement] | None:
    return found if len(found) == 2 else None


def chosen(window: Browser, param: str) -> list[str | None]:
    return [each.get_attribute("value") for each in window.all(f"input[name='element_{param}'][type=hidden]")]


def field(window: Browser, param: str) -> str | None:
    return window.find(f"input[name='element_{param}']").get_attribute("value")


def runs(home: Home) -> set[str]:
    """Airflow's ids of the loop's runs."""
    return {run["dag_run_id"] for run in home.client.call("GET", f"dags/{DAG}/dagRuns", limit=100)["dag_runs"]}


def release(home: Home) -> Release | None:
    """What serves."""
    return Registry(open_store(str(home.folder / "store"))).current()


def answer(window: Browser, run: str, option: str) -> None:
    """Presses Approve or Reject in Airflow's own form."""
    window.open(f"/dags/{DAG}/runs/{quote(run, safe='')}/tasks/adapter.approve/mapped/0/required_actions")
    window.find("button", option)
    window.screenshot(f"answer-{option.lower()}")
    window.find("button", option).click()
    window.until(lambda: not any(each.is_enabled() for each in window.visible("button", option)), "the answer is taken")


def pages_of(home: Home, run: str) -> list[str]:
    """The pages and their parts, as they are for this run."""
    stored = home.client.xcom(DAG, run, "begin", key="run_id")
    return ["/relevance/", "/relevance/review?task=QC", f"/relevance/run/{stored}", f"/relevance/run/{stored}/ledger?task=QC"]
