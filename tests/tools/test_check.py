"""`relevance check`: what it says of each file and row of a source, and that it stops where a run does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relevance_core import config
from relevance_core.errors import DataError, NotFound, SettingsError
from relevance_core.store import Store
from relevance_core.tools.check import check_source, verdict
from tests.support.pair_cases import many, row, settings_for, validated, write_rows

HEADER = "task,language,query,target,label,event_time\n"
LINE = "QC,en,{},shoes,{},2026-10-14T09:00:00\n"


def _csv(path: Path, lines: str, header: str = HEADER) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(header + lines)
    return path


def _checked(source: Path, *more: str) -> dict[str, Any]:
    return check_source(config.load(None, [f"source.uri={source}", *more]))


def _file(found: dict[str, Any], name: str) -> dict[str, Any]:
    (entry,) = [entry for entry in found["files"] if entry["file"] == name]
    return dict(entry)


def test_a_sound_source_is_told_file_by_file(tmp_path: Path) -> None:
    """Of three listed files two are read, with form and rows, and one is skipped with its reason; nothing stops a run."""
    _csv(tmp_path / "logs/dt=2026-10-13/a.csv", LINE.format("red", 1) + LINE.format("blue", 0))
    write_rows(tmp_path / "logs/dt=2026-10-14/b.ndjson", [row(extra="x"), row("coat", language="de", label=0)])
    (tmp_path / "logs/dt=2026-10-14/notes.txt").write_text("by hand")
    found = _checked(tmp_path)
    assert [(entry["file"], entry["why"], entry["rows"]) for entry in found["files"]] == [
        ("logs/dt=2026-10-13/a.csv", None, 2),
        ("logs/dt=2026-10-14/b.ndjson", None, 2),
        ("logs/dt=2026-10-14/notes.txt", "its ending .txt is not read", 0),
    ]
    csv = _file(found, "logs/dt=2026-10-13/a.csv")
    assert (csv["format"], csv["encoding"], csv["delimiter"], csv["day"]) == ("csv", "utf-8", ",", "2026-10-13")
    assert _file(found, "logs/dt=2026-10-14/b.ndjson")["ignored"] == "extra"
    assert found["rows"] == {"read": 4, "valid": 4, "quarantined": 0}
    assert found["counts"] == [
        {"task": "QC", "language": "de", "rows": 1, "label_1": 0, "label_0": 1, "quarantined": 0},
        {"task": "QC", "language": "en", "rows": 3, "label_1": 2, "label_0": 1, "quarantined": 0},
    ]
    assert (found["stops"], found["refused"], found["rules"], found["ready"]) == ([], [], [], True)
    assert verdict(found) is None


def test_a_wrong_column_is_named_with_the_setting_that_mends_it(tmp_path: Path) -> None:
    """A file with `verdikt` for `label` stops: the check names both, and with the setting that it gives nothing stops."""
    _csv(tmp_path / "dt=2026-10-14/de.csv", LINE.format("rot", 1) * 2, HEADER.replace("label", "verdikt"))
    found = _checked(tmp_path, "validation.max_quarantine_share=1")
    (stop,) = found["stops"]
    assert stop == {
        "what": "the file has no column label; it has verdikt",
        "where": "dt=2026-10-14/de.csv",
        "expected": "label: label, in capitals or not",
        "do": 'set source.columns={"verdikt": "label"}, or write the column into the file',
    }
    assert not found["ready"]
    given = stop["do"].removeprefix("set ").removesuffix(", or write the column into the file")
    assert _checked(tmp_path, given)["ready"]


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        (("task",), 'set source.task=QC (or QI), or source.columns={"ITS TASK": "task"}, or write'),
        (("query", "label"), 'set source.columns={"ITS QUERY": "query", "ITS LABEL": "label"}, or write'),
        (("task", "label"), 'set source.task=QC (or QI), source.columns={"ITS LABEL": "label"}, or write'),
    ],
)
def test_several_wrong_columns_are_named(tmp_path: Path, gone: tuple[str, ...], told: str) -> None:
    """All missing columns stand in one reason, with a place for each name of the file; `source.task` gives the task."""
    write_rows(tmp_path / "dt=2026-10-14/a.jsonl", [{key: value for key, value in row().items() if key not in gone}])
    stop = _checked(tmp_path)["stops"][0]
    assert stop["what"] == f"the file has no column {', '.join(gone)}; it has no other column"
    assert stop["do"].startswith(told)


def test_a_refused_file_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    """One file of two has a line of too few values: the check names its line and the setting, and reads the other file."""
    _csv(tmp_path / "dt=2026-10-14/a.csv", LINE.format("red", 1) + "QC,en,cut\n")
    write_rows(tmp_path / "dt=2026-10-14/b.jsonl", [row()])
    found = _checked(tmp_path)
    (stop,) = found["stops"]
    assert found["refused"] == ["dt=2026-10-14/a.csv"]
    assert stop["where"].endswith("a.csv, line 3")
    assert "set source.bad_rows to quarantine" in stop["do"]
    assert found["rows"] == {"read": 1, "valid": 1, "quarantined": 0}
    assert [entry["file"] for entry in found["files"]] == ["dt=2026-10-14/b.jsonl"]


def test_an_unplaced_partition_is_named(tmp_path: Path) -> None:
    """A file under dt=2026-10-14-09 may hold rows of the window: it stops a run, by its name."""
    write_rows(tmp_path / "dt=2026-10-14/a.jsonl", [row()])
    write_rows(tmp_path / "dt=2026-10-14-09/b.jsonl", [row("late")])
    found = _checked(tmp_path)
    (stop,) = found["stops"]
    assert stop["what"] == "the file dt=2026-10-14-09/b.jsonl has no day: dt=2026-10-14-09 is no day"
    assert _file(found, "dt=2026-10-14-09/b.jsonl")["why"] == "unplaced: dt=2026-10-14-09 is no day"


def test_rows_in_quarantine_have_their_place(tmp_path: Path) -> None:
    """Two rows of 20 break a rule, a tenth: each has its file and line, and a run reads on; the third is a tenth too many."""
    rows = many(18)
    write_rows(tmp_path / "dt=2026-10-14/a.jsonl", [*rows[:9], row("wrong", label=7), *rows[9:]])
    write_rows(tmp_path / "dt=2026-10-14/b.jsonl", [row("bad", label="?")])
    found = _checked(tmp_path)
    assert found["rows"] == {"read": 20, "valid": 18, "quarantined": 2}
    assert found["rules"] == [
        {
            "rule": "label_in_0_1",
            "rows": 1,
            "examples": [{"file": "dt=2026-10-14/a.jsonl", "line": 10, "why": "", "query": "wrong"}],
        },
        {
            "rule": "values_readable",
            "rows": 1,
            "examples": [{"file": "dt=2026-10-14/b.jsonl", "line": 1, "why": "label=?", "query": "bad"}],
        },
    ]
    assert found["ready"]
    write_rows(tmp_path / "dt=2026-10-14/c.jsonl", [row("none", label="maybe")])
    (stop,) = _checked(tmp_path)["stops"]
    assert stop["what"] == "3 of 21 fresh rows break a rule"
    assert stop["expected"] == "validation.max_quarantine_share, 0.1, or less"


def test_few_examples_of_a_rule_are_shown(tmp_path: Path) -> None:
    """Of five rows that break one rule the first three are examples; all five are counted."""
    write_rows(tmp_path / "dt=2026-10-14/a.jsonl", [row(f"wrong {n}", label=7) for n in range(5)])
    (rule,) = _checked(tmp_path)["rules"]
    assert (rule["rows"], [example["line"] for example in rule["examples"]]) == (5, [1, 2, 3])


def test_a_window_judges_its_own_rows(tmp_path: Path) -> None:
    """A bad day of the history stops no run of the next day; a window without a row does, and a day outside is skipped."""
    write_rows(tmp_path / "dt=2026-10-12/a.jsonl", [row(label=7, event_time="2026-10-12")])
    write_rows(tmp_path / "dt=2026-10-14/a.jsonl", [row()])
    assert not _checked(tmp_path)["ready"]
    assert _checked(tmp_path, "window.end=2026-10-15")["ready"]
    found = _checked(tmp_path, "window.end=2026-10-14")
    assert [stop["what"] for stop in found["stops"]] == ["there are 0 fresh rows"]
    assert _file(found, "dt=2026-10-14/a.jsonl")["why"] == "its day lies outside the window and its history"


def _wrong_column(folder: Path) -> None:
    _csv(folder / "dt=2026-10-14/a.csv", LINE.format("rot", 1), HEADER.replace("label", "verdikt"))


def _bad_line(folder: Path) -> None:
    _csv(folder / "dt=2026-10-14/a.csv", LINE.format("red", 1) + "QC,en,cut\n")


def _no_day(folder: Path) -> None:
    write_rows(folder / "dt=2026-10-14-09/b.jsonl", [row("late")])


def _bad_rows(folder: Path) -> None:
    write_rows(folder / "dt=2026-10-14/a.jsonl", [row(label=7)] * 4)


def _repeated_bad_rows(folder: Path) -> None:
    write_rows(folder / "dt=2026-10-14/a.jsonl", [row("wrong", label=7)] * 40)


def _history_alone(folder: Path) -> None:
    _csv(folder / "dt=2026-10-12/a.csv", "QC,en,q,shoes,1,2026-10-12\n", HEADER.replace("label", "verdikt"))


@pytest.mark.parametrize("damage", [None, _wrong_column, _bad_line, _no_day, _bad_rows, _repeated_bad_rows, _history_alone])
def test_the_check_stops_where_the_run_does(tmp_path: Path, store: Store, damage: Any) -> None:
    """For a window, `ready` is what *ingest* and *validate* say of the same source, whatever is wrong with it."""
    write_rows(tmp_path / "dt=2026-10-14/sound.jsonl", many(20))
    if damage:
        damage(tmp_path)
    settings = settings_for(tmp_path, "validation.max_rows_of_mean=100")
    try:
        stopped = validated(settings, store).report.failure is not None
    except DataError:
        stopped = True
    assert check_source(settings)["ready"] is not stopped


def test_what_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    """A place without logs and settings without a source are the errors of a run."""
    (tmp_path / "notes.txt").write_text("no rows")
    with pytest.raises(NotFound, match=r"there are no logs, every file is skipped"):
        _checked(tmp_path)
    with pytest.raises(SettingsError, match="no source is given"):
        check_source(config.load(None, []))


def test_the_first_reason_is_the_error(tmp_path: Path) -> None:
    """The error of the check has the first reason's place and advice, and counts the others."""
    _bad_line(tmp_path)
    _no_day(tmp_path)
    _bad_rows(tmp_path)
    error = verdict(_checked(tmp_path))
    assert isinstance(error, DataError)
    assert error.exit_code == 65
    assert error.what.startswith("a run stops at this source: ")
    assert error.what.endswith("and 2 more reasons above")
    assert error.where.endswith("a.csv, line 3")
