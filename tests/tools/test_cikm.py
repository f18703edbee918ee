"""The competition's files, small: what is cleaned and counted, what an answer file holds, and what its check finds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from relevance_core.cli.main import main
from relevance_core.config import load
from relevance_core.errors import DataError, NotFound, RelevanceError, SettingsError
from relevance_core.registry import Manifest, Registry
from relevance_core.sources import read_labelled
from relevance_core.stages import evaluate
from relevance_core.store import Store
from relevance_core.tools.cikm import check, clean, predict, prepare, read
from tests.support.pair_cases import ingested, write_rows
from tests.support.registry_cases import make_adapter, make_meta

DAY = date(2025, 1, 1)
PATH = "automobiles, parts & accessories,new energy vehicles"


def qc(number: int, query: str | None = "zapatos", path: str | None = "shoes", language: str = "es", **more: Any) -> dict[str, Any]:
    """A row of a QC file, in the order of the competition's fields."""
    return {"id": number, "task": "QC", "language": language, "origin_query": query, "category_path": path} | more


def qi(number: int, title: str | None = "red shoe", language: str = "es", **more: Any) -> dict[str, Any]:
    """A row of a QI file."""
    return {"id": number, "task": "QI", "language": language, "origin_query": "zapatos", "item_title": title} | more


def answers(*rows: Mapping[str, Any], ones: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    """The right answer file for these rows, with 1 for the ids `ones`."""
    fields = ("id", "language", "origin_query", "category_path", "item_title")
    return [{name: row[name] for name in fields if name in row} | {"prediction": int(row["id"] in ones)} for row in rows]


def prepared(folder: Path, *, train: list[dict[str, Any]], test: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """What `prepare` says of a train and a test file; its output lies in `folder`/out."""
    paths = [str(write_rows(folder / "train.txt", train))]
    tests = [str(write_rows(folder / "test.txt", test))] if test else []
    return prepare(paths, [], tests, folder / "out", DAY, 0.7)


def test_a_row_without_a_title_does_not_train_and_is_answered(tmp_path: Path) -> None:
    """Of four train rows one has a null title, one an invisible query: two are kept, with the reasons; test keeps its null row."""
    train = [qi(1, label=1), qi(2, None, label=0), qi(3, label=0), qi(4, label=1) | {"origin_query": " \u200b"}]
    report = prepared(tmp_path, train=train, test=[qi(1), qi(2, None)])
    of_train, of_test = report["files"]
    assert (of_train["rows"], of_train["kept"], of_train["dropped"], of_train["relevant"]) == (4, 2, 2, 1)
    assert of_train["without_text"] == {"no item_title": 1, "no origin_query": 1}
    assert (of_test["rows"], of_test["kept"], of_test["without_text"]) == (2, 2, {"no item_title": 1})
    assert pl.read_parquet(tmp_path / "out/logs/dt=2025-01-01/QI.parquet")["id"].to_list() == ["1", "3"]
    assert read_labelled(str(tmp_path / "out/test/QI.parquet"), labels=False)["target"].to_list() == ["red shoe", ""]
    assert json.loads((tmp_path / "out/report.json").read_text()) == report


@pytest.mark.slow
def test_an_english_tag_gives_way_to_a_language_that_is_sure(tmp_path: Path) -> None:
    """Tagged en: Spanish becomes es; English, a name and Russian stay. No other tag is touched but vn, which is Vietnamese, vi."""
    queries = ["zapatos rojos para mujer", "waterproof speaker", "lenovo", "силиконовый чехол"]
    rows = [qc(n, query, language="EN", label=1) for n, query in enumerate(queries)]
    rows += [qc(4, "waterproof speaker", label=1)]
    file = read(str(write_rows(tmp_path / "train.txt", rows)))
    assert clean(file, 0.7)["language"].to_list() == ["es", "en", "en", "en", "es"]
    assert clean(file, 1.1)["language"].to_list() == ["en"] * 4 + ["es"]
    (counts,) = prepared(tmp_path, train=rows)["files"]
    assert (counts["retagged"], counts["languages"]) == ({"es": 1}, {"en": 3, "es": 2})
    items = read(str(write_rows(tmp_path / "items.txt", [qi(1, language="vn")])))
    assert clean(items, 0.7)["language"].to_list() == ["vi"]


def test_the_loop_reads_what_was_prepared(tmp_path: Path, store: Store) -> None:
    """Two rows of the prepared day come out of *ingest*, dated by it, the comma inside a category's name where it was."""
    prepared(tmp_path, train=[qc(1, path=PATH, label=1), qc(2, "bolso", label=0)], test=[qc(3)])
    settings = load(None, [f"source.uri={tmp_path / 'out'}", "window.end=2025-01-02"])
    pairs = ingested(settings, store).table("pairs").sort("label")
    assert pairs["target"].to_list() == ["shoes", PATH]
    assert {moment.date() for moment in pairs["event_time"]} == {DAY}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('{"id": 1', r"line 1: no JSON object"),
        ('\n{"id": true, "language": "es"}', r"line 2: no id"),
        ('{"id": 1, "origin_query": "a", "category_path": "b"}', r"line 1: no language"),
        ('{"id": 1, "language": "es", "origin_query": "a"}', r"line 1: not the one of category_path and item_title"),
        ('{"id": 1, "task": "QI", "language": "es", "origin_query": "a", "category_path": "b"}', r"line 1: not the one of"),
        ('{"id": 1, "language": "es", "origin_query": ["a"], "category_path": "b"}', r"line 1: a query or target that is no text"),
        (
            r'{"id": 1, "language": "es", "origin_query": "\ud83d", "category_path": "b"}',
            r"line 1: a query or target that is no text",
        ),
        ("", "rows of no task"),
        ("\n".join(json.dumps(row) for row in (qc(1), qi(2))), "rows of QC and QI"),
    ],
)
def test_a_file_in_another_form_is_told_by_its_line(tmp_path: Path, lines: str, message: str) -> None:
    """What is no row of one task is an error that names the first such line, and the file."""
    path = tmp_path / "train.txt"
    path.write_text(lines)
    with pytest.raises(DataError, match=rf"{message}.*where: {path}"):
        read(str(path))


def test_only_a_line_feed_ends_a_line(tmp_path: Path) -> None:
    """A separator of paragraphs inside a query is text, and a byte order mark before the first row is nothing."""
    path = write_rows(tmp_path / "test.txt", [qc(1, "a\u2029b"), qc(2)])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert [row["origin_query"] for row in read(str(path)).rows] == ["a\u2029b", "zapatos"]


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ([[qc(1)]], "train file without labels"),
        ([[qc(1, label=1), qc(2)]], "row 2 has the label None"),
        ([[qc(1, label=1), qc(2, label=2)]], "row 2 has the label 2"),
        ([[qc(1, label=1)], [qc(2, label=1)]], "two train files of QC"),
    ],
)
def test_what_cannot_train_is_told_before_anything_is_written(tmp_path: Path, train: list[Any], message: str) -> None:
    """A train file without labels, with a label that is none, and two files of a task: an error, and no output."""
    paths = [str(write_rows(tmp_path / f"train{n}.txt", rows)) for n, rows in enumerate(train)]
    with pytest.raises(RelevanceError, match=message):
        prepare(paths, [], [], tmp_path / "out", DAY, 0.7)
    assert not (tmp_path / "out").exists()


def publish(store: Store, folder: Path) -> Manifest:
    """A version of QI with the threshold 0.4; nobody has promoted it."""
    return Registry(store).publish("QI", make_adapter(folder / "adapter"), make_meta())


def test_every_row_is_answered_in_its_own_words(tmp_path: Path, store: Store) -> None:
    """p of 0.4, 0.39 and 0.9 at the threshold 0.4: 1, 0, 1, beside the file's own fields; the model gets vi and an empty title."""
    version = publish(store, tmp_path)
    rows = [qi(7, language="vn"), qi(3, None), qi(5, "Ｒed  shoe")]
    seen: list[tuple[str, ...]] = []

    def score(manifest: Manifest, frame: pl.DataFrame) -> pl.Series:
        seen.extend(frame.select("task", "language", "query", "target").iter_rows())
        assert manifest.version == version.version
        return pl.Series([0.4, 0.39, 0.9])

    test, output = write_rows(tmp_path / "test_QI.txt", rows), tmp_path / "answers/submit_QI.txt"
    told = predict(store, str(test), output, None, 0.7, score)
    assert seen == [("QI", language, "zapatos", title) for language, title in (("vi", "red shoe"), ("es", ""), ("es", "Red shoe"))]
    assert output.read_text() == "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in answers(*rows, ones=(7, 5)))
    assert (told["rows"], told["relevant"], told["role"], told["threshold"]) == (3, 2, "candidate", 0.4)
    assert check([str(test)], [str(output)], [])["tasks"]["QI"] == {"submission": str(output), "rows": 3, "relevant": 2}


def test_a_test_file_with_an_id_twice_cannot_be_answered(tmp_path: Path, store: Store) -> None:
    """Rows 1 and 3 have one id: the error says so before a version is looked for."""
    test = write_rows(tmp_path / "test.txt", [qc(1), qc(2), qc(1)])
    with pytest.raises(DataError, match="rows 1 and 3 have the id 1"):
        predict(store, str(test), tmp_path / "submit.txt", None, 0.7, lambda version, rows: pl.Series([0.5]))


def test_the_command_predicts_with_the_options_of_score(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`cikm predict --version` scores with that version here; servers are refused where the engine is not vllm."""
    version = publish(store, tmp_path)
    monkeypatch.setattr(evaluate, "score_with", lambda store, version, rows, engine: pl.Series([0.5] * len(rows)))
    test, output = write_rows(tmp_path / "test.txt", [qi(1)]), tmp_path / "submit_QI.txt"
    arguments = ["cikm", "predict", "--test", str(test), "--output", str(output), "--store", store.uri, "--json"]
    assert main([*arguments, "--version", version.version[:8]]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == version.version
    assert json.loads(output.read_text()) == answers(qi(1), ones=(1,))[0]
    assert main([*arguments, "--endpoint", "http://127.0.0.1:1"]) == 64


TEST = [qc(number, f"zapatos {number}") for number in (1, 2, 3, 4)]
RIGHT = answers(*TEST, ones=(1, 3))


def checked(folder: Path, lines: list[Any], labels: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """What `check` says of an answer file for TEST."""
    test, submission = write_rows(folder / "test_QC.txt", TEST), write_rows(folder / "submit_QC.txt", lines)
    labelled = [str(write_rows(folder / "labels.txt", labels))] if labels else []
    return check([str(test)], [str(submission)], labelled)


@pytest.mark.parametrize(
    ("lines", "counts", "first"),
    [
        (RIGHT[:3], "1 missing", "no line has the id 4, row 4 of the test file"),
        ([RIGHT[0], *RIGHT[2:]], "1 missing", "no line has the id 2, row 2"),
        ([*RIGHT, RIGHT[0] | {"id": 9}], "1 extra", "line 5: the id 9 is not in the test file"),
        ([RIGHT[0] | {"id": "1"}, *RIGHT[1:]], "1 extra, 1 missing", "line 1: the id '1' is not"),
        ([*RIGHT, RIGHT[1]], "1 repeated", "line 5: the id 2 a second time"),
        ([RIGHT[1], RIGHT[0], *RIGHT[2:]], "1 out of order", "line 2: the id 1 stands earlier"),
        ([RIGHT[0] | {"prediction": 2}, *RIGHT[1:]], "1 not 0 or 1", "line 1: the prediction of id 1 is 2"),
        ([RIGHT[0] | {"prediction": True}, *RIGHT[1:]], "1 not 0 or 1", "line 1: the prediction of id 1 is True"),
        ([*RIGHT[:3], {"id": 4}], "1 not 0 or 1", "line 4: the prediction of id 4 is None"),
        ([RIGHT[0], RIGHT[1] | {"origin_query": "x"}, *RIGHT[2:]], "1 changed", "line 2: origin_query of id 2"),
        ([RIGHT[0], {"id": 2, "prediction": 0}, *RIGHT[2:]], "1 changed", "line 2: language, origin_query, category_path of id 2"),
        ([*RIGHT, [1]], "1 unreadable", "line 5: no JSON object"),
        ([RIGHT[0], RIGHT[3], RIGHT[1] | {"prediction": -1}], "1 not 0 or 1, 1 missing", "line 3: the prediction of id 2 is -1"),
    ],
)
def test_a_wrong_answer_file_is_told_by_its_first_line_and_its_counts(
    tmp_path: Path, lines: list[Any], counts: str, first: str
) -> None:
    """Of every kind of fault: how many there are and where the first one is."""
    with pytest.raises(DataError, match=rf"{len(lines)} lines for 4 rows: {counts}; the first: {first}"):
        checked(tmp_path, lines)


def test_answers_of_the_other_task_are_told(tmp_path: Path) -> None:
    """A file with item titles is of QI, for which there is no test file, though its ids are those of QC."""
    with pytest.raises(SettingsError, match="submissions of QI, test files of QC"):
        checked(tmp_path, answers(*(qi(number) for number in (1, 2, 3, 4))))
    with pytest.raises(DataError, match="line 1 is no answer"):
        checked(tmp_path, [{"id": 1, "prediction": 1}])


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    """The error names the address."""
    with pytest.raises(NotFound, match=r"nothing\.txt"):
        check([str(tmp_path / "nothing.txt")], [], [])


def test_labels_measure_by_task_and_language_and_their_mean(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """QC: one of two 1s is right and one label of two is found, F1 0.5, es 1 and fr 0. QI: all right, F1 1. The average is 0.75."""
    of_qc = [qc(1, label=1), qc(2, language="fr", label=1), qc(3, language="fr", label=0), qc(4, label=0)]
    of_qi = [qi(1, label=1), qi(2, label=0)]
    tests = [str(write_rows(tmp_path / f"{rows[0]['task']}.txt", rows)) for rows in (of_qc, of_qi)]
    given = [answers(*of_qc, ones=(1, 3)), answers(*of_qi, ones=(1,))]
    submissions = [str(write_rows(tmp_path / f"submit_{n}.txt", rows)) for n, rows in enumerate(given)]
    caplog.set_level("INFO", "relevance_core")
    result = check(tests, submissions, tests)
    of_task = result["tasks"]["QC"]
    assert (of_task["f1"], of_task["rows"], of_task["positives"]) == (0.5, 4, 2)
    assert {name: of["f1"] for name, of in of_task["per_language"].items()} == {"es": 1.0, "fr": 0.0}
    assert (result["tasks"]["QI"]["f1"], result["average_f1"]) == (1.0, 0.75)
    assert caplog.messages[-1] == "average of the F1 of both tasks: 0.7500"
    assert check(tests, submissions[:1], tests[:1])["average_f1"] is None


def test_labels_of_other_rows_are_refused(tmp_path: Path) -> None:
    """A labels file that lacks an id, or has no label, measures nothing."""
    with pytest.raises(DataError, match="not the labels of the test file"):
        checked(tmp_path, RIGHT, [row | {"label": 1} for row in TEST[:3]])
    with pytest.raises(DataError, match="not the labels of the test file"):
        checked(tmp_path, RIGHT, TEST)


def test_the_commands_end_with_the_status_of_what_they_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a store: `prepare` prints its report, `check` ends with 0 for a right file and 65 for one with a row too few."""
    train, test = write_rows(tmp_path / "train.txt", [qc(1, label=1)]), write_rows(tmp_path / "test.txt", TEST)
    arguments = ["--train", str(train), "--test", str(test), "--out", str(tmp_path / "out"), "--day", "2025-02-03", "--json"]
    assert main(["cikm", "prepare", *arguments]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["day"] == "2025-02-03"
    assert f"retrain --source {tmp_path / 'out'} --window-end 2025-02-04" in said.err
    for lines, status in ((RIGHT, 0), (RIGHT[1:], 65)):
        submission = write_rows(tmp_path / "submit.txt", lines)
        assert main(["cikm", "check", "--test", str(test), "--submission", str(submission)]) == status
