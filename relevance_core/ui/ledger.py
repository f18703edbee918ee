"""The filter's ledger of a run, searched and paged in its Parquet file: the browser gets one page of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

import polars as pl
from fastapi import Request
from fastapi.responses import Response

from relevance_core.languages import named
from relevance_core.pairs import TASK_NAMES, Task
from relevance_core.runs.run import Run
from relevance_core.ui.site import Site, root

ROWS: Final = 50
"""Rows of a page."""

SORTS: Final[Mapping[str, str]] = {
    "doubt": "most contradicted first",
    "trust": "least contradicted first",
    "query": "by query",
}
LABELS: Final[Mapping[str, str]] = {"1": "relevant", "0": "not relevant"}
ACTIONS: Final[Mapping[str, str]] = {
    "drop": "dropped",
    "flip": "given the other label",
    "weight": "given less weight",
    "review": "listed for review",
}

_TYPED: Final = 200
_DIGITS: Final = 9
_FORMULA: Final = r"^[=+\-@\t\r\n＝＋－＠]"
"""The beginning of a text that a spreadsheet would run as a formula."""


@dataclass(frozen=True)
class Search:
    """A search in the ledger. An empty field matches everything; q: a text inside the query or the target."""

    task: Task
    q: str = ""
    language: str = ""
    label: str = ""
    action: str = ""
    sort: str = "doubt"
    page: int = 1

    @classmethod
    def of(cls, values: Mapping[str, str], tasks: Sequence[Task]) -> Search:
        """Reads a search from the values of an address; an invalid value counts as absent."""

        def one_of(name: str, known: Mapping[str, str], default: str = "") -> str:
            return values[name] if values.get(name) in known else default

        page = values.get("page", "")
        return cls(
            next((task for task in tasks if task == values.get("task")), tasks[0]),
            values.get("q", "").strip()[:_TYPED],
            values.get("language", "")[:_TYPED],
            one_of("label", LABELS),
            one_of("action", ACTIONS),
            one_of("sort", SORTS, "doubt"),
            max(1, int(page)) if page.isdecimal() and len(page) < _DIGITS else 1,
        )

    def address(self, **changed: Any) -> str:
        """Returns the query part of the address of this search, or of a changed one."""
        values = asdict(self) | changed
        return urlencode({name: value for name, value in values.items() if value not in ("", None)})

    def filter(self) -> pl.Expr:
        """Returns the condition on the rows."""
        wanted = [pl.lit(value=True)]
        if self.q:
            text = self.q.lower()
            inside = [pl.col(name).str.to_lowercase().str.contains(text, literal=True) for name in ("query", "target")]
            wanted.append(pl.any_horizontal(inside).fill_null(value=False))
        if self.language:
            wanted.append(pl.col("language") == self.language)
        if self.label:
            wanted.append(pl.col("label") == int(self.label))
        if self.action:
            wanted.append(pl.col("action") == self.action)
        return pl.all_horizontal(wanted)

    def order(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """Sorts the rows as requested; ties by their id."""
        if self.sort == "query":
            return rows.sort("query", "target", "pair_id")
        doubt = (pl.col("score") - pl.col("label")).abs()
        return rows.sort(doubt, "pair_id", descending=[self.sort == "doubt", False])


@dataclass(frozen=True)
class Found:
    """A page of rows, the number of matching rows (`meant`) and of all rows, and the ledger's languages."""

    rows: list[dict[str, Any]]
    meant: int
    all: int
    languages: Mapping[str, str]

    @property
    def pages(self) -> int:
        """The number of pages that the matching rows make, at least 1."""
        return max(1, -(-self.meant // ROWS))


def look(ledger: pl.LazyFrame, search: Search) -> Found:
    """Returns a page of the ledger; a page after the last one is empty."""
    meant = ledger.filter(search.filter())
    counted = ledger.select(all=pl.len(), languages=pl.col("language").unique().sort().implode())
    page = search.order(meant).slice((search.page - 1) * ROWS, ROWS)
    head, count, rows = pl.collect_all([counted, meant.select(pl.len()), page])
    languages = {code: named(code) for code in head["languages"].to_list()[0] or ()}
    return Found(rows.to_dicts(), count.item(), head["all"].item(), languages)


def as_csv(ledger: pl.LazyFrame, search: Search) -> str:
    """Returns the matching rows as CSV. A text that a spreadsheet would take for a formula gets an apostrophe before it."""
    rows = search.order(ledger.filter(search.filter())).collect()
    text = pl.col(pl.String)
    return rows.with_columns(pl.when(text.str.contains(_FORMULA)).then("'" + text).otherwise(text).name.keep()).write_csv()


def answer(site: Site, request: Request, run: Run, search: Search) -> Response:
    """Answers with the page of the ledger, or with `format=csv` with all matching rows as a file.

    Args:
        site: the pages' surroundings.
        request: of the browser.
        run: whose ledger it is.
        search: the rows to show.

    Raises:
        NotFound: *denoise* is not done.
    """
    ledger = pl.scan_parquet(run.artifact("denoise", search.task, verify=False).path("ledger.parquet"))
    if request.query_params.get("format") == "csv":
        name = f"ledger-{search.task.lower()}.csv"
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(as_csv(ledger, search), media_type="text/csv; charset=utf-8", headers=headers)
    values: dict[str, Any] = {"search": search, "found": look(ledger, search), "sorts": SORTS, "labels": LABELS, "actions": ACTIONS}
    title = f"The filter's ledger of {search.task}"
    values["tasks"] = {task: f"{task} · {TASK_NAMES[task]}" for task in run.settings.tasks}
    return site.page(request, "ledger.html", title=title, run=run, address=f"{root(request)}/run/{quote(run.run_id)}", **values)
