"""The blocks that a page of the report consists of; the template has one way to show each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Cell = str | int | float | None


@dataclass(frozen=True)
class Plot:
    """A plotly figure (plain JSON values), its message in one sentence, and its values for readers without pictures."""

    title: str
    caption: str
    figure: Mapping[str, Any]
    headings: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    kind: Literal["plot"] = "plot"

    @property
    def key(self) -> list[tuple[str, str, str]]:
        """(name, sign, colour) of each named series, for the page's own legend: plotly's has no room on a phone."""
        return [(trace["name"], *_sign(trace)) for trace in self.figure["data"] if "name" in trace]


def _sign(trace: Mapping[str, Any]) -> tuple[str, str]:
    if "marker" not in trace:
        return "line", trace["line"]["color"]
    marker = trace["marker"]
    return marker.get("symbol", "square" if trace["type"] == "bar" else "circle"), marker.get("color") or marker["line"]["color"]


@dataclass(frozen=True)
class Table:
    """Examples from the data. empty: text shown when there are none."""

    title: str
    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    empty: str = ""
    kind: Literal["table"] = "table"


@dataclass(frozen=True)
class Check:
    """One rule and its outcome in words."""

    passed: bool
    rule: str
    text: str


@dataclass(frozen=True)
class Checks:
    """Rules with their outcomes, failed rules first. folded: passed rules are collapsed under a line that opens."""

    title: str
    checks: Sequence[Check]
    folded: bool = False
    kind: Literal["checks"] = "checks"

    @property
    def failed(self) -> list[Check]:
        """The rules that failed."""
        return [check for check in self.checks if not check.passed]

    @property
    def passed(self) -> list[Check]:
        """The rules that passed."""
        return [check for check in self.checks if check.passed]


@dataclass(frozen=True)
class Facts:
    """A list of names and values."""

    title: str
    facts: Sequence[tuple[str, Cell]]
    kind: Literal["facts"] = "facts"


Block = Plot | Table | Checks | Facts


@dataclass(frozen=True)
class Part:
    """Blocks that belong together; parts of a section stand side by side where there is room."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Section:
    """A section of the page under a heading. name: its anchor."""

    name: str
    title: str
    lead: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Card:
    """The outcome of one task, at the top; `figures` are name, value and reference value."""

    title: str
    word: str
    tone: Literal["good", "wait", "ask", "none"]
    lines: Sequence[str]
    figures: Sequence[tuple[str, str, str]] = ()


@dataclass(frozen=True)
class Page:
    """The whole report. notices: shown first, such as the reason why the run stopped."""

    title: str
    subtitle: str
    notices: Sequence[str]
    cards: Sequence[Card]
    sections: Sequence[Section]
