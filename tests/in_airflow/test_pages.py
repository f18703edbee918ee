"""The pages as people use them: a real chromium on a real Airflow, from the login form to an approved language."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from urllib.parse import quote

import pytest

from relevance_core.registry import Registry, Release
from relevance_core.store import open_store
from relevance_core.tools.demo.launcher import USER
from relevance_core.tools.demo.nights import DAG
from tests.support.airflow_home import Home
from tests.support.airflow_runs import A_MINUTE, HOSTILE, REJECTED, WHY, answers, events, question, release
from tests.support.browser import PHONE, Browser

pytestmark = [pytest.mark.browser, pytest.mark.airflow, pytest.mark.slow]


def test_the_page_in_the_navigation(admin: Browser) -> None:
    """After the login form, *Relevance* in Airflow's navigation opens the page in a frame, and its links stay in there."""
    admin.open("/")
    admin.find("a[aria-label=Relevance]").click()
    admin.enter_frame()
    assert admin.find("h1").text
    admin.find("a", "Review queue").click()
    admin.find("h1", "Review queue")
    assert admin.script("return window.top !== window") is True


def test_an_onboarding_waits_for_a_person(home: Home, admin: Browser, answers_no: dict[str, str], onboarding: str) -> None:
    """A language without judged rows ends in an approval: the run waits, what served serves on, and the page links to it."""
    assert dict(release(home).versions) == answers_no
    assert "de" in home.client.call("GET", f"dags/{DAG}/dagRuns/{quote(onboarding)}")["conf"]["onboard"]
    admin.open("/relevance/")
    admin.find("a[data-airflow][href*=approve], a[data-airflow][href*=runs]")
    admin.whole_screenshot("overview-waits")


def test_what_a_person_is_asked(home: Home, onboarding: str) -> None:
    """Each task's question names what comes in with how much evidence, shows the gate's table, and asks why."""
    for index, task in enumerate(("QC", "QI")):
        asked = question(home, onboarding, index)
        assert asked["subject"].startswith(f"May {task} ")
        assert "de comes in with" in asked["subject"]
        assert "| evidence in de | **FAILED** |" in asked["body"]
        assert (asked["options"], asked["defaults"]) == (["Approve", "Reject"], ["Reject"])
        assert list(asked["params"]) == ["why"]


def test_an_approved_version_serves(home: Home, admin: Browser, answers_no: dict[str, str], approved: str) -> None:
    """Approved, QC in Airflow's own form, both serve, in one release that names who approved; the page shows them as champions."""
    serving = release(home)
    assert dict(serving.versions) == {task: kept.version for task, kept in answers(home, approved).items()}
    assert set(serving.versions.values()).isdisjoint(answers_no.values())
    assert serving.why.count(f"approved by {USER}") == 2
    assert {event["uri"] for event in events(home, approved)} == {"relevance://adapter/qc", "relevance://adapter/qi"}
    registry = Registry(open_store(str(home.folder / "store")))
    assert all("de" in registry.manifest(task, version).languages for task, version in serving.versions.items())
    admin.open("/relevance/")
    admin.find("main")
    assert all(version[:8] in admin.text() for version in serving.versions.values())
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


# The run whose approval nobody gives begins here, and waits while people look at the pages.
@pytest.mark.usefixtures("rejected")
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


def test_no_and_no_answer_leave_the_champions(home: Home, admin: Browser, rejected: Release) -> None:
    """A person rejects QC, nobody answers for QI in time: the run ends well, and what served before it serves on, though the new
    versions would be better.
    """
    admin.leave()
    assert home.ended(REJECTED) == "success"
    states = home.states(REJECTED)
    assert {states[name] for name in ("rollout", "done", "report", "adapter.approve[0]", "adapter.approve[1]")} == {"success"}
    assert release(home) == rejected
    assert events(home, REJECTED) == []
    kept = answers(home, REJECTED)
    assert (kept["QC"].approved, kept["QC"].who, kept["QC"].why) == (False, USER, WHY)
    assert (kept["QI"].approved, kept["QI"].who, kept["QI"].why) == (False, "", f"nobody answered within {A_MINUTE} hours")
    assert datetime.fromisoformat(kept["QC"].at).tzinfo is not None
    assert home.client.xcom(DAG, REJECTED, "adapter.approve", map_index=0) == kept["QC"]._asdict()
    admin.open("/relevance/")
    assert admin.find("main")


def pages_of(home: Home, run: str) -> list[str]:
    """The pages and their parts, as they are for this run."""
    stored = home.client.xcom(DAG, run, "begin", key="run_id")
    return ["/relevance/", "/relevance/review?task=QC", f"/relevance/run/{stored}", f"/relevance/run/{stored}/ledger?task=QC"]
