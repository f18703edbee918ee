"""`relevance check`: stdout, JSON, exit codes. `evaluate` and `score` read their file by the settings of the source."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from relevance_core.registry import Registry
from relevance_core.stages import evaluate
from relevance_core.store import Store
from tests.support.command_cases import published, run
from tests.support.pair_cases import many, row, write_rows


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Twenty sound rows, a row of a wrong label, and a file that is no log."""
    folder = tmp_path / "shop/dt=2026-10-14"
    write_rows(folder / "a.jsonl", [*many(20), row("shoes", label=7)])
    (folder / "b.csv").write_text("task;language;query;target;label;colour\nQC;en;coat;coats;1;red\n")
    (folder / "notes.txt").write_text("by hand")
    return tmp_path / "shop"


def test_a_source_that_a_run_reads(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tables of the files, the skipped files, the counts and the broken rules are the result; the status is 0."""
    done = run(capsys, "check", "--source", str(shop))
    assert (done.code, done.err) == (0, "")
    lines = [line.split() for line in done.out.splitlines()]
    assert done.out.splitlines()[0] == f"{shop}: 2 files read, 1 skipped, 0 refused"
    assert lines[1:] == [
        ["file", "read", "as", "rows", "unread", "quarantined", "columns", "not", "read"],
        ["dt=2026-10-14/a.jsonl", "jsonl", "utf-8", "21", "0", "1"],
        ["dt=2026-10-14/b.csv", "csv", "utf-8", ";", "1", "0", "0", "colour"], [],
        ["skipped", "reason"],
        ["dt=2026-10-14/notes.txt", "its", "ending", ".txt", "is", "not", "read"], [],
        ["task", "language", "rows", "label_1", "label_0", "quarantined"],
        ["QC", "en", "22", "11", "10", "1"], [],
        ["broken", "rule", "rows", "for", "example", "value"],
        ["label_in_0_1", "1", "dt=2026-10-14/a.jsonl,", "line", "21", "shoes"], [],
        ["a", "run", "reads", "this", "source"],
    ]  # fmt: skip


def test_a_source_at_which_a_run_stops(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The findings are on stdout all the same, each reason a line; the first is the error and the status that of a run, 65."""
    (shop / "dt=2026-10-14/c.csv").write_text("task,language,query,target,verdikt\nQC,de,rot,mode,1\n")
    (shop / "dt=2026-10-14/d.csv").write_text("task,language,query,target,label\nQC,de,rot\n")
    done = run(capsys, "check", "--source", str(shop))
    assert done.code == 65
    assert done.out.splitlines()[0].endswith(": 3 files read, 1 skipped, 1 refused")
    reasons = [line for line in done.out.splitlines() if line.startswith("stops a run: ")]
    assert [reason.split("; ")[0] for reason in reasons] == [
        "stops a run: 3 values, the header has 5",
        "stops a run: the file has no column label",
    ]
    assert reasons[1].endswith('what to do: set source.columns={"verdikt": "label"}, or write the column into the file')
    assert "reads this source" not in done.out
    assert done.err.startswith("relevance check: a run stops at this source: 3 values, the header has 5, and 1 more reason above; ")
    assert done.err.count("\n") == 1


def test_the_findings_as_json(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --json the object is on stdout whether a run reads the source or stops at it; nothing at the address leaves it empty."""
    for extra, code in (("", 0), ("QC,en,cut\n", 65)):
        if extra:
            (shop / "dt=2026-10-14/c.csv").write_text("task,language,query,target,label\n" + extra)
        done = run(capsys, "check", "--source", str(shop), "--json")
        found = json.loads(done.out)
        assert (done.code, found["ready"], len(found["stops"])) == (code, not code, int(bool(code)))
        assert found["rows"] == {"read": 22, "valid": 21, "quarantined": 1}
    done = run(capsys, "check", "--source", str(shop / "misspelt"), "--json")
    assert (done.code, done.out) == (66, "")


def test_a_check_needs_no_store(shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a store the check runs, and writes nothing beside the source."""
    monkeypatch.delenv("RELEVANCE_STORE", raising=False)
    before = sorted(shop.rglob("*"))
    assert run(capsys, "check", "--source", str(shop)).code == 0
    assert sorted(shop.rglob("*")) == before


def test_a_long_source_is_cut_on_the_terminal_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of 60 files 50 are shown and 10 counted; the JSON has all."""
    for number in range(60):
        write_rows(tmp_path / f"dt=2026-10-14/{number:02}.jsonl", [row(f"query {number}")])
    done = run(capsys, "check", "--source", str(tmp_path))
    assert "\nand 10 more; --json lists all\n" in done.out
    assert "59.jsonl" not in done.out
    assert len(json.loads(run(capsys, "check", "--source", str(tmp_path), "--json").out)["files"]) == 60


@pytest.fixture
def scored(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store with a version of QC whose model says 0.9 to every row."""
    monkeypatch.setenv("RELEVANCE_STORE", store.uri.removeprefix("file://"))
    published(Registry(store), tmp_path)
    monkeypatch.setattr(evaluate, "score_with", lambda store, version, rows, *_: pl.Series([0.9] * rows.height))
    return store


OWN = (
    "--set", 'source.columns={"suche": "query", "kategorie": "target", "urteil": "label"}',
    "--set", "source.encoding=cp1252",
)  # fmt: skip


def test_a_file_is_judged_by_the_settings_of_the_source(scored: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file in cp1252 with columns of its own is refused without the settings, and measured and scored with them."""
    data, output = tmp_path / "own.csv", tmp_path / "scores.csv"
    data.write_bytes("language;suche;kategorie;urteil\nde;töpfe;küche;1\nde;rot;mode;1\n".encode("cp1252"))
    evaluated = ("evaluate", "--task", "QC", "--data", str(data))
    written = ("score", "--task", "QC", "--input", str(data), "--output", str(output))
    for command in (evaluated, written):
        refused = run(capsys, *command)
        assert refused.code == 65
        assert "source.encoding" in refused.last
    found = json.loads(run(capsys, *evaluated, *OWN, "--json").out)
    assert (found["rows"], found["f1"]) == (2, 1.0)
    assert run(capsys, *written, *OWN).code == 0
    assert pl.read_csv(output)["query"].to_list() == ["töpfe", "rot"]


def test_a_file_is_judged_by_the_labels_of_the_source(scored: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Labels E and C and the locale us are read by the mappings of the settings: one relevant row of two, in English."""
    data = tmp_path / "own.csv"
    data.write_text("language,query,target,label\nus,red shoe,shoes,E\nus,red shoe,coats,C\n")
    mappings = ("--set", 'source.labels={"E": 1, "C": 0}', "--set", 'source.languages={"us": "en"}')
    found = json.loads(run(capsys, "evaluate", "--task", "QC", "--data", str(data), *mappings, "--json").out)
    assert (found["rows"], found["positives"], list(found["per_language"])) == (2, 1, ["en"])


def _lines(*rows: dict[str, object]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


ROWS = [row("red shoe", "shoes", 1), row("red shoe", "coats", 0)]
CSV = "task,language,query,target,label\nQC,en,red shoe,shoes,1\nQC,en,red shoe,coats,0\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.tsv", CSV.replace(",", "\t")),
        ("a.json", _lines(*ROWS)),
        ("a.JSONL", _lines(*ROWS)),
        ("export (1).csv", CSV),
        ("rows[1].jsonl", _lines(*ROWS)),
        ("semicolons.csv", CSV.replace(",", ";")),
        ("upper.csv", CSV.replace("task,language,query,target,label", "TASK,LANGUAGE,QUERY,TARGET,LABEL")),
        ("floats.csv", CSV.replace(",1\n", ",1.0\n").replace(",0\n", ",0.0\n")),
    ],
)
def test_every_row_of_a_file_is_evaluated(
    scored: Store, tmp_path: Path, name: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever its ending, name, delimiter and the case of its columns, both rows are measured: always yes has F1 2/3."""
    (tmp_path / name).write_text(text)
    found = json.loads(run(capsys, "evaluate", "--task", "QC", "--data", str(tmp_path / name), "--json").out)
    assert (found["rows"], round(found["f1"], 4)) == (2, 0.6667)


def test_both_files_of_a_folder_are_evaluated_and_scored(scored: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two Parquet files, one with its columns in capitals, are one data set of four rows in the files' order."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    pl.DataFrame(ROWS).write_parquet(folder / "a.parquet")
    capitals = pl.DataFrame([row("coat", "coats", 1), row("hat", "hats", 0)])
    capitals.rename(str.upper).write_parquet(folder / "b.PARQUET")
    found = json.loads(run(capsys, "evaluate", "--task", "QC", "--data", str(folder), "--json").out)
    assert found["rows"] == 4
    output = tmp_path / "out.jsonl"
    assert run(capsys, "score", "--task", "QC", "--input", str(folder), "--output", str(output)).code == 0
    assert pl.read_ndjson(output)["query"].to_list() == ["red shoe", "red shoe", "coat", "hat"]


def test_a_file_of_a_folder_without_a_column_is_named(scored: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One of two files lacks the query under any known name: nothing is measured or scored, and the file is named."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    pl.DataFrame(ROWS).write_parquet(folder / "a.parquet")
    pl.DataFrame(ROWS).rename({"query": "searched"}).write_parquet(folder / "b.parquet")
    output = tmp_path / "out.jsonl"
    for command in (("evaluate", "--data", str(folder)), ("score", "--input", str(folder), "--output", str(output))):
        done = run(capsys, *command, "--task", "QC")
        assert (done.code, done.out) == (65, "")
        assert "the file has no column query; where: b.parquet; " in done.last
    assert not output.exists()


def test_a_list_is_no_target(scored: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A target that is a list can't be read: the command ends with 65 and names file and row."""
    data = tmp_path / "list.parquet"
    pl.DataFrame([row(target=["shoes", "red"]), row(target=["coats"])]).write_parquet(data)
    done = run(capsys, "evaluate", "--task", "QC", "--data", str(data))
    assert done.code == 65
    assert "2 of 2 rows can't be used, the first in line 1: target=['shoes', 'red']; where: " in done.last


@pytest.mark.parametrize("command", [("retrain", "--dry-run"), ("check",)])
def test_an_end_with_a_time_needs_a_zone(
    shop: Path, tmp_path: Path, command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """A time without a zone is refused with status 2; it is not cut off in silence."""
    name, *more = command
    done = run(capsys, name, "--source", str(shop), "--window-end", "2026-10-15T12:00", *more)
    assert (done.code, done.out) == (2, "")
    assert "'2026-10-15T12:00' is a time without a zone; where: --window-end; expected: YYYY-MM-DD" in done.err


def test_an_end_with_a_zone_is_meant_as_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Midnight in Tokyo is 15:00 UTC of the day before: of three rows around it and a day earlier, one is dropped as later."""
    times = ["2026-10-13T15:00:00", "2026-10-14T14:59:59", "2026-10-14T15:00:00"]
    source = write_rows(tmp_path / "a.jsonl", [row(f"query {n}", event_time=time) for n, time in enumerate(times)])
    window = ("--source", str(source), "--window-end", "2026-10-15T00:00:00+09:00")
    calm = ("--set", "validation.max_positive_rate=1", "--tasks", "QC")
    done = run(capsys, "retrain", *window, *calm, "--store", str(tmp_path / "store"), "--dry-run", "--json")
    assert done.code == 0, done.err
    rows = json.loads(done.out)["rows"]["ingest"]
    assert (rows["in"], rows["kept"], rows["dropped"]) == (3, 2, 1)
    assert run(capsys, "check", *window).code == 0
