"""The page of a run, over outputs made by hand that appear in the store stage by stage, as a run leaves them."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import uvicorn
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import Scope

from relevance_airflow.params import run_id_of
from relevance_core.runs import approval
from relevance_core.runs.approval import Approval
from relevance_core.runs.artifacts import Artifact, Output, Report, Rows
from relevance_core.runs.run import Run, pin
from relevance_core.stages.denoise.stage import LEDGER
from relevance_core.store import Store
from relevance_core.ui.access import Right, User
from relevance_core.ui.app import create_app
from relevance_core.ui.ledger import Search, as_csv, look
from tests.support.browser import browser
from tests.support.report_cases import HOSTILE, SETTINGS, figures, output, text, validate, whole_run

DAG_RUN = "manual__2026-10-08T01:00:00+00:00"
RUN = run_id_of(date(2026, 10, 8), DAG_RUN)
MARKUP = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', HOSTILE)


class Reader:
    """One user, who may read."""

    async def user(self, scope: Scope) -> User:
        return User("ada")

    def may(self, user: User, right: Right) -> bool:
        return right == "read"


def client(store: Store) -> TestClient:
    """A browser of these pages, which Airflow mounts under /relevance."""
    return TestClient(create_app(lambda: store, Reader()), root_path="/relevance", follow_redirects=False)


def begin(store: Store, run_id: str = RUN, dag_run: str = DAG_RUN) -> Run:
    return pin(SETTINGS, store, run_id, dag_run=dag_run)


def finish(store: Store, name: str, artifact: Artifact, run_id: str = RUN) -> None:
    """What `Run.stage` leaves when a stage is done."""
    stage, _, task = name.partition(":")
    key = f"runs/{run_id}/{stage}{'-' + task.lower() if task else ''}.json"
    store.write(key, json.dumps(artifact.report.as_json()).encode())


def documents(out: Output) -> Report:
    """*validate* with Data Docs that show a row of the log."""
    for name in ("index", "rows", "batch"):
        out.bytes(f"data_docs/{name}.html", f"<!doctype html><title>{name}</title><p>&lt;script&gt;".encode())
    return validate(out)


def ledger_rows(rows: int) -> pl.DataFrame:
    """A ledger: every other row is labelled relevant, the language goes round, the doubt falls with the row's number."""
    number = pl.int_range(rows)
    label = (number % 2).cast(pl.Int8)
    doubt = 1 - number / (2 * rows)
    return pl.select(
        pair_id=number.cast(pl.String).str.zfill(7),
        query=pl.format("query {}", number),
        target=pl.format("Target {}", number % 10),
        language=pl.lit(pl.Series(["en", "es", "de", "it"])).gather(number % 4),
        label=label,
        reason=pl.lit("r"),
        score=pl.when(label == 1).then(1 - doubt).otherwise(doubt),
        action=pl.lit("drop"),
        model=pl.lit("fold-0:abc"),
    ).select(pl.col(name).cast(kind) for name, kind in LEDGER.items())


def filtered(ledger: pl.DataFrame) -> Any:
    """*denoise* with this ledger."""

    def write(out: Output) -> Report:
        out.table("ledger", ledger)
        group = {"language": "en", "label": 1, "rows": 10, "contradicted": 1, "acted": 1}
        shared = {"enabled": True, "mode": "out-of-fold", "confidence": 0.8, "action": "drop", "acted": len(ledger)}
        return Report(Rows(1, kept=1), shared | {"by_label_and_language": [group]})

    return write


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, dict[str, Artifact]]:
    """A store that holds every output of a run, and no run yet."""
    from relevance_core.store import open_store

    store = open_store(str(tmp_path_factory.mktemp("done")))
    found = whole_run(store)
    hostile = ledger_rows(3).with_columns(query=pl.Series(MARKUP), target=pl.Series(["=1+1", *MARKUP[:2]]))
    found["validate"] = output(store, "validate-documents", documents)
    found["denoise:QC"] = output(store, "denoise-hostile", filtered(hostile), "QC")
    return store, found


@pytest.fixture
def store(done: tuple[Store, dict[str, Artifact]]) -> Store:
    """The same without what an earlier test left of a run."""
    runs = done[0].local_path("runs")
    assert runs is not None
    shutil.rmtree(runs, ignore_errors=True)
    return done[0]


@pytest.fixture
def outputs(done: tuple[Store, dict[str, Artifact]]) -> dict[str, Artifact]:
    return done[1]


@pytest.fixture
def over(store: Store, outputs: dict[str, Artifact]) -> TestClient:
    """A browser where the whole run is in the store, its report too."""
    begin(store)
    for name, artifact in outputs.items():
        finish(store, name, artifact)
    finish(store, "report", output(store, "report", lambda out: Report(Rows())))
    return client(store)


def page(answer: Any) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.text)


def sections(page: str) -> list[str]:
    return re.findall(r'<section id="([^"]+)"', page)


def test_each_part_appears_when_its_stage_is_done(store: Store, outputs: dict[str, Artifact]) -> None:
    """Rows after ingest, validation and translation after theirs, and of the verdict no word before QC's gate is done."""
    begin(store)
    browser = client(store)
    assert sections(page(browser.get(f"/run/{RUN}"))) == ["way", "provenance"]
    seen, digests = {}, set()
    for name in ("ingest", "validate", "translate", "mine:QC", "denoise:QC", "train:QC", "evaluate:QC", "gate:QC"):
        finish(store, name, outputs[name])
        state = browser.get(f"/run/{RUN}/state").json()
        assert state["finished"][-1] == name.replace(":", " ")
        digests.add(state["digest"])
        seen[name] = page(browser.get(f"/run/{RUN}?part=main"))
    assert len(digests) == 8
    assert sections(seen["ingest"]) == ["way", "rows", "provenance"]
    assert sections(seen["translate"]) == ["way", "rows", "validation", "translation", "provenance"]
    assert "negatives" in sections(seen["mine:QC"])
    assert "filter" in sections(seen["denoise:QC"])
    assert "QC · query–category Not yet" in text(seen["train:QC"])
    assert "Not judged yet" in text(seen["evaluate:QC"])
    assert "verdict" in sections(seen["gate:QC"])
    assert "QC · query–category Passed the gate" in text(seen["gate:QC"])
    assert set(figures(seen["evaluate:QC"])) >= {"quality-1-1", "training-1-1"}


def test_the_part_that_changes_has_no_frame(over: TestClient) -> None:
    """What the script puts in is in the page word for word, and brings neither head nor scripts of its own."""
    body = page(over.get(f"/run/{RUN}?part=main"))
    assert body in page(over.get(f"/run/{RUN}"))
    assert "<html" not in body
    assert set(re.findall(r"<script[^>]*>", body)) == {
        f'<script type="application/json" id="{name}-figure">' for name in figures(body)
    }


def test_the_stages_on_their_way(store: Store, outputs: dict[str, Artifact]) -> None:
    """After translate, base and both mine can be at work: base is common, mine needs no base; denoise waits for both."""
    begin(store)
    for name in ("ingest", "validate", "translate"):
        finish(store, name, outputs[name])
    finish(store, "split", outputs["ingest"])
    way = text(page(client(store).get(f"/run/{RUN}?part=main")).partition('id="outcome"')[0])
    assert "✓ ingest : done" in way
    assert "● base : next, or at work" in way
    assert way.count("● mine : next, or at work") == 2
    assert "denoise : waits" in way


def test_a_run_that_stopped_says_why(store: Store) -> None:
    """A broken rule: the stage is marked, its words stand on top, and what did not run is told from what waits."""
    begin(store)
    failure = {"what": "the positive rate of QI en is 0.97", "where": "QI en", "expected": "0.1 to 0.95", "do": "look"}
    finish(store, "validate", output(store, "validate-broken", lambda out: validate(out, failure)))
    finish(store, "report", output(store, "report", lambda out: Report(Rows())))
    shown = text(page(client(store).get(f"/run/{RUN}")))
    assert "The run stopped at validate: the positive rate of QI en is 0.97" in shown
    assert "✕ validate : failed" in shown
    assert "– train : not run" in shown


def test_a_run_is_over_with_its_report(over: TestClient) -> None:
    """The script stops asking; the page says so where the script looks."""
    assert over.get(f"/run/{RUN}/state").json()["over"] is True
    assert 'data-over="true"' in page(over.get(f"/run/{RUN}"))


def test_airflows_name_of_a_run_shows_the_same(store: Store, outputs: dict[str, Artifact]) -> None:
    """Not begun, with a state that says so; the run itself as soon as its first task has been there, whatever its window."""
    browser = client(store)
    waiting = page(browser.get(f"/dag-run/{DAG_RUN}"))
    assert "has not begun" in text(waiting)
    assert "run.js" in waiting
    assert browser.get(f"/dag-run/{DAG_RUN}/state").json() == {"begun": False, "over": False, "digest": "", "finished": []}
    begin(store)
    finish(store, "ingest", outputs["ingest"])
    assert browser.get(f"/dag-run/{DAG_RUN}/state").json() == browser.get(f"/run/{RUN}/state").json()
    assert page(browser.get(f"/dag-run/{DAG_RUN}?part=main")) == page(browser.get(f"/run/{RUN}?part=main"))
    assert f'data-airflow href="/dags/relevance_retrain/runs/{"manual__2026-10-08T01%3A00%3A00%2B00%3A00"}"' in page(
        browser.get(f"/run/{RUN}")
    )


def test_a_run_of_another_dag_is_none_of_the_loop(store: Store) -> None:
    """The tab stands on every DAG's runs: it says whose runs these are, and does not wait."""
    shown = page(client(store).get(f"/dag-run/{DAG_RUN}?dag_id=relevance_rollback"))
    assert "a run of relevance_rollback" in text(shown)
    assert "run.js" not in shown


def test_an_unknown_run_is_not_found_with_the_newest(store: Store) -> None:
    """404 with links to the eight newest of nine runs, the newest first; a name that is a path is only a name."""
    for day in range(1, 10):
        begin(store, f"2026-10-0{day}-aaaaaaaa", "")
    for name in ("nothing", "%2e%2e", "%2e%2e%2fadapters", "<script>alert(1)<%2fscript>", "a%00b"):
        answer = client(store).get(f"/run/{name}")
        assert answer.status_code == 404, name
        assert "<script>alert" not in answer.text
    shown = client(store).get("/run/nothing").text
    assert re.findall(r'href="/relevance/run/([^"]+)"', shown) == [f"2026-10-0{day}-aaaaaaaa" for day in range(9, 1, -1)]


def test_the_runs_before_and_after(store: Store) -> None:
    """By the end of the window: the middle one of three has both neighbours, the first has none before it."""
    for day in (1, 2, 3):
        begin(store, f"2026-10-0{day}-aaaaaaaa", "")
    links = r'<a rel="(prev|next)" href="/relevance/run/([^"]+)"'
    middle, first = (page(client(store).get(f"/run/2026-10-0{day}-aaaaaaaa")) for day in (2, 1))
    assert re.findall(links, middle) == [("prev", "2026-10-01-aaaaaaaa"), ("next", "2026-10-03-aaaaaaaa")]
    assert re.findall(links, first) == [("next", "2026-10-02-aaaaaaaa")]


def test_who_approved_and_when(store: Store, outputs: dict[str, Artifact]) -> None:
    """The page says that it waits, with the way to Airflow's question; then the answer, who gave it and when, as text."""
    begin(store)
    for name, artifact in outputs.items():
        if name != "rollout":
            finish(store, name, artifact)
    asked = outputs["gate:QI"].report.as_json()
    asked["figures"]["verdict"] = "needs-approval"
    store.write(f"runs/{RUN}/gate-qi.json", json.dumps(asked).encode())
    browser = client(store)
    waits = page(browser.get(f"/run/{RUN}"))
    assert "The version of QI waits for a person." in text(waits)
    assert "/required_actions" in waits
    assert "rollout : waits" in text(waits)
    approval.record(store, RUN, Approval("QI", "0123456789abcdef", True, "ada <b>", "2026-10-08T06:30:00+00:00", "seen by hand"))
    answered = page(browser.get(f"/run/{RUN}"))
    assert "Approved by ada <b>: seen by hand, 2026-10-08 06:30 UTC." in text(answered)
    assert "waits for a person" not in text(answered)
    assert "● rollout" in text(answered)


def test_a_log_is_shown_as_text_everywhere(over: TestClient) -> None:
    """Queries and targets that are markup: on the page, in the ledger and in what was searched for, never as elements."""
    shown = page(over.get(f"/run/{RUN}"))
    found = page(over.get(f"/run/{RUN}/ledger", params={"task": "QC"}))
    for markup in MARKUP:
        assert markup in text(found)
        assert markup in text(shown)
    asked = page(
        over.get(f"/run/{RUN}/ledger", params={"task": MARKUP[0], "q": MARKUP[1], "language": MARKUP[1], "sort": MARKUP[0]})
    )
    for answer in (shown, found, asked):
        assert "<img" not in answer
        assert "<script>" not in answer
        assert "onerror=alert(1)>" not in answer


def test_data_docs_are_shut_in(over: TestClient) -> None:
    """Linked from the page, served with a policy that runs nothing and loads nothing; nothing but the documents is there."""
    links = re.findall(r'href="/relevance(/run/[^"]+/data-docs/[^"]+)"', page(over.get(f"/run/{RUN}")))
    assert [link.rpartition("/")[2] for link in links] == ["index.html", "rows.html", "batch.html"]
    for link in links:
        answer = over.get(link)
        assert page(answer).endswith("<p>&lt;script&gt;")
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'; sandbox")
        assert "script" not in policy
    base = f"/run/{RUN}/data-docs"
    for name in (
        "rules.json",
        "..%2frules.json",
        "%2e%2e%2fmanifest.json",
        "%2e%2e/rules.json",
        "index.html%00",
        "..\\rules.json",
    ):
        answer = over.get(f"{base}/{name}")
        assert answer.status_code == 404, name


def test_the_ledger_is_searched_where_it_lies() -> None:
    """Of 120 rows: 12 targets end in 7, 30 are German, text is text and no pattern, and a page has 50 rows of them."""
    rows = ledger_rows(120).lazy()
    assert look(rows, Search("QC", q="TARGET 7")).meant == 12
    assert look(rows, Search("QC", q="target .")).meant == 0
    assert look(rows, Search("QC", language="de", label="0")).meant == 30
    assert look(rows, Search("QC", language="de", label="1")).meant == 0
    assert look(rows, Search("QC", action="review")).meant == 0
    first, third, fourth = (look(rows, Search("QC", page=number)) for number in (1, 3, 4))
    assert [len(found.rows) for found in (first, third, fourth)] == [50, 20, 0]
    assert (first.pages, first.all) == (3, 120)
    assert first.rows[0]["pair_id"] == "0000000"
    assert third.rows[-1]["pair_id"] == "0000119"
    assert look(rows, Search("QC", sort="trust")).rows[0]["pair_id"] == "0000119"
    assert list(first.languages) == ["de", "en", "es", "it"]


def test_an_address_that_makes_no_sense_asks_for_everything() -> None:
    """A task, label, order or page that there is not counts as none; a text of any length is cut."""
    asked = {"task": "XX", "label": "2", "action": "burn", "sort": "up", "page": "-1", "q": " " + "x" * 999}
    assert Search.of(asked, ("QC", "QI")) == Search("QC", q="x" * 200)
    assert Search.of({"page": "9" * 99}, ("QI",)).page == 1
    assert Search.of({"page": "²"}, ("QI",)).page == 1
    assert Search.of({"page": "0"}, ("QI",)).page == 1


def test_the_ledgers_page_needs_no_script(over: TestClient) -> None:
    """A plain form that keeps what was asked for, and no script but the one for Airflow's links."""
    shown = page(over.get(f"/run/{RUN}/ledger", params={"task": "QC", "q": "alert", "label": "0"}))
    assert "2 of 3 rows" in text(shown)
    assert '<input type="search" name="q" value="alert"' in shown
    assert '<option value="0" selected>not relevant' in shown
    assert re.findall(r'<script src="([^"]+)"', shown) == ["/relevance/static/links.js"]


def test_a_ledger_as_a_file_holds_no_formula(over: TestClient) -> None:
    """All the rows as CSV; "=1+1" comes with an apostrophe before it, and a quote in a text ends no cell."""
    answer = over.get(f"/run/{RUN}/ledger", params={"task": "QC", "format": "csv"})
    rows = list(csv.DictReader(io.StringIO(page(answer))))
    assert "attachment" in answer.headers["content-disposition"]
    assert rows[0]["target"] == "'=1+1"
    assert {row["query"] for row in rows} == set(MARKUP)
    formulas = pl.Series(["+1", "-1", "@a", "\ta", "a=1"])
    written = as_csv(ledger_rows(5).with_columns(query=formulas).lazy(), Search("QC"))
    assert [row["query"] for row in csv.DictReader(io.StringIO(written))] == ["'+1", "'-1", "'@a", "'\ta", "a=1"]


def test_a_ledger_that_is_not_there_yet(store: Store) -> None:
    """404 that says which stage has not run."""
    begin(store)
    answer = client(store).get(f"/run/{RUN}/ledger?task=QC")
    assert answer.status_code == 404
    assert "no denoise QC" in text(answer.text)


@pytest.mark.slow
def test_a_large_ledger_answers_within_a_second(store: Store) -> None:
    """A search through 100,000 rows, sorted, takes less than a second of all cores together."""
    begin(store)
    finish(store, "denoise:QC", output(store, "denoise-large", filtered(ledger_rows(100_000)), "QC"))
    browser = client(store)
    page(browser.get(f"/run/{RUN}/ledger?task=QC"))
    started = time.process_time()
    shown = page(browser.get(f"/run/{RUN}/ledger?task=QC&q=query+1&language=de&sort=query&page=3"))
    assert time.process_time() - started < 1.0
    assert "page 3 of" in text(shown)


@contextmanager
def served(store: Store) -> Iterator[str]:
    """The pages on a port of their own, mounted as Airflow mounts them, until the block ends."""
    listening = socket.create_server(("127.0.0.1", 0))
    app = Starlette(routes=[Mount("/relevance", create_app(lambda: store, Reader()))])
    server = uvicorn.Server(uvicorn.Config(app, ws="none", log_level="error"))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def test_a_damaged_output_is_said(store: Store, outputs: dict[str, Artifact]) -> None:
    """A ledger of which only the beginning is left: the page says what is damaged and what to do, with 503."""
    damaged = output(store, "denoise-damaged", filtered(ledger_rows(3)), "QC")
    begin(store)
    finish(store, "ingest", outputs["ingest"])
    finish(store, "denoise:QC", damaged)
    key = damaged.key("ledger.parquet")
    store.write(key, store.read(key)[:20])
    answer = client(store).get(f"/run/{RUN}/ledger?task=QC")
    assert answer.status_code == 503
    assert "damaged or gone" in answer.text
    assert "run the stage again" in answer.text


@pytest.mark.browser
@pytest.mark.slow
def test_the_page_follows_its_run(store: Store, outputs: dict[str, Artifact], tmp_path: Path) -> None:
    """In a real browser: parts come as stages finish, are drawn and said aloud; what was there stays, opened as it was."""
    with served(store) as url, browser(url, tmp_path) as window:
        window.open(f"/relevance/dag-run/{DAG_RUN}")
        window.find("h1", "Not begun")
        begin(store)
        for name in ("ingest", "validate"):
            finish(store, name, outputs[name])
        window.find("#validation .js-plotly-plot")
        window.script("window.kept = document.getElementById('validation'); kept.querySelector('details').open = true")
        window.script("document.querySelector('#rows details').open = true")
        for name in ("mine:QC", "denoise:QC", "evaluate:QC"):
            finish(store, name, outputs[name])
        window.find("#quality .js-plotly-plot")
        said = "return document.getElementById('said').textContent"
        window.until(lambda: "evaluate QC." in window.script(said), "said")
        assert window.script("return kept === document.getElementById('validation') && kept.querySelector('details').open")
        assert window.script("return document.querySelector('#rows details').open")
        finish(store, "report", output(store, "report", lambda out: Report(Rows())))
        window.until(lambda: window.script(said) == "Finished: report. The run is over.", "over")
        assert window.script("return document.querySelectorAll('.plot:not(:has(.main-svg))').length") == 0
        with window.metrics(390, 844):
            window.until(lambda: not window.overflow(), "as narrow as a phone")
        assert window.problems() == []
