"""One Airflow for every test of this folder, the runs in it that several tests look at, and a browser on it."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import cast

import polars as pl
import pytest

from relevance_core import config
from relevance_core.pairs import Task
from relevance_core.registry import Registry, Release
from relevance_core.store import open_store
from relevance_core.tools.demo.launcher import USER
from relevance_core.tools.demo.nights import DAG
from tests.support.airflow_forms import answer_by_form, trigger_by_form
from tests.support.airflow_home import MARKET, SETTINGS, VIEWER, Home, airflow_home
from tests.support.airflow_runs import A_MINUTE, END, HOSTILE, REJECTED, SHORT_SECONDS, WHY, answer, published
from tests.support.browser import Browser, browser, require_browser
from tests.support.loop import Done, relevance
from tests.support.registry_cases import answering_no


@pytest.fixture(scope="package")
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


# ── runs ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="package")
def first_night(home: Home) -> str:
    """The Airflow run of a night of both tasks, in which the process of one *train* is killed."""
    killer = threading.Thread(target=home.kill_stage, args=("train",))
    killer.start()
    state = home.run("first", {"window.end": END})
    killer.join()
    assert state == "success", {name: home.log("first", name) for name, was in home.states("first").items() if was == "failed"}
    return "first"


@pytest.fixture(scope="package")
def twin(home: Home, first_night: str) -> Iterator[Future[Done]]:
    """`relevance retrain` of that night on the command line, in another store, begun beside whatever Airflow does meanwhile."""
    settings = home.folder / "settings.yaml"
    settings.write_text(home.settings)
    command = ("retrain", "--store", str(home.folder / "twin"), "--settings", str(settings), "--window-end", END, "--json")
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(relevance, *command)


@pytest.fixture(scope="package")
def answers_no(home: Home, first_night: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Champions that answer no to everything, so that any version is better: the first night's adapters with a threshold of 1."""
    registry, folder = Registry(open_store(str(home.folder / "store"))), tmp_path_factory.mktemp("champions")
    versions = published(home, first_night).items()
    worse = {task: answering_no(registry, cast(Task, task), about["version"], folder).version for task, about in versions}
    registry.promote(worse, who="test", why="to be beaten by any other")
    return worse


@pytest.fixture(scope="package")
def onboarding(home: Home, window: Browser, answers_no: dict[str, str]) -> str:
    """An onboarding of German, started with the trigger form, that waits for an approval of each task: Airflow's run id."""
    window.log_in(home, USER)
    run = trigger_by_form(home, window)
    window.leave()
    for index in (0, 1):
        home.await_state(run, f"adapter.approve[{index}]", "awaiting_input")
    return run


@pytest.fixture(scope="package")
def approved(home: Home, window: Browser, onboarding: str) -> str:
    """The same run after QC was approved with Airflow's form and QI by its API, and it has ended."""
    window.log_in(home, USER)
    answer_by_form(window, onboarding, "Approve")
    window.leave()
    answer(home, onboarding, 1, "Approve", None)
    assert home.ended(onboarding) == "success"
    return onboarding


@pytest.fixture(scope="package")
def rejected(home: Home, window: Browser, approved: str, answers_no: dict[str, str]) -> Release:
    """What served as the same onboarding began again as run `REJECTED`; a person has rejected QC, and nobody answers for QI."""
    registry = Registry(open_store(str(home.folder / "store")))
    before = registry.promote(answers_no, who="test", why="to be beaten by any other")
    home.client.trigger(DAG, REJECTED, {"window.end": END, "onboard": ["de"], "approval.hours": A_MINUTE})
    home.await_state(REJECTED, "adapter.approve[0]", "awaiting_input")
    window.log_in(home, USER)
    answer_by_form(window, REJECTED, "Reject", why=WHY)
    window.leave()
    return before


# ── the browser ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="package")
def window(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Browser]:
    """A browser; where there is none, the tests that want it are skipped before anything is run for them."""
    require_browser()
    home = request.getfixturevalue("home")
    with browser(home.client.url, tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture
def admin(home: Home, window: Browser) -> Iterator[Browser]:
    """The window, logged in as somebody who may do everything."""
    yield from logged_in(home, window, USER)


@pytest.fixture
def viewer(home: Home, window: Browser) -> Iterator[Browser]:
    """The window, logged in as somebody who may only look."""
    yield from logged_in(home, window, VIEWER)


def logged_in(home: Home, window: Browser, user: str) -> Iterator[Browser]:
    """The window of that user; at the end no page may have complained."""
    window.log_in(home, user)
    window.problems()
    yield window
    assert window.problems() == []
    window.leave()
