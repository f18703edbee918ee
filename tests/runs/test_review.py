"""The review queue: what waits, what a decision is, what the next run makes of it, and the file that people fill in."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from relevance_core import pairs
from relevance_core.cli.main import main
from relevance_core.cli.review import SHEET, read_sheet, write_sheet
from relevance_core.config import Settings
from relevance_core.errors import DataError, NotFound, SettingsError
from relevance_core.loop import run_stage
from relevance_core.reporting.blocks import Table
from relevance_core.reporting.sections import build_page
from relevance_core.runs import review
from relevance_core.runs.artifacts import Artifact
from relevance_core.runs.run import open_run, pin
from relevance_core.runs.stage import Inputs, output_key
from relevance_core.stages import ingest, split, validate
from relevance_core.stages.denoise import stage as denoise
from relevance_core.store import Store
from tests.support.pair_cases import ingested, output, row, settings_for, write_rows
from tests.support.review_cases import DEV, TRAIN, finished, listed
from tests.support.stage_cases import artifact, log

NOON = "2026-10-02T12:00:00+00:00"


def decision(pair: Mapping[str, Any], label: int | None = 0, at: str = NOON, **changed: Any) -> review.Decision:
    """A decision of ann's on a row of the queue."""
    given = {name: pair[name] for name in ("pair_id", "language", "query", "target")}
    return review.Decision(**({"task": "QC", "was": pair["label"], "label": label, "who": "ann", "at": at} | given | changed))


def held(store: Store) -> list[tuple[str, int | None, str]]:
    """The decisions that hold, by query."""
    return review.decisions(store).sort("query").select("query", "label", "who").rows()


def test_the_queue_is_what_the_newest_filter_lists_for_review(store: Store) -> None:
    """Rows of the newest run with action review, the most doubtful first: a 0 scored 0.95 before a 1 scored 0.2; nothing older."""
    finished(store, "2026-10-01-f", [listed(TRAIN[5], 0.0)])
    rows = [listed(TRAIN[0], 0.2), listed(TRAIN[1], 0.95, label=0), listed(TRAIN[2], 0.01, action="drop")]
    finished(store, "2026-10-02-0", rows)
    found = review.queue(store, "QC")
    assert found.select("query", "label", "score", "run_id").rows() == [
        (TRAIN[1], 0, 0.95, "2026-10-02-0"),
        (TRAIN[0], 1, 0.2, "2026-10-02-0"),
    ]
    assert dict(found.schema) == review.QUEUE
    assert review.queue(store, "QI").is_empty()


def test_a_decided_pair_leaves_the_queue_whatever_was_decided(store: Store) -> None:
    """Relevant, not relevant and keep: none of the three rows waits any more, the fourth does."""
    ids = finished(store, "2026-10-02-0", [listed(query, 0.1) for query in TRAIN[:4]])
    review.answer(store, {"QC": dict(zip(ids, ("yes", "no", "keep"), strict=False))}, "ann")
    assert review.queue(store, "QC")["query"].to_list() == [TRAIN[3]]
    assert held(store) == [(TRAIN[0], 1, "ann"), (TRAIN[1], 0, "ann"), (TRAIN[2], None, "ann")]


def test_the_latest_decision_holds_and_none_is_lost(store: Store) -> None:
    """Of three decisions the one with the latest time holds, whatever zone it was written in and whenever it was recorded."""
    pair = listed(TRAIN[0], 0.1)
    finished(store, "2026-10-02-0", [pair])
    review.decide(store, [decision(pair, 1, "2026-10-02T14:30:00+02:00", who="bob")])
    review.decide(store, [decision(pair, None, "2026-10-02T13:00:00+00:00", who="eve")])
    review.decide(store, [decision(pair, 0, NOON)])
    assert held(store) == [(TRAIN[0], None, "eve")]
    assert review.history(store)["who"].to_list() == ["ann", "bob", "eve"]
    assert review.decisions(store, review.names(store)[:2])["who"].to_list() == ["bob"]
    assert review.decisions(store, ()).is_empty()


def test_the_same_decisions_are_one_object(store: Store) -> None:
    """Recording the same again adds nothing; nothing at all writes nothing."""
    pair = listed(TRAIN[0], 0.1)
    finished(store, "2026-10-02-0", [pair])
    review.decide(store, [])
    assert review.names(store) == []
    for _ in range(2):
        review.decide(store, [decision(pair)])
    (name,) = review.names(store)
    assert name.startswith("20261002T120000000000Z-")


@pytest.mark.parametrize(
    ("changed", "kind", "words"),
    [
        ({"label": 2}, SettingsError, "the label 2 can't be decided"),
        ({"who": " "}, SettingsError, "needs a name"),
        ({"task": "XX"}, SettingsError, "no task 'XX'"),
        ({"at": "2026-10-02T12:00:00"}, SettingsError, "has no zone"),
        ({"task": "QI"}, NotFound, "nobody was asked"),
        ({"pair_id": "0123"}, NotFound, "nobody was asked about 0123"),
        ({"query": TRAIN[3]}, DataError, "not those of its pair"),
    ],
)
def test_a_decision_that_can_not_be_meant_is_refused_with_all_beside_it(
    changed: dict[str, Any], kind: type[Exception], words: str, store: Store
) -> None:
    """One bad decision among two records none."""
    rows = [listed(TRAIN[0], 0.1), listed(TRAIN[1], 0.1)]
    finished(store, "2026-10-02-0", rows)
    with pytest.raises(kind, match=words):
        review.decide(store, [decision(rows[0]), decision(rows[1], **changed)])
    assert review.names(store) == []


def test_a_query_on_the_dev_side_is_not_decided(store: Store) -> None:
    """Though a ledger lists it, a pair whose query is dev is refused: no label that judges is chosen here."""
    pair = listed(DEV, 0.1)
    finished(store, "2026-10-02-0", [pair])
    with pytest.raises(SettingsError, match="the dev side"):
        review.decide(store, [decision(pair)])


def test_a_pair_of_an_earlier_queue_can_still_be_decided(store: Store) -> None:
    """A list of yesterday may hold pairs that today's filter does not doubt, and a decided pair may be decided anew."""
    (old,) = finished(store, "2026-10-01-0", [listed(TRAIN[0], 0.1)])
    finished(store, "2026-10-02-0", [listed(TRAIN[1], 0.1)])
    review.answer(store, {"QC": {old: "no"}}, "ann")
    review.answer(store, {"QC": {old: "yes"}}, "bob")
    assert held(store) == [(TRAIN[0], 1, "bob")]


def test_another_word_is_refused(store: Store) -> None:
    """`maybe` is told with the three words."""
    (pair,) = finished(store, "2026-10-01-0", [listed(TRAIN[0], 0.1)])
    with pytest.raises(SettingsError, match="'maybe' is no decision; expected: yes, no, keep"):
        review.answer(store, {"QC": {pair: "maybe"}}, "ann")


# What the next run makes of it.


def decided(store: Store, logs: Artifact, words: Mapping[str, str]) -> tuple[str, ...]:
    """Decisions by query on pairs of a log; returns what a run pins."""
    found = logs.table("pairs").unique("pair_id")
    rows = [
        listed(query, 0.1, target=target, language=language, pair_id=pair)
        for pair, query, target, language in found.select("pair_id", "query", "target", "language").iter_rows()
    ]
    finished(store, "2026-10-01-0", rows)
    by_query = dict(found.select("query", "pair_id").iter_rows())
    review.answer(store, {"QC": {by_query[query]: word for query, word in words.items()}}, "ann")
    return tuple(review.names(store))


def ingested_with(settings: Settings, store: Store, decisions: tuple[str, ...]) -> Artifact:
    return output(ingest.run(settings, Inputs(decisions=decisions), store), store)


def test_ingest_gives_decided_pairs_their_label(tmp_path: Path, store: Store) -> None:
    """A wrong 1 becomes 0; of a pair with both labels one row stays with the decided one; keep changes nothing; who and when stay.

    By hand: of five rows four stay, the older row of the contradicting pair is settled.
    """
    rows = [row(TRAIN[0]), row(TRAIN[1]), row(TRAIN[1], label=0, event_time="2026-10-14T08:00:00"), row(TRAIN[2]), row(TRAIN[3])]
    settings = settings_for(write_rows(tmp_path / "a.jsonl", rows))
    words = {TRAIN[0]: "no", TRAIN[1]: "no", TRAIN[2]: "keep"}
    pinned = decided(store, ingested(settings, store), words)
    found = ingested_with(settings, store, pinned)
    pairs = found.table("pairs")
    assert dict(pairs.select("query", "label").iter_rows()) == {TRAIN[0]: 0, TRAIN[1]: 0, TRAIN[2]: 1, TRAIN[3]: 1}
    assert pairs.height == 4
    assert found.report.rows.as_json()["reasons"] == {"dropped: settled by review": 1}
    assert (found.report.rows.incoming, found.report.rows.kept) == (5, 4)
    reviewed = found.table("reviewed").join(pairs.select("pair_id", "query"), on="pair_id")
    assert dict(reviewed.select("query", pl.struct("was", "label")).iter_rows()) == {
        TRAIN[0]: {"was": 1, "label": 0},
        TRAIN[1]: {"was": 1, "label": 0},
        TRAIN[2]: {"was": 1, "label": None},
    }
    assert set(reviewed["who"]) == {"ann"}
    assert reviewed["at"].to_list() == review.decisions(store)["at"].to_list()[:1] * 3
    assert found.report.figures["reviewed"] == {"pairs": 3, "changed": 2}
    kept = output(validate.run(settings, Inputs({"rows": found}), store), store)
    assert kept.report.rows.kept == 4


def test_a_decision_of_an_earlier_text_rule_is_that_of_its_pair(tmp_path: Path, store: Store) -> None:
    """Decided before rule 2 as 102 and under the id of that text: the pair 10² has the label, once."""
    old = pairs.digest("pair", "QC", "en", f"{TRAIN[0]} 102", "shoes", pairs.digest("target", "shoes"))
    finished(store, "2026-10-01-0", [listed(f"{TRAIN[0]} 102", 0.1, target="shoes", language="en", pair_id=old)])
    review.answer(store, {"QC": {old: "no"}}, "ann")
    settings = settings_for(write_rows(tmp_path / "a.jsonl", [row(f"{TRAIN[0]} 10²"), row(TRAIN[1])]))
    found = ingested_with(settings, store, tuple(review.names(store)))
    table = found.table("pairs")
    assert dict(table.select("query", "label").iter_rows()) == {f"{TRAIN[0]} 10²": 0, TRAIN[1]: 1}
    assert old not in table["pair_id"].to_list()
    assert found.table("reviewed").select("pair_id", "label").rows() == [(table.filter(label=0)["pair_id"][0], 0)]


def test_the_report_says_who_decided_what(tmp_path: Path, store: Store) -> None:
    """Two decided pairs, one of them with another label than in the log, and nothing where nobody decided."""
    settings = settings_for(write_rows(tmp_path / "a.jsonl", [row(TRAIN[0]), row(TRAIN[1])]))
    plain = ingested(settings, store)
    found = ingested_with(settings, store, decided(store, plain, {TRAIN[0]: "no", TRAIN[1]: "keep"}))
    sections = {part.name: part for part in build_page({"ingest": found}, ("QC", "QI"), "", "").sections}
    (table,) = [block for part in sections["reviewed"].parts for block in part.blocks]
    assert isinstance(table, Table)
    assert table.caption == "2 of 2 decided pairs; 1 have another label than in the log."
    shown = {line[1]: (line[3], line[4], line[5]) for line in table.rows}
    assert shown == {TRAIN[0]: ("relevant", "not relevant", "ann"), TRAIN[1]: ("relevant", "kept as it was", "ann")}
    assert "reviewed" not in {part.name for part in build_page({"ingest": plain}, ("QC", "QI"), "", "").sections}


def test_a_broken_row_is_not_mended_by_a_decision(tmp_path: Path, store: Store) -> None:
    """Of a decided pair the row with label 7 and the one without a label stay for validate to count."""
    rows = [row(TRAIN[0]), row(TRAIN[0], label=7), row(TRAIN[0], label="soon")]
    settings = settings_for(write_rows(tmp_path / "a.jsonl", rows))
    found = ingested_with(settings, store, decided(store, ingested(settings, store), {TRAIN[0]: "no"}))
    assert sorted(found.table("pairs")["label"].to_list(), key=str) == [0, 7, None]


def test_without_decisions_nothing_is_another(tmp_path: Path, store: Store) -> None:
    """No decision gives the key and the tables that there were before there was a queue; a decision on other pairs, other keys."""
    settings = settings_for(write_rows(tmp_path / "a.jsonl", [row(TRAIN[0])]))
    plain = ingested(settings, store)
    assert set(plain.files) == {"pairs.parquet", "ledger.parquet", "clicks.parquet", "catalogue.parquet", "window.json"}
    assert "reviewed" not in plain.report.figures
    keys = [output_key("ingest", 1, (), pinned, "", settings, Inputs()) for pinned in ((), ("decisions", "approvals"))]
    assert keys[0] == keys[1]
    pinned = decided(store, plain, {TRAIN[0]: "keep"})
    again = ingested_with(settings, store, pinned)
    assert again.address != plain.address
    assert again.files["pairs.parquet"] == plain.files["pairs.parquet"]


def test_a_run_pins_the_decisions_that_there_are_when_it_begins(tmp_path: Path, store: Store) -> None:
    """A decision made after a run began is not in it, nor when it is opened again; the next run has both."""
    settings = settings_for(write_rows(tmp_path / "a.jsonl", [row()]))
    assert "decisions" not in json.loads(store.read(f"runs/{pin(settings, store, 'r0').run_id}/run.json"))
    ids = finished(store, "2026-10-02-0", [listed(TRAIN[0], 0.1), listed(TRAIN[1], 0.1)])
    review.answer(store, {"QC": {ids[0]: "no"}}, "ann")
    first = pin(settings, store, "r1")
    review.answer(store, {"QC": {ids[1]: "no"}}, "ann")
    assert open_run(store, "r1", settings).decisions == first.decisions == tuple(review.names(store)[:1])
    assert open_run(store, "r0", settings).decisions == ()
    assert pin(settings, store, "r2").decisions == tuple(review.names(store))


@pytest.fixture
def doubting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that says 0.01 to everything: every 1 is contradicted."""

    def scores(settings: Settings, inputs: Inputs, out: Any, rows: pl.DataFrame) -> pl.DataFrame:
        return rows.select("pair_id", p=pl.lit(0.01), model=pl.lit("fold-0:0123"))

    monkeypatch.setattr(denoise, "_scores", scores)


def filtered(store: Store, rows: pl.DataFrame, decisions: tuple[str, ...], action: str) -> Artifact:
    settings = settings_for("x", "denoise.enabled=true", f"denoise.action={action}", "denoise.max_share=1")
    inputs = Inputs({"rows": artifact(store, "mine", {"train": rows})}, "QC", decisions=decisions)
    return output(denoise.run(settings, inputs, store), store)


@pytest.mark.usefixtures("doubting")
@pytest.mark.parametrize("action", ["drop", "flip", "review"])
def test_the_filter_leaves_decided_pairs_alone(action: str, store: Store) -> None:
    """Of three contradicted rows the one that a person left as it is and the one given its label are in no ledger and keep it."""
    rows = log(*(("en", query, "shoes", 1) for query in TRAIN[:3])).with_columns(
        origin=pl.when(pl.col("query") == TRAIN[1]).then(pl.lit("translation")).otherwise("origin"), label=pl.lit(1, pl.Int8)
    )
    ids = dict(rows.select("query", "pair_id").iter_rows())
    finished(store, "2026-10-01-0", [listed(query, 0.1, pair_id=pair) for query, pair in ids.items()])
    review.answer(store, {"QC": {ids[TRAIN[0]]: "keep", ids[TRAIN[1]]: "yes"}}, "ann")
    found = filtered(store, rows, tuple(review.names(store)), action)
    assert found.table("ledger")["query"].to_list() == [TRAIN[2]]
    labels = dict(found.table("train").select("query", "label").iter_rows())
    assert {TRAIN[0]: labels[TRAIN[0]], TRAIN[1]: labels[TRAIN[1]]} == {TRAIN[0]: 1, TRAIN[1]: 1}
    assert found.report.figures["reviewed"] == 2
    assert filtered(store, rows, (), action).table("ledger").height == 3


@pytest.mark.usefixtures("doubting")
def test_a_negative_that_a_person_calls_relevant_is_relevant(store: Store) -> None:
    """A mined negative is in no log: the filter gives it the decided label, each night anew."""
    rows = log(("en", TRAIN[0], "shoes", 0)).with_columns(origin=pl.lit("negative"))
    (pair,) = finished(store, "2026-10-01-0", [listed(TRAIN[0], 0.99, label=0, pair_id=rows["pair_id"][0])])
    review.answer(store, {"QC": {pair: "yes"}}, "ann")
    found = filtered(store, rows, tuple(review.names(store)), "drop")
    assert found.table("train").select("pair_id", "label").rows() == [(pair, 1)]


@pytest.mark.usefixtures("doubting")
def test_a_row_goes_round_once(tmp_path: Path, store: Store) -> None:
    """Two nights from the logs: the row that the first doubts is decided, the second trains with its label and asks no more."""
    settings = settings_for(
        write_rows(tmp_path / "a.jsonl", [row(TRAIN[0]), row(TRAIN[1], label=0)]),
        "denoise.enabled=true",
        "denoise.action=review",
        "denoise.max_share=1",
        "validation.max_positive_rate=1",
    )

    def night(run_id: str) -> Artifact:
        run = pin(settings, store, run_id)
        for name in ("ingest", "validate", "split"):
            run_stage(run, name)
        mined = artifact(store, "mine", {"train": run.artifact("split").table("train")})
        inputs = Inputs({"rows": mined}, "QC", decisions=run.decisions)
        report = denoise.run(settings, inputs, store)
        store.write(f"runs/{run_id}/denoise-qc.json", json.dumps(report.as_json()).encode())
        return output(report, store)

    first = night("2026-10-02-a")
    waiting = review.queue(store, "QC")
    assert waiting["query"].to_list() == first.table("ledger")["query"].to_list() == [TRAIN[0]]
    review.answer(store, {"QC": {waiting["pair_id"][0]: "no"}}, "ann")
    assert review.queue(store, "QC").is_empty()
    second = night("2026-10-03-a")
    assert dict(second.table("train").select("query", "label").iter_rows()) == {TRAIN[0]: 0, TRAIN[1]: 0}
    assert second.table("ledger").is_empty()
    assert review.queue(store, "QC").is_empty()


# The file that people fill in.


@pytest.fixture
def relevance(store: Store, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, dict[str, Any], str]]:
    """`relevance review …` on the store: exit code, result and what it said."""

    def call(*arguments: str) -> tuple[int, dict[str, Any], str]:
        code = main(["review", *arguments, "--store", store.uri, "--json"])
        printed = capsys.readouterr()
        return code, json.loads(printed.out.splitlines()[-1]) if printed.out else {}, printed.err

    return call


Relevance = Callable[..., tuple[int, dict[str, Any], str]]


def filled(path: Path, words: Mapping[str, str], **changed: str) -> None:
    """Fills in the decisions of an exported CSV by query, as a spreadsheet does."""
    text = path.read_bytes().decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text)))
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, SHEET)
        writer.writeheader()
        writer.writerows(entry | {"decision": words.get(entry["query"], "")} | changed for entry in rows)


def test_a_csv_goes_out_and_comes_back(store: Store, tmp_path: Path, relevance: Relevance) -> None:
    """Of three rows one is decided No (any case), one keep, one is left empty: two decisions of ann's, one row still waits."""
    finished(store, "2026-10-02-0", [listed(query, 0.1) for query in TRAIN[:3]])
    file = tmp_path / "queue.csv"
    assert relevance("export", "--output", str(file))[:2] == (0, {"rows": 3, "file": str(file)})
    filled(file, {TRAIN[0]: " No ", TRAIN[1]: "keep"})
    code, result, _ = relevance("import", str(file), "--who", "ann", "--why", "looked it up")
    assert (code, result) == (0, {"decided": 2, "empty": 1, "who": "ann", "yes": 0, "no": 1, "keep": 1})
    assert held(store) == [(TRAIN[0], 0, "ann"), (TRAIN[1], None, "ann")]
    assert review.decisions(store)["why"].to_list() == ["looked it up"] * 2
    code, result, _ = relevance("list")
    assert {name: result["QC"][name] for name in ("waiting", "decided", "languages")} == {
        "waiting": 1,
        "decided": 2,
        "languages": {"en": 1},
    }
    assert [entry["query"] for entry in result["QC"]["rows"]] == [TRAIN[2]]


def test_json_lines_go_out_and_come_back(store: Store, tmp_path: Path, relevance: Relevance) -> None:
    """Numbers stay numbers in the file; only the German row is exported when that language is asked for."""
    finished(store, "2026-10-02-0", [listed(TRAIN[0], 0.1), listed(TRAIN[1], 0.25, language="de")])
    file = tmp_path / "queue.jsonl"
    assert relevance("export", "--task", "QC", "--language", "de", "--output", str(file))[0] == 0
    (line,) = file.read_text().splitlines()
    entry = json.loads(line)
    assert (entry["score"], entry["label"], entry["decision"]) == (0.25, 1, "")
    file.write_text("\n" + json.dumps({"pair_id": entry["pair_id"], "task": "QC", "decision": "yes"}) + "\n")
    assert relevance("import", str(file))[0] == 0
    assert [(query, label) for query, label, _ in held(store)] == [(TRAIN[1], 1)]


def test_one_wrong_row_refuses_the_file(store: Store, tmp_path: Path, relevance: Relevance) -> None:
    """A wrong word, an unknown id, a slipped text, two answers, no task: each is named with its row as a spreadsheet counts."""
    rows = [listed(query, 0.1) for query in TRAIN[:5]]
    finished(store, "2026-10-02-0", rows)

    def cells(pair: int, word: str, **changed: str) -> str:
        entry = {"pair_id": rows[pair]["pair_id"], "task": "QC", "query": rows[pair]["query"], "decision": word} | changed
        return ",".join(entry.values())

    wrong = [
        cells(0, "no"),
        cells(1, "perhaps"),
        cells(2, "yes", pair_id="feed"),
        cells(2, "yes", pair_id=""),
        cells(3, "yes", query=TRAIN[4]),
        cells(4, "yes"),
        cells(4, "no"),
        cells(0, "no", task="QQ"),
    ]
    file = tmp_path / "queue.csv"
    file.write_text("\n".join(["pair_id,task,query,decision", *wrong]))
    code, _, said = relevance("import", str(file))
    assert code == DataError.exit_code
    assert "7 rows are wrong: row 3: the decision is none of yes, no, keep" in said
    assert "row 4: nobody was asked about this pair id (feed, 'yes')" in said
    assert "row 5: nobody was asked about this pair id" in said
    assert "row 6: language, query or target are not those of this pair id" in said
    assert "row 7: this pair is decided in two ways" in said
    assert "and 2 more" in said
    assert "row 2" not in said
    assert review.names(store) == []


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "pair_id,query\n1,x\n", "no column task, decision"),
        ("a.csv", "", "can't be read"),
        ("a.jsonl", '{"pair_id"', "can't be read"),
        ("a.jsonl", "[1]", "a line is no JSON object"),
        ("a.xlsx", "", "ends in .csv or .jsonl"),
        ("b.csv", None, "there is no such file"),
    ],
)
def test_a_file_of_another_form_is_refused(name: str, text: str | None, words: str, tmp_path: Path, relevance: Relevance) -> None:
    """A missing column, a broken file, another format and no file at all are told by what they are."""
    if text is not None:
        (tmp_path / name).write_text(text)
    code, _, said = relevance("import", str(tmp_path / name))
    assert code != 0
    assert words in said


HOSTILE = ["=1+1", "+x", "-x", "@SUM(A1)", "'=1", "00123", "12e4", "1-2", '=HYPERLINK("http://x","y")', "4k tv", "'quoted'"]


def test_no_cell_is_a_formula_or_a_number_to_a_spreadsheet(store: Store) -> None:
    """Queries that a spreadsheet would run or rewrite are guarded by an apostrophe in the CSV, and come back as they were."""
    finished(store, "2026-10-02-0", [listed(TRAIN[0], 0.1, target=text) for text in HOSTILE])
    sheet = write_sheet(review.queue(store, "QC"), "csv")
    cells = [entry["target"] for entry in csv.DictReader(io.StringIO(sheet.decode("utf-8-sig")))]
    assert sorted(cells) == sorted(text if text in ("4k tv", "'quoted'") else "'" + text for text in HOSTILE)
    assert sorted(read_sheet(sheet, "csv", "")["target"].to_list()) == sorted(HOSTILE)


def test_a_sheet_with_semicolons_is_read(store: Store) -> None:
    """A spreadsheet of a country with decimal commas saves semicolons; its commas are text."""
    found = read_sheet(b"pair_id;task;target;decision\na;QC;shoes, red;YES\nb;QC;x;\n", "csv", "")
    assert found.select("row", "pair_id", "target", "decision").rows() == [(2, "a", "shoes, red", "yes"), (3, "b", "x", None)]


def test_split_keeps_what_was_decided(tmp_path: Path, store: Store) -> None:
    """A decided label is in the training rows that split leaves."""
    settings = settings_for(write_rows(tmp_path / "a.jsonl", [row(TRAIN[0])]), "validation.max_positive_rate=1")
    pinned = decided(store, ingested(settings, store), {TRAIN[0]: "no"})
    checked = output(validate.run(settings, Inputs({"rows": ingested_with(settings, store, pinned)}), store), store)
    found = output(split.run(settings, Inputs({"rows": checked}), store), store)
    assert found.table("train").select("query", "label").rows() == [(TRAIN[0], 0)]
