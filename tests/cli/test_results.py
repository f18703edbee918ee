"""Tables and lines for people: aligned, whole, and plain wherever no terminal shows them."""

from __future__ import annotations

import re
import unicodedata

import pytest

from relevance_core.cli import ablate, cikm, review, shown
from relevance_core.cli.results import Part, Table, cell, plain, rendered, tables_of

LONG = "a reason that takes more than one line of any terminal, " * 10


def text(parts: object) -> str:
    assert hasattr(parts, "__iter__")
    return "".join(rendered(part, False) for part in parts)


def test_columns_stand_under_their_names() -> None:
    """Numbers end where their name ends, fractions have four digits, texts begin where their name begins, None is a dash."""
    table = Table(("task", "rows", "F1", "why"), [("QC", 12, 0.5, "x"), ("QI", 3456, None, "yy")])
    assert rendered(table, False) == "task  rows      F1  why\nQC      12  0.5000  x\nQI    3456       –  yy\n"


def test_wide_letters_keep_the_columns() -> None:
    """Japanese takes two columns a letter: the next column begins at the same place in every row."""
    lines = rendered(Table(("query", "label"), [("赤い靴", "yes"), ("red shoes", "no")]), False).splitlines()
    wide = [
        sum(2 if unicodedata.east_asian_width(sign) == "W" else 1 for sign in re.split(r"(?<=  )(?=\S+$)", line)[0])
        for line in lines
    ]
    assert wide == [11, 11, 11]  # fmt: skip


def test_nothing_is_cut_where_no_terminal_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row is a line, however long, whatever the terminal's width is said to be; no line ends in blanks or has a colour."""
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    out = rendered(Table(("why", "at"), [(LONG, "now"), ("short", "then")], frozenset(("why",))), False)
    assert len(out.splitlines()) == 3
    assert LONG + "  now" in out.replace(LONG.rstrip() + "   ", LONG + "  ")
    assert not re.search(r"\x1b| $", out, re.MULTILINE)


def test_a_terminal_breaks_long_texts_and_cuts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 40 columns: the long text goes over many lines, its words all there; an id that is wider than all stays whole."""
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    out = rendered(Table(("version", "why"), [("0123456789abcdef", LONG)], frozenset(("why",))), True)
    seen = re.sub(r"\x1b\[[\d;]*m", "", out)
    assert "\x1b[1m" in out
    assert len(seen.splitlines()) > 10
    assert max(map(len, seen.splitlines())) <= 40
    assert " ".join(seen.split()[3:]) == LONG.strip()
    wide = re.sub(r"\x1b\[[\d;]*m", "", rendered(Table(("a", "b"), [("x" * 50, "y" * 50)]), True))
    assert f"{'x' * 50}  {'y' * 50}\n" in wide


@pytest.mark.parametrize("terminal", [True, False])
def test_a_text_commands_no_terminal(terminal: bool) -> None:
    """Escapes, bells, line feeds and marks of direction of a query log are written out; markup of the library is text."""
    hostile = "\x1b[31mred\x07\n\u202e[bold]:smile:"
    assert plain(hostile) == "\\x1b[31mred\\x07\\n\\u202e[bold]:smile:"
    assert plain(hostile) in rendered(Table(("query",), [(hostile,)]), terminal)
    assert rendered("a\x1b[2J\nb", terminal) == "a\\x1b[2J\nb\n"


@pytest.mark.parametrize(("value", "shows"), [(None, "–"), (True, "yes"), (False, "no"), (2, "2"), (0.25, "0.2500"), ("é", "é")])
def test_a_cell(value: object, shows: str) -> None:
    """Values as people read them."""
    assert cell(value) == shows


def test_a_markdown_table_is_a_table() -> None:
    """Lines stay lines, the table's rows become cells, its rule is gone."""
    parts = list(tables_of("### QC\n\n| row | F1 | gain |\n|---|---|---|\n| SFT | 0.81 |  |\n"))
    assert parts == ["### QC", "", Table(["row", "F1", "gain"], [["SFT", "0.81", ""]]), ""]


FIGURES = {"rows": 4, "positives": 2, "f1": 0.8, "precision": 2 / 3, "recall": 1.0, "auc": None, "always_yes_f1": 2 / 3}


def night(**changes: object) -> dict[str, object]:
    about = {"verdict": "publish", "version": "0a1b", "promoted": True, "f1": 0.9, "always_yes_f1": 0.8, "why": ""} | changes
    rows = {"ingest": {"in": 10, "made": 0, "kept": 9, "quarantined": 0, "dropped": 1}}
    return {"run_id": "r1", "tasks": {"QC": about}, "rows": rows, "report": "file:///report.html"}


def test_the_result_of_retrain() -> None:
    """The run, verdict and F1 of each task, rows by stage, and the report's address as the last line."""
    lines = text(shown.retrain(night())).splitlines()
    assert lines[0] == "run r1"
    assert lines[2].split("  ")[0] == "task"
    assert lines[3].split() == ["QC", "publish", "0a1b", "yes", "0.9000", "0.8000"]
    assert lines[6].split() == ["ingest", "10", "0", "9", "0", "1"]
    assert lines[-1] == "report: file:///report.html"


@pytest.mark.parametrize(
    ("verdict", "promoted", "told"), [("needs-approval", False, True), ("needs-approval", True, False), ("hold", False, False)]
)
def test_the_result_says_how_to_approve(verdict: str, promoted: bool, told: bool) -> None:
    """`relevance retrain` asks nobody: it names the command that lets the version serve, where that is left to a person."""
    out = text(shown.retrain(night(verdict=verdict, promoted=promoted, why="evidence in de")))
    assert ("relevance registry promote QC=0a1b --why" in out) is told
    assert "evidence in de" in out


def test_the_result_of_a_dry_run_has_no_task() -> None:
    """Rows and the report alone."""
    out = text(shown.retrain(night() | {"tasks": {}}))
    assert "verdict" not in out
    assert "ingest" in out


def test_the_result_of_a_stage() -> None:
    """Its rows, its plain figures, and its address; nested figures are left to --json. Of begin: the run and its champions."""
    rows = {"in": 3, "made": 1, "kept": 3, "quarantined": 0, "dropped": 0}
    figures = {"threshold": 0.4, "role": "champion", "per_language": {"de": {}}, "count": 7, "empty": ""}
    result = {"stage": "mine", "task": "QC", "found": True, "rows": rows, "figures": figures, "address": "stages/mine-qc/1"}
    lines = text(shown.stage(result)).splitlines()
    assert lines[1].split() == ["mine", "QC", "found", "3", "1", "3", "0", "0"]
    assert [line.split() for line in lines[4:7]] == [["threshold", "0.4000"], ["role", "champion"], ["count", "7"]]
    assert lines[-1] == "output: stages/mine-qc/1"
    assert "per_language" not in lines
    begun = {"run_id": "r1", "tasks": ["QC", "QI"], "champion": {"QC": "0a1b"}, "onboarded": ["de", "it"], "plan": {}}
    assert [line.split() for line in text(shown.stage(begun)).splitlines()] == [
        ["run", "r1"], ["task", "champion", "onboarded"], ["QC", "0a1b", "de", "it"], ["QI", "–", "de", "it"],
    ]  # fmt: skip


def test_the_result_of_evaluate() -> None:
    """F1 over all rows, by language, and over queries that the version has not seen."""
    about = {"task": "QC", "version": "0a1b", "role": "champion", "threshold": 0.4, "per_language": {"es": FIGURES}}
    lines = text(shown.evaluate(FIGURES | about | {"unseen": FIGURES | {"f1": 0.5}})).splitlines()
    assert lines[0] == "QC 0a1b (champion) at the threshold 0.4000"
    assert lines[2].split() == ["all", "4", "2", "0.8000", "0.6667", "1.0000", "–", "0.6667"]
    assert [line.split()[0] for line in lines[2:]] == ["all", "es", "unseen"]
    assert "0.5000" in lines[4]
    assert len(text(shown.evaluate(FIGURES | about | {"unseen": None})).splitlines()) == 4


def test_the_results_of_the_other_commands() -> None:
    """Each says in words or a table what its JSON says."""
    decided, file = "1 relevant at the threshold 0.4000", "written: o.csv"
    healthy = {"endpoint": "http://h", "base": "b", "adapters": ["x"]}
    scored = {"task": "QC", "version": "0a1b", "role": "champion", "threshold": 0.4, "rows": 1, "relevant": 1, "output": "o.csv"}
    expected: list[tuple[object, list[str]]] = [
        (shown.score(scored), ["1 pair of QC scored by 0a1b (champion)", decided, file]),
        (cikm.shown_predicted(scored), ["1 row of QC answered by 0a1b (champion)", decided, file]),
        (shown.report({"report": "file:///r.html"}), ["file:///r.html"]),
        (shown.simulate({"days": 1, "logs": 30}), ["simulated  number", "days            1", "logs           30"]),
        (shown.ready(healthy), ["http://h is healthy, with the base b", "adapter", "x"]),
        (review.shown_export({"rows": 2, "file": "q.csv"}), ["2 rows written to q.csv"]),
        (
            review.shown_import({"who": "ann", "decided": 2, "yes": 0, "no": 1, "keep": 1, "empty": 3}),
            ["who  decided  yes  no  keep  empty", "ann        2    0   1     1      3"],
        ),
    ]  # fmt: skip
    for parts, lines in expected:
        assert text(parts).splitlines() == lines


def test_the_result_of_a_check() -> None:
    """The submissions that are right; with labels, F1 by language and the average of both tasks."""
    right = {"submission": "s.txt", "rows": 4, "relevant": 2}
    assert text(cikm.shown_checked({"tasks": {"QC": right}, "average_f1": None})).splitlines() == [
        "task  submission  rows  answered 1", "QC    s.txt          4           2",
    ]  # fmt: skip
    judged = {"QC": right | FIGURES | {"per_language": {"es": FIGURES}}}
    lines = text(cikm.shown_checked({"tasks": judged, "average_f1": 0.75})).splitlines()
    assert [line.split()[:4] for line in lines[3:6]] == [
        ["QC", "rows", "relevant", "F1"],
        ["all", "4", "2", "0.8000"],
        ["es", "4", "2", "0.8000"],
    ]
    assert lines[-1] == "average of the F1 of both tasks: 0.7500"  # fmt: skip


def test_the_result_of_an_ablation() -> None:
    """The tables of ablation.md, aligned."""
    spread = {"mean": 0.8, "smallest": 0.8, "largest": 0.8}
    measured = dict.fromkeys(("f1", "macro_f1", "auc", "false_positive_rate", "always_yes_f1"), spread)
    row = {"name": "SFT", "source": None, "rows": 9, "gain": None, "per_language": {"es": measured}} | measured
    found = {"seeds": [1], "source": "shop", "judge": "", "sources": {}, "tasks": {"QC": {"rows": [row], "gap": {}}}}
    lines = text(ablate.shown(found)).splitlines()
    (header,) = (line for line in lines if line.startswith("row"))
    values = lines[lines.index(header) + 1]
    assert "|" not in header + values
    assert values.startswith("SFT  ")
    assert values.index("0.8") == re.search(r"\S", header[3:]).start() + 3  # type: ignore[union-attr]  # there is a second column


def test_every_part_is_text_or_a_table() -> None:
    """What a command shows can be rendered, and nothing is left of a result without lines."""
    parts: list[Part] = list(shown.nothing({"status": 0}))
    assert parts == []
