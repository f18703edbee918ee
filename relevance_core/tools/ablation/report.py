"""The report of an ablation: as Markdown, and as a page with its plot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from relevance_core.languages import named
from relevance_core.reporting import plots
from relevance_core.reporting.blocks import Block, Card, Cell, Page, Part, Plot, Section, Table

Figures = Mapping[str, Any]

WORDS: Final = {
    "keep": "worth keeping: the interval of its gain lies above zero",
    "noise": "not told apart from nothing: the interval of its gain holds zero",
    "harm": "it costs F1: the interval of its gain lies below zero",
}
SOURCES: Final = (
    "F1 by rows translated from that language alone, over no translation, on the split's calibration rows of all tasks, which "
    "judge nothing: name in `translate.sources` the languages that help."
)
_COLUMNS: Final = {
    "f1": "F1",
    "macro_f1": "macro-F1",
    "auc": "AUC",
    "false_positive_rate": "false-positive rate",
    "always_yes_f1": "always yes",
}


def markdown(found: Figures) -> str:
    """Renders the tables of an ablation (`figures.figures`) as Markdown, with a line on how to read them."""
    lines = [_about(found), ""]
    for task, of_task in found["tasks"].items():
        lines += [f"### {task}", "", *_table(*_overall(of_task)), ""]
        lines += [*_table(*_by_language(of_task)), ""]
        if of_task["gap"]:
            lines += ["Share of the distance to the trained languages that translation closes:", ""]
            lines += [*_table(*_gap(of_task)), ""]
        lines += [f"- **{name}**: {word}" for name, word in _verdicts(of_task)]
        lines.append("")
    if found["sources"]:
        lines += ["### What each source language gained", "", SOURCES, "", *_table(*_source_table(found["sources"])), ""]
    return "\n".join(lines)


def page(found: Figures) -> Page:
    """Renders the tables of an ablation as a page, with a plot of the gains of each task."""
    cards = [_card(task, of_task) for task, of_task in found["tasks"].items()]
    sections = [Section(task, task, "", [Part("", list(_blocks(of_task)))]) for task, of_task in found["tasks"].items()]
    if found["sources"]:
        table = Table("Source languages", SOURCES, *_source_table(found["sources"]))
        sections.append(Section("sources", "Source languages", "", [Part("", [table])]))
    return Page("What each strategy adds", _about(found), (), cards, sections)


def _about(found: Figures) -> str:
    seeds = f"seed{'s' if len(found['seeds']) > 1 else ''} {', '.join(map(str, found['seeds']))}"
    who = f"the rows of {found['judge']}" if found["judge"] else "the judgement rows of the split"
    spread = "Means over the seeds, with the smallest and the largest in brackets. " if len(found["seeds"]) > 1 else ""
    return (
        f"Rows from {found['source']}; {seeds}; judged on {who}. {spread}"
        "The gain is that of the mean F1 over the row it is compared with, with its 95 % interval over draws of queries"
        + (" and of seeds." if len(found["seeds"]) > 1 else "; one seed says nothing of others.")
    )


def _overall(of_task: Figures) -> tuple[list[str], list[list[str]]]:
    rows = []
    for row in of_task["rows"]:
        rows.append([row["name"], *(_spread(row[name]) for name in _COLUMNS), _gain(row["gain"])])
    return ["row", *_COLUMNS.values(), "gain in F1"], rows


def _by_language(of_task: Figures) -> tuple[list[str], list[list[str]]]:
    languages = sorted({language for row in of_task["rows"] for language in row["per_language"]})
    rows = []
    for row in of_task["rows"]:
        cells = [row["name"]]
        for language in languages:
            figures = row["per_language"].get(language)
            cells.append(
                "–" if figures is None else f"{_mean(figures['f1'])} / {_mean(figures['auc'])}{_mark(figures.get('gain'))}"
            )
        rows.append(cells)
    return ["F1 / AUC", *languages], rows


def _gap(of_task: Figures) -> tuple[list[str], list[list[str]]]:
    rows = [[named(language), _share(shares["f1"]), _share(shares["auc"])] for language, shares in of_task["gap"].items()]
    return ["language", "by F1", "by AUC"], rows


def _source_table(found: Figures) -> tuple[list[str], list[list[str]]]:
    sources = sorted({source for gains in found.values() for source in gains})
    rows = [[named(language), *(_gain(gains.get(source)) for source in sources)] for language, gains in found.items() if gains]
    without = [named(language) for language, gains in found.items() if not gains]
    rows += [[f"{language}: no labelled calibration rows", *("" for _ in sources)] for language in without]
    return ["language", *(f"from {source}" for source in sources)], rows


def _verdicts(of_task: Figures) -> Iterator[tuple[str, str]]:
    for row in of_task["rows"]:
        if row["gain"]:
            yield row["name"], WORDS[row["gain"]["says"]]


def _card(task: str, of_task: Figures) -> Card:
    rows = [row for row in of_task["rows"] if row["source"] is None]
    kept = [row["name"] for row in rows if row["gain"] and row["gain"]["says"] == "keep"]
    last = rows[-1]
    figures = [(_COLUMNS[name], _mean(last[name]), f"{_mean(of_task['rows'][0][name])} in the first row") for name in ("f1", "auc")]
    text = ", ".join(name.removeprefix("+ ") for name in kept) if kept else "no strategy"
    return Card(task, "measured", "good" if kept else "none", [f"Worth keeping: {text}."], figures)


def _blocks(of_task: Figures) -> Iterator[Block]:
    gained = [row for row in of_task["rows"] if row["gain"]]
    if gained:
        labels = [row["name"] for row in gained]
        values = [row["gain"]["gain"] for row in gained]
        intervals = [(row["gain"]["low"], row["gain"]["high"]) for row in gained]
        rows: list[list[Cell]] = [
            [row["name"], row["gain"]["gain"], row["gain"]["low"], row["gain"]["high"], WORDS[row["gain"]["says"]]]
            for row in gained
        ]
        yield Plot(
            "Gain in F1",
            "Each strategy beside the row it is compared with; the bar is the 95 % interval, and one that holds 0 tells nothing.",
            plots.gains(labels, values, intervals),
            ["row", "gain", "low", "high", "what it says"],
            rows,
        )
    yield Table("Figures", "Over all languages.", *_overall(of_task))
    yield Table(
        "By language", "F1 / AUC; ▲ and ▼ mark a gain or a loss in F1 whose interval leaves zero out.", *_by_language(of_task)
    )
    if of_task["gap"]:
        yield Table("New languages", "Share of the distance to the trained languages that translation closes.", *_gap(of_task))


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(headings) + " |", "|---" * len(headings) + "|"]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def _mean(spread: Figures | None) -> str:
    return "–" if spread is None else f"{spread['mean']:.3f}"


def _spread(spread: Figures | None) -> str:
    if spread is None or spread["smallest"] == spread["largest"]:
        return _mean(spread)
    return f"{_mean(spread)} ({spread['smallest']:.3f} to {spread['largest']:.3f})"


def _share(spread: Figures | None) -> str:
    if spread is None:
        return "–"
    text = f"{spread['mean']:.0%}"
    return text if spread["smallest"] == spread["largest"] else f"{text} ({spread['smallest']:.0%} to {spread['largest']:.0%})"


def _gain(gain: Figures | None) -> str:
    return "" if gain is None else f"{gain['gain']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f}){_mark(gain)}"


def _mark(gain: Figures | None) -> str:
    return {"keep": " ▲", "harm": " ▼"}.get(gain["says"], "") if gain else ""
