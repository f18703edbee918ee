"""The review page: what it shows, what a form does, who may do it, and that a query is only ever text."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.types import Scope

from relevance_core.errors import NotFound
from relevance_core.runs import review
from relevance_core.store import Store
from relevance_core.ui import review as page
from relevance_core.ui.access import Gate, Right, User
from relevance_core.ui.site import Site
from tests.support.review_cases import TRAIN, finished, listed

HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)>'
ORIGIN = {"origin": "http://relevance"}


@dataclass(frozen=True)
class Rights:
    """Everybody is `name`, with these rights."""

    rights: tuple[Right, ...] = ("read", "edit")
    name: str = "ann"

    async def user(self, scope: Scope) -> User | None:
        return User(self.name)

    def may(self, user: User, right: Right) -> bool:
        return right in self.rights


def client(store: Store, rights: Rights | None = None) -> httpx.AsyncClient:
    """A browser before the page, mounted under /relevance."""
    site = Site(lambda: store)
    app = FastAPI()
    app.include_router(page.routes(site))

    @app.exception_handler(NotFound)
    async def explain(request: Request, error: NotFound) -> Response:
        return site.page(request, "error.html", status=404, title="none", what=str(error))

    transport = httpx.ASGITransport(Gate(app, rights or Rights()), root_path="/relevance")
    return httpx.AsyncClient(transport=transport, base_url="http://relevance")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def card(text: str) -> str:
    """The card that asks, as a reader sees it."""
    found = re.search(r"<section class=\"card.*?</section>", text, re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", found[0])).split()) if found else ""


def buttons(text: str) -> list[str]:
    return re.findall(r'<button name="decision" value="(\w+)" aria-keyshortcuts="(?:\w)"', text)


pytestmark = pytest.mark.anyio


async def test_the_most_doubtful_row_is_asked_and_the_next_one_after_it(store: Store) -> None:
    """The card shows the row whose label the model doubts most; deciding it records who and leads to the next row."""
    finished(store, "2026-10-02-b", [listed(TRAIN[0], 0.2), listed(TRAIN[1], 0.1)])
    async with client(store) as browser:
        first = await browser.get("/review")
        assert TRAIN[1] in card(first.text)
        assert "Label it has relevant p(yes) 0.100" in card(first.text)
        assert buttons(first.text) == ["yes", "no", "keep"]
        form = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', first.text))
        sent = await browser.post("/review", data=form | {"decision": "no"}, headers=ORIGIN)
        assert (sent.status_code, sent.headers["location"]) == (303, "/relevance/review?task=QC&page=1")
        after = await browser.get("/review?task=QC&page=1")
    assert TRAIN[0] in card(after.text)
    assert review.decisions(store).select("query", "was", "label", "who").rows() == [(TRAIN[1], 1, 0, "ann")]
    assert re.search(r"Decided lately.*ann</td><td>not relevant</td><td>relevant</td>", after.text, re.DOTALL)


async def test_a_form_leads_back_to_its_language(store: Store) -> None:
    """With a language chosen, only its rows are asked, before and after a decision."""
    ids = finished(store, "2026-10-02-b", [listed(TRAIN[0], 0.1), listed(TRAIN[1], 0.2, language="de")])
    async with client(store) as browser:
        german = await browser.get("/review?task=QC&language=de")
        data = {"task": "QC", "language": "de", "page": "1", "pair_id": ids[1], "decision": "keep"}
        sent = await browser.post("/review", data=data, headers=ORIGIN)
        after = await browser.get("/review?task=QC&language=de")
    assert TRAIN[1] in card(german.text)
    assert TRAIN[0] not in german.text
    assert sent.headers["location"] == "/relevance/review?task=QC&language=de&page=1"
    assert "Nothing waits for a decision in German" in after.text


async def test_a_decision_can_be_changed(store: Store) -> None:
    """A decided pair is shown with its decision when it is asked for; the answer given then holds."""
    (pair,) = finished(store, "2026-10-02-b", [listed(TRAIN[0], 0.1)])
    review.answer(store, {"QC": {pair: "no"}}, "bob")
    async with client(store) as browser:
        shown = await browser.get(f"/review?task=QC&pair={pair}")
        await browser.post("/review", data={"task": "QC", "pair_id": pair, "decision": "keep"}, headers=ORIGIN)
    assert "Decided by bob: not relevant. Decide again?" in card(shown.text)
    assert review.decisions(store).select("label", "who").rows() == [(None, "ann")]
    assert review.history(store)["who"].to_list() == ["bob", "ann"]


async def test_a_viewer_reads_and_changes_nothing(store: Store) -> None:
    """Without the right to edit there is no form, a decision sent all the same is refused, and nothing is recorded."""
    (pair,) = finished(store, "2026-10-02-b", [listed(TRAIN[0], 0.1)])
    async with client(store, Rights(("read",))) as browser:
        shown = await browser.get("/review")
        sent = await browser.post("/review", data={"task": "QC", "pair_id": pair, "decision": "no"}, headers=ORIGIN)
    assert TRAIN[0] in card(shown.text)
    assert "<form" not in shown.text
    assert sent.status_code == 403
    assert review.names(store) == []


async def test_another_site_decides_nothing(store: Store) -> None:
    """A form from elsewhere is refused; the page asks browsers to send the Origin with its own."""
    (pair,) = finished(store, "2026-10-02-b", [listed(TRAIN[0], 0.1)])
    data = {"task": "QC", "pair_id": pair, "decision": "no"}
    async with client(store) as browser:
        answers = [await browser.post("/review", data=data, headers={"origin": origin}) for origin in ("http://evil", "null")]
        shown = await browser.get("/review")
    assert [answer.status_code for answer in answers] == [403, 403]
    assert shown.headers["referrer-policy"] == "same-origin"
    assert review.names(store) == []


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"decision": "maybe"}, 422),
        ({"task": "XX"}, 422),
        ({"pair_id": ""}, 422),
        ({"pair_id": "0" * 16}, 404),
        ({"task": "QI"}, 404),
    ],
)
async def test_a_form_that_nobody_was_given_records_nothing(changed: dict[str, str], status: int, store: Store) -> None:
    """An unknown word, task or pair is answered with the reason; a pair of another task is unknown too."""
    (pair,) = finished(store, "2026-10-02-b", [listed(TRAIN[0], 0.1)])
    data: dict[str, Any] = {"task": "QC", "pair_id": pair, "decision": "no"} | changed
    async with client(store) as browser:
        sent = await browser.post("/review", data=data, headers=ORIGIN)
        shown = await browser.get("/review?task=QC&pair=nobodys")
    assert sent.status_code == status
    assert shown.status_code == 404
    assert review.names(store) == []


async def test_hostile_text_is_text(store: Store) -> None:
    """Query, target and the name of who decided are escaped wherever they stand; no script stands in the page itself."""
    rows = [listed(TRAIN[0], 0.1, target=HOSTILE), listed(HOSTILE, 0.2, target=HOSTILE, language="xx")]
    ids = finished(store, "2026-10-02-b", rows)
    review.answer(store, {"QC": {ids[0]: "no"}}, HOSTILE)
    async with client(store, Rights(name=HOSTILE)) as browser:
        pages = [await browser.get(address) for address in ("/review", f"/review?pair={ids[0]}", "/review?language=%3Cscript%3E")]
    for answer in pages:
        assert answer.status_code == 200
        assert "<script>" not in answer.text
        assert "<img" not in answer.text
        assert re.findall(r"<script(?: src=\"/relevance/static/\w+\.js\" defer)></script>", answer.text)
        assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert HOSTILE in html.unescape(pages[0].text)


async def test_a_long_queue_is_paged(store: Store) -> None:
    """Of 120 rows a page shows 50; the third has the last 20, and a page behind it is the third."""
    finished(store, "2026-10-02-b", [listed(TRAIN[0], n / 1000, target=f"target {n:03}") for n in range(120)])
    async with client(store) as browser:
        pages = [(await browser.get(f"/review?page={number}")).text for number in (1, 3, 9)]
        wrong = await browser.get("/review?page=0")
    shown = [re.findall(r'<td dir="auto">(target \d+)</td>', text) for text in pages]
    assert shown[0] == [f"target {n:03}" for n in range(50)]
    assert shown[1] == shown[2] == [f"target {n:03}" for n in range(100, 120)]
    assert 'rel="next"' not in pages[1]
    assert "101 to 120 of 120" in pages[1]
    assert wrong.status_code == 422


async def test_an_empty_store_has_an_empty_page(store: Store) -> None:
    """Without any run the page says that nothing waits."""
    async with client(store) as browser:
        shown = await browser.get("/review?task=QI")
    assert "Nothing waits for a decision" in shown.text
