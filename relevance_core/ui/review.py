"""The review queue as a page: rows whose label a model doubts, for a decision on each."""

from __future__ import annotations

import math
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl, urlencode

import polars as pl
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import RedirectResponse, Response

from relevance_core.errors import NotFound
from relevance_core.languages import LANGUAGES
from relevance_core.pairs import TASK_NAMES, TASKS, Task
from relevance_core.runs import review
from relevance_core.store import Store
from relevance_core.ui.site import Site, root, user_of

PAGE: Final = 50
"""Rows of the queue on a page."""

_RECENT: Final = 10
_ANSWERS: Final = (("yes", "y", "Yes, relevant"), ("no", "n", "No, not relevant"), ("keep", "k", "Keep the label as it is"))


def routes(site: Site) -> APIRouter:
    """Routes GET and POST `/review`."""
    router = APIRouter()

    @router.get("/review")
    def show(
        request: Request,
        task: Task = "QC",
        language: Annotated[str, Query(max_length=35)] = "",
        page: Annotated[int, Query(ge=1)] = 1,
        pair: Annotated[str, Query(max_length=64)] = "",
    ) -> Response:
        """Shows a page of the queue, and one pair to decide: `pair`, or the page's first."""
        answer = site.page(request, "review.html", title="Review queue", **view(site.store, task, language, page, pair))
        # Under no-referrer a browser sends the form with the Origin "null", with which a change is refused.
        answer.headers["referrer-policy"] = "same-origin"
        return answer

    @router.post("/review")
    def decide(request: Request, form: Annotated[dict[str, str], Depends(_form)]) -> Response:
        """Records the decision of a form (task, pair_id, decision) for the user, and redirects to the page that it came from."""
        task, pair, word = form.get("task", ""), form.get("pair_id", ""), form.get("decision", "")
        if task not in TASKS or word not in review.WORDS or not pair:
            expected = f"Expected: a task of {', '.join(TASKS)}, a pair id, and a decision of {', '.join(review.WORDS)}."
            return site.page(request, "error.html", status=422, title="This can't be decided", what=expected)
        review.answer(site.store, {task: {pair: word}}, user_of(request).name)
        back = {name: form[name] for name in ("task", "language", "page") if form.get(name)}
        return RedirectResponse(f"{root(request)}/review?{urlencode(back)}", status_code=303)

    return router


async def _form(request: Request) -> dict[str, str]:
    """Reads the fields of a form that a browser sent."""
    return dict(parse_qsl((await request.body()).decode(errors="replace"), keep_blank_values=True))


def view(store: Store, task: Task, language: str, page: int, pair: str) -> dict[str, Any]:
    """Returns the template's values. A page past the end shows the last page.

    Args:
        store: holds queue and decisions.
        task: QC or QI.
        language: shows only its rows; "" for all.
        page: from 1.
        pair: id of the pair to decide; "" for the page's first.

    Raises:
        NotFound: the pair is not in the queue.
    """
    queues = {name: review.queue(store, name) for name in TASKS}
    languages = queues[task].group_by("language").len().sort("len", "language", descending=[True, False]).rows()
    waiting = queues[task].filter(pl.col("language") == language) if language else queues[task]
    pages = max(1, math.ceil(waiting.height / PAGE))
    page = min(page, pages)
    rows = waiting.slice((page - 1) * PAGE, PAGE).to_dicts()
    history = review.history(store).filter(task=task)
    return {
        "task": task,
        "tasks": [(name, TASK_NAMES[name], queue.height) for name, queue in queues.items()],
        "languages": languages,
        "names": LANGUAGES,
        "language": language,
        "rows": rows,
        "total": waiting.height,
        "first": (page - 1) * PAGE + 1,
        "page": page,
        "pages": pages,
        "pair": _chosen(store, task, rows, history, pair),
        "answers": _ANSWERS,
        "recent": history.tail(_RECENT).reverse().to_dicts(),
        "labels": {0: "not relevant", 1: "relevant", None: "kept as it is"},
        "run_id": rows[0]["run_id"] if rows else "",
    }


def _chosen(store: Store, task: Task, rows: list[dict[str, Any]], history: pl.DataFrame, pair: str) -> dict[str, Any] | None:
    """Returns the pair to decide, with its decision as `decided`; None where nothing waits.

    Args:
        store: holds the queue.
        task: QC or QI.
        rows: of the page.
        history: the decisions so far.
        pair: its id; "" for the page's first.

    Raises:
        NotFound: the pair is not in the queue.
    """
    if not pair:
        return rows[0] | {"decided": None} if rows else None
    decided = history.filter(pair_id=pair).tail(1).to_dicts()
    listed = [row for row in rows if row["pair_id"] == pair] or review.asked(store, task, [pair]).to_dicts()
    if not listed:
        raise NotFound(f"nobody was asked about the pair {pair!r}", where="the review queue", expected="a pair of this task")
    return {"score": None, "reason": ""} | listed[0] | {"decided": decided[0] if decided else None}
