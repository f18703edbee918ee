"""Airflow's own forms, filled in as a person does it."""

from __future__ import annotations

from urllib.parse import quote

from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from relevance_core.tools.demo.nights import DAG
from tests.support.airflow_home import Home
from tests.support.airflow_runs import END
from tests.support.browser import Browser


def trigger_by_form(home: Home, window: Browser) -> str:
    """Fills in the form as a person would; the id of the run that comes of it."""
    window.open(f"/dags/{DAG}")
    window.find("button", "Trigger").click()
    form = "[role=dialog]"
    window.find(f"{form} button", "What to train").click()
    onboard, _ = window.until(lambda: pair(window.visible(f"{form} input[aria-label^='Select']")), "two multi-selects")
    onboard.send_keys("German")
    window.find("[role=option]", "German (de)")
    onboard.send_keys(Keys.ENTER)
    both = ["QC", "QI"]
    window.until(lambda: chosen(window, "onboard") == ["de"] and chosen(window, "tasks") == both, "German for both tasks is chosen")
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


def answer_by_form(window: Browser, run: str, option: str, why: str = "") -> None:
    """Says why, and presses Approve or Reject of QC, in Airflow's own form."""
    window.open(f"/dags/{DAG}/runs/{quote(run, safe='')}/tasks/adapter.approve/mapped/0/required_actions")
    window.find("button", option)
    if why:
        window.find("[name=element_why]").send_keys(why)
    window.screenshot(f"answer-{option.lower()}")
    window.find("button", option).click()
    window.until(lambda: not any(each.is_enabled() for each in window.visible("button", option)), "the answer is taken")
