"""The CIKM AnalytiCup 2025: cleans its files for the loop (*prepare*), answers them (*predict*), checks answers (*check*).

A file holds one task, one JSON object a line: `id task language origin_query category_path|item_title label`. An answer file has
the form of the first place's code (github.com/nhtlongcs/e-commerce-product-search): the row's fields and `prediction`.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final, cast

import polars as pl

from relevance_core.errors import DataError, SettingsError
from relevance_core.languages.identification import identify
from relevance_core.metrics import measure
from relevance_core.pairs import TASKS, Task, normalise_expr
from relevance_core.sources import Batch, conform
from relevance_core.sources.files import open_file
from relevance_core.stages.evaluate import ScoreRows, choose
from relevance_core.store import Store
from relevance_core.store.disk import writing

log = logging.getLogger(__name__)

Row = dict[str, Any]
Result = dict[str, Any]

TARGETS: Final[Mapping[Task, str]] = {"QC": "category_path", "QI": "item_title"}
"""The field of a task's rows that the other task's rows lack."""

_BOTH: Final = ("ar", "de", "en", "es", "fr", "it", "ja", "ko", "pl", "pt")
LANGUAGES: Final[Mapping[Task, tuple[str, ...]]] = {"QC": _BOTH, "QI": (*_BOTH, "id", "th", "vi")}
"""The languages of each task's files."""

_CODES: Final = {"vn": "vi"}  # a country code that the files use for a language
_HALF: Final = re.compile("[\ud800-\udfff]")
_SHOWN: Final = ("f1", "precision", "recall", "macro_f1", "always_yes_f1", "rows", "positives")


@dataclass(frozen=True)
class Rows:
    """The rows of one of the competition's files, unchanged."""

    path: str
    task: Task
    rows: tuple[Row, ...]

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that an answer repeats, in their order."""
        return "id", "language", "origin_query", TARGETS[self.task]

    def places(self) -> dict[Any, int]:
        """Returns the place of each id, from 0. Raises DataError for a duplicate id."""
        places: dict[Any, int] = {}
        for place, row in enumerate(self.rows):
            if places.setdefault(row["id"], place) != place:
                raise DataError(f"rows {places[row['id']] + 1} and {place + 1} have the id {row['id']!r}", where=self.path)
        return places

    def labels(self) -> list[int] | None:
        """Returns the labels, or None where no row has a label. Raises DataError for a missing label, or one that is not 0 or 1."""
        given = [row.get("label") for row in self.rows]
        if all(label is None for label in given):
            return None
        for number, label in enumerate(given, 1):
            if type(label) is not int or label not in (0, 1):
                raise DataError(
                    f"row {number} has the label {label!r}", where=self.path, expected="0 or 1 in every row, or in none"
                )
        return cast("list[int]", given)


def read(path: str) -> Rows:
    """Reads the rows of a file. Raises NotFound, and DataError that names the first line that is no row of the file's task."""
    rows: list[Row] = []
    for number, row in _objects(path):
        if (wrong := _wrong_row(row)) is not None:
            raise DataError(
                f"line {number}: {wrong}",
                where=path,
                expected=f"one JSON object a line with id, language, origin_query and {' or '.join(TARGETS.values())}",
                do="give the competition's files as they are",
            )
        rows.append(row)
    found = {_task_of(row) for row in rows}
    if len(found) != 1:
        raise DataError(f"the file holds rows of {' and '.join(sorted(found)) or 'no task'}", where=path, expected="one task")
    return Rows(path, found.pop(), tuple(rows))


def _objects(path: str) -> Iterator[tuple[int, Any]]:
    """Yields the number from 1 and the value of each line that is not blank; None for invalid JSON."""
    # Only a line feed ends a line: JSON allows the other line separators of Unicode inside a text.
    for number, line in enumerate(open_file(path).read().removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError:
                yield number, None


def _wrong_row(row: Any) -> str | None:
    if not isinstance(row, dict):
        return "no JSON object"
    if not _is_id(row.get("id")):
        return "no id that is a whole number or a text"
    if not isinstance(row.get("language"), str):
        return "no language"
    if sum(name in row for name in TARGETS.values()) != 1 or row.get("task", _task_of(row)) != _task_of(row):
        return f"not the one of {' and '.join(TARGETS.values())} that its task has"
    texts = (row.get("origin_query"), row[TARGETS[_task_of(row)]])
    return None if all(text is None or _is_text(text) for text in texts) else "a query or target that is no text"


def _is_text(value: Any) -> bool:
    # JSON allows half of a surrogate pair in a text, as an escape; a text that holds one can't be written.
    return isinstance(value, str) and not _HALF.search(value)


def _is_id(value: Any) -> bool:
    return type(value) in (int, str)


def _task_of(row: Row) -> Task:
    return next(task for task in TASKS if TARGETS[task] in row)


def clean(file: Rows, confidence: float) -> pl.DataFrame:
    """Returns the file's rows in their order: `id task language query target`, `label` where it has labels, and `tag`.

    `tag` is the row's own language as an ISO 639-1 code. `language` is the same, except for rows tagged `en`: they take the
    language among the task's LANGUAGES that their query is identified as, where its probability is at least `confidence` (0 to 1).
    A null text becomes an empty one; other texts, the commas of category names among them, are unchanged.
    """
    tags = [row["language"].strip().lower() for row in file.rows]
    columns = {
        "id": [str(row["id"]) for row in file.rows],
        "task": [file.task] * len(file.rows),
        "tag": [_CODES.get(tag, tag) for tag in tags],
        "query": [row.get("origin_query") or "" for row in file.rows],
        "target": [row[TARGETS[file.task]] or "" for row in file.rows],
    }
    rows = pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String))
    asked = rows.filter(tag="en")["query"].unique(maintain_order=True).to_list()
    found = zip(asked, identify(asked, LANGUAGES[file.task]), strict=True)
    named = {query: language for query, (language, p) in found if language and p >= confidence}
    written = pl.col("query").replace_strict(list(named), list(named.values()), default=pl.col("tag"), return_dtype=pl.String)
    rows = rows.with_columns(language=pl.when(pl.col("tag") == "en").then(written).otherwise("tag"))
    labels = file.labels()
    rows = rows.select("id", "task", "language", "query", "target", "tag")
    return rows if labels is None else rows.with_columns(label=pl.Series(labels, dtype=pl.Int8))


def prepare(train: Sequence[str], dev: Sequence[str], test: Sequence[str], out: Path, day: date, confidence: float) -> Result:
    """Writes the cleaned files into the folder `out`, and `report.json` with their counts, which are returned.

    Train rows, less those without a text, lie under `logs/` in the partition of `day`, where `retrain --source` finds them; rows of
    dev and test, every one of them, in `dev/` and `test/`, for `evaluate --data` and `score --input`. A file a task and side.

    Args:
        train: files of the train side.
        dev: files of the dev side.
        test: files of the test side.
        out: a folder.
        day: of the logs' partition.
        confidence: as in `clean`.

    Raises:
        DataError: a train file has no labels.
        SettingsError: there are two files of one task and side.
    """
    files: dict[tuple[str, Task], Rows] = {}
    for side, paths in {"train": train, "dev": dev, "test": test}.items():
        for file in map(read, paths):
            if (side, file.task) in files:
                raise SettingsError(f"there are two {side} files of {file.task}", where=f"--{side}", expected="one a task")
            if side == "train" and file.labels() is None:
                raise DataError("a train file without labels", where=file.path, expected="label 0 or 1 in every row")
            files[side, file.task] = file
    folders = {"train": out / "logs" / f"dt={day}", "dev": out / "dev", "test": out / "test"}
    counts = []
    for (side, task), file in files.items():
        rows = clean(file, confidence)
        kept = rows.filter(_without(task).is_null()) if side == "train" else rows
        with writing(path := folders[side] / f"{task}.parquet"):
            kept.drop("tag").write_parquet(path)
        counts.append({"file": file.path, "side": side, "task": task} | _counts(rows, kept, task))
        log.info("%s: %d of %d rows of %s in %s", file.path, len(kept), len(rows), task, folders[side])
    report = {"day": str(day), "confidence": confidence, "files": counts}
    with writing(path := out / "report.json"):
        path.write_text(json.dumps(report, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return report


def _without(task: Task) -> pl.Expr:
    """Returns the fault of a row that is no complete pair; null for a complete one."""
    target, query = (normalise_expr(name) == "" for name in ("target", "query"))
    return pl.when(target).then(pl.lit(f"no {TARGETS[task]}")).when(query).then(pl.lit("no origin_query"))


def _counts(rows: pl.DataFrame, kept: pl.DataFrame, task: Task) -> Result:
    lacking = rows.select(what=_without(task)).drop_nulls()
    return {
        "rows": len(rows),
        "kept": len(kept),
        "dropped": len(rows) - len(kept),
        "without_text": _by(lacking, "what"),
        "relevant": int(kept["label"].sum()) if "label" in kept.columns else None,
        "languages": _by(kept, "language"),
        "retagged": _by(kept.filter(pl.col("tag") != pl.col("language")), "language"),
    }


def _by(rows: pl.DataFrame, name: str) -> dict[str, int]:
    return dict(rows.group_by(name).len().sort(name).iter_rows())


def predict(store: Store, test: str, output: Path, version: str | None, confidence: float, score: ScoreRows) -> Result:
    """Writes a version's answers to the rows of a test file: the row's own fields and `prediction`, 1 from the threshold on.

    Rows are scored as *prepare* cleans them, and every row is answered. Errors as in `evaluate.score_file`.

    Args:
        store: holds the registry.
        test: the test file.
        output: the answer file to write.
        version: as in `evaluate.score_file`.
        confidence: as in `clean`.
        score: as in `evaluate.score_file`.
    """
    file = read(test)
    file.places()
    manifest, role = choose(store, file.task, version)
    p = score(manifest, conform(Batch(test, clean(file, confidence))))
    predictions = (p >= manifest.threshold).cast(pl.Int8).to_list()
    answers = [
        {name: row.get(name) for name in file.fields} | {"prediction": prediction}
        for row, prediction in zip(file.rows, predictions, strict=True)
    ]
    with writing(output):
        output.write_bytes(b"".join(json.dumps(answer, ensure_ascii=False).encode() + b"\n" for answer in answers))
    log.info("%d rows answered by %s (%s), %s of them with 1: %s", len(answers), manifest.name, role, sum(predictions), output)
    result = {"task": file.task, "version": manifest.version, "role": role, "threshold": manifest.threshold}
    return result | {"rows": len(answers), "relevant": sum(predictions), "output": str(output)}


def check(tests: Sequence[str], submissions: Sequence[str], labels: Sequence[str]) -> Result:
    """Holds answer files against the test files of their tasks; with labels, measures them too.

    `average_f1` is the competition's figure, the mean of the F1 of both tasks; None where one of them has no labels.

    Args:
        tests: test files.
        submissions: answer files.
        labels: files with a test file's ids and a label in every row.

    Raises:
        DataError: an answer file is wrong; names its first wrong line and counts them all.
        SettingsError: the files are not of the same tasks.
    """
    expected, judged = _by_task(tests, "--test"), _by_task(labels, "--labels")
    answered = {_task_of_answers(path): path for path in submissions}
    if len(answered) < len(submissions) or set(answered) - set(expected) or set(judged) - set(answered):
        raise SettingsError(
            f"submissions of {', '.join(answered)}, test files of {', '.join(expected)}, labels of {', '.join(judged) or 'none'}",
            where="--submission, --test, --labels",
            expected="for each task one submission and its test file; labels only of these tasks",
        )
    tasks = {task: _checked(expected[task], path, judged.get(task)) for task, path in sorted(answered.items())}
    f1 = [figures["f1"] for figures in tasks.values() if "f1" in figures]
    average = sum(f1) / len(f1) if len(f1) == len(TASKS) else None
    _tell(tasks, average)
    return {"tasks": tasks, "average_f1": average}


def _by_task(paths: Sequence[str], option: str) -> dict[Task, Rows]:
    files: dict[Task, Rows] = {}
    for file in map(read, paths):
        if file.task in files:
            raise SettingsError(f"{file.path} and {files[file.task].path} are both of {file.task}", where=option)
        files[file.task] = file
    return files


def _task_of_answers(path: str) -> Task:
    number, first = next(_objects(path), (1, None))
    if not isinstance(first, dict) or sum(name in first for name in TARGETS.values()) != 1:
        raise DataError(
            f"line {number} is no answer",
            where=path,
            expected=f"a JSON object with {' or '.join(TARGETS.values())}",
            do="write the file with `relevance cikm predict`",
        )
    return _task_of(first)


def _checked(test: Rows, path: str, labelled: Rows | None) -> Result:
    """Counts the answers of a correct answer file, and measures them. Raises DataError for a wrong file."""
    lines = list(_objects(path))
    given = {answer["id"]: answer["prediction"] for answer in _right(test, path, lines)}
    result: Result = {"submission": path, "rows": len(given), "relevant": sum(given.values())}
    return result if labelled is None else result | _measured(given, labelled)


def _right(test: Rows, path: str, lines: Sequence[tuple[int, Any]]) -> list[Row]:
    """Returns the answers of a file that holds each row of the test file once, in order. Raises DataError that names the faults."""
    places = test.places()
    faults: list[tuple[str, str]] = []
    seen: set[Any] = set()
    highest = -1
    for number, answer in lines:
        kind, what = _fault(test, places, seen, highest, answer)
        if kind:
            faults.append((kind, f"line {number}: {what}"))
        if isinstance(answer, dict) and _is_id(answer.get("id")) and answer["id"] in places:
            seen.add(answer["id"])
            highest = max(highest, places[answer["id"]])
    faults += [
        ("missing", f"no line has the id {number!r}, row {place + 1} of the test file")
        for number, place in places.items()
        if number not in seen
    ]
    if faults:
        counts = ", ".join(f"{count} {kind}" for kind, count in Counter(kind for kind, _ in faults).items())
        raise DataError(
            f"{len(lines)} lines for {len(test.rows)} rows: {counts}; the first: {faults[0][1]}",
            where=path,
            expected=f"every row of {test.path} once, in its order, with {', '.join(test.fields)} as there and prediction 0 or 1",
            do="write the file with `relevance cikm predict`",
        )
    return [answer for _, answer in lines]


def _fault(test: Rows, places: Mapping[Any, int], seen: set[Any], highest: int, answer: Any) -> tuple[str, str]:
    """Returns kind and description of the fault of one line; two empty texts for a correct line."""
    if not isinstance(answer, dict) or not _is_id(answer.get("id")):
        return "unreadable", "no JSON object with an id"
    number, prediction = answer["id"], answer.get("prediction")
    if number not in places:
        return "extra", f"the id {number!r} is not in the test file"
    if number in seen:
        return "repeated", f"the id {number!r} a second time"
    if type(prediction) is not int or prediction not in (0, 1):
        return "not 0 or 1", f"the prediction of id {number!r} is {prediction!r}"
    row = test.rows[places[number]]
    changed = [name for name in test.fields if name not in answer or answer[name] != row.get(name)]
    if changed:
        return "changed", f"{', '.join(changed)} of id {number!r} is not as in the test file"
    if places[number] < highest:
        return "out of order", f"the id {number!r} stands earlier in the test file"
    return "", ""


def _measured(given: Mapping[Any, int], labelled: Rows) -> Result:
    """Measures F1 and its companions, overall and by the languages that the labels file names. Raises DataError for other ids."""
    labels, ids = labelled.labels(), [row["id"] for row in labelled.rows]
    if labels is None or set(ids) != set(given):
        raise DataError("these are not the labels of the test file", where=labelled.path, expected="its ids, and a label for each")
    answers = pl.Series([given[number] for number in ids], dtype=pl.Float64).to_numpy()
    figures = measure(answers, pl.Series(labels).to_numpy() == 1, [row["language"] for row in labelled.rows], 0.5)
    per_language = {name: {key: of[key] for key in _SHOWN} for name, of in figures["per_language"].items()}
    return {key: figures[key] for key in _SHOWN} | {"per_language": per_language}


def _tell(tasks: Mapping[Task, Result], average: float | None) -> None:
    for task, figures in tasks.items():
        log.info("%s: %s is right: %s rows, %s of them 1", task, figures["submission"], figures["rows"], figures["relevant"])
        if "f1" in figures:
            log.info("%s: F1 %.4f (always yes %.4f)", task, figures["f1"], figures["always_yes_f1"])
            for language, of in figures["per_language"].items():
                log.info("  %s: F1 %.4f (always yes %.4f), %s rows", language, of["f1"], of["always_yes_f1"], of["rows"])
    if average is not None:
        log.info("average of the F1 of both tasks: %.4f", average)
