"""`relevance review …`: the review queue as a file for people, and their decisions back."""

from __future__ import annotations

import argparse
import getpass
import io
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import polars as pl

from relevance_core.cli.outputs import output_file
from relevance_core.cli.parsing import Commands, Parser, a_text, add_command, at_least
from relevance_core.cli.results import Part, Show, Table, counted
from relevance_core.cli.stores import existing_store
from relevance_core.errors import DataError, NotFound, SettingsError
from relevance_core.pairs import TASKS, Task
from relevance_core.runs import review
from relevance_core.store import Store, open_store
from relevance_core.store.disk import writing

log = logging.getLogger(__name__)

Result = dict[str, Any]

SHEET: Final = ("pair_id", "task", "language", "query", "target", "label", "score", "reason", "run_id", "decision")
"""The columns of an exported file. `decision` is empty: people write yes, no or keep there."""

_NEEDED: Final = ("pair_id", "task", "decision")
_TEXTS: Final = ("language", "query", "target")
_SHOWN: Final = 5

# A spreadsheet takes a cell that begins so for a formula, and one of digits for a number or a date; an apostrophe keeps it text.
_READ_OTHERWISE: Final = r"^('*(?:[=+\-@\t\r＝＋－＠].*|[0-9][0-9.,:/eE+\- ]*))$"
_GUARDED: Final = r"^'('*(?:[=+\-@\t\r＝＋－＠].*|[0-9][0-9.,:/eE+\- ]*))$"


def add_review_parser(subparsers: Commands, text: str, common: Parser) -> Parser:
    """Adds `review` and its commands; `common` holds the options that every command has."""
    parser = add_command(subparsers, "review", text, "list --store ./store", listed=False)
    commands: Commands = parser.add_subparsers(dest="review_command", required=True, metavar="COMMAND")

    def command(name: str, show: Show, text: str, example: str) -> Parser:
        made = add_command(commands, name, text, example, common)
        made.set_defaults(show=show)
        return made

    listing = command(
        "list", shown_queue, "how many rows wait, and the most doubtful of them", "--store ./store --task QC --rows 20"
    )
    listing.add_argument("--task", choices=TASKS, help="only this task")
    listing.add_argument("--rows", type=at_least(0), default=10, metavar="N", help="how many rows to show (default: %(default)s)")

    export = command(
        "export",
        shown_export,
        "write the queue to a file with an empty column `decision` for yes, no or keep",
        "--store ./store --language de --output queue.csv",
    )
    export.add_argument("--task", choices=TASKS, help="only this task")
    export.add_argument("--language", type=a_text, metavar="LANG", help="only this language")
    export.add_argument("--output", type=output_file, required=True, metavar="FILE", help=".csv or .jsonl")

    taking = command(
        "import",
        shown_import,
        "read the file back: every row with a decision is recorded, or none if one of them is wrong",
        'queue.csv --store ./store --who "Ann Example" --why "checked against the catalogue"',
    )
    taking.add_argument("file", metavar="FILE", help=".csv or .jsonl")
    taking.add_argument("--who", default="", help="who decided (default: the user of this process)")
    taking.add_argument("--why", default="", help="a remark, kept with the decisions")
    return parser


def run(options: argparse.Namespace) -> Result:
    """Runs the parsed command. Returns one JSON-ready object."""
    if options.review_command == "import":
        # A wrong file is the news, whatever store it is for.
        return _import(options, open_store(options.store))
    return {"list": _list, "export": _export}[options.review_command](options, existing_store(options.store))


def shown_queue(result: Mapping[str, Any]) -> Iterator[Part]:
    """Shows the number of waiting rows by task, then the rows."""
    yield Table(
        ("task", "waiting", "decided", "waiting by language"),
        [
            (task, of["waiting"], of["decided"], " ".join(f"{language} {rows}" for language, rows in of["languages"].items()))
            for task, of in result.items()
        ],
        frozenset(("waiting by language",)),
    )
    names = ("pair_id", "task", "language", "label", "score", "query", "target")
    rows = [tuple(row[name] for name in names) for of in result.values() for row in of["rows"]]
    if rows:
        yield ""
        yield Table(("pair_id", "task", "language", "label", "p(yes)", "query", "target"), rows, frozenset(("query", "target")))


def shown_export(result: Mapping[str, Any]) -> Iterator[Part]:
    """The rows and the file that has them."""
    yield f"{counted(result['rows'], 'row')} written to {result['file']}"


def shown_import(result: Mapping[str, Any]) -> Iterator[Part]:
    """The decisions by word, and the rows that had none."""
    names = ("decided", *review.WORDS, "empty")
    yield Table(("who", *names), [(result["who"], *(result[name] for name in names))])


def _list(options: argparse.Namespace, store: Store) -> Result:
    found: Result = {}
    decided = review.decisions(store)
    for task in _tasks(options):
        waiting = review.queue(store, task)
        found[task] = {
            "waiting": waiting.height,
            "decided": decided.filter(task=task).height,
            "languages": dict(waiting.group_by("language").len().sort("language").iter_rows()),
            "rows": waiting.head(options.rows).to_dicts(),
        }
    return found


def _export(options: argparse.Namespace, store: Store) -> Result:
    rows = pl.concat([review.queue(store, task) for task in _tasks(options)])
    if options.language:
        rows = rows.filter(language=options.language)
    data = write_sheet(rows, _format(options.output))
    with writing(path := Path(options.output)):
        path.write_bytes(data)
    log.info(
        "fill in the column `decision` with %s, then run `relevance review import %s`", ", ".join(review.WORDS), options.output
    )
    return {"rows": rows.height, "file": options.output}


def _import(options: argparse.Namespace, store: Store) -> Result:
    kind, exported = _format(options.file), "a file that `relevance review export` wrote"
    try:
        data = Path(options.file).read_bytes()
    except FileNotFoundError as error:
        raise NotFound("there is no such file", where=options.file, expected=exported) from error
    except OSError as error:
        raise DataError(f"the file can't be read: {error.strerror}", where=options.file, expected=exported) from error
    rows = read_sheet(data, kind, options.file)
    words = checked(rows, store, options.file)
    who = options.who or getpass.getuser()
    review.answer(store, words, who, options.why)
    given = [word for of_task in words.values() for word in of_task.values()]
    log.info("the next run that begins goes by these decisions")
    counts = {word: given.count(word) for word in review.WORDS}
    return {"decided": len(given), "empty": rows["decision"].null_count(), "who": who, **counts}


def write_sheet(rows: pl.DataFrame, kind: str) -> bytes:
    """Rows of the queue as the bytes of a file with the columns SHEET. kind: csv or jsonl."""
    sheet = rows.with_columns(decision=pl.lit("")).select(SHEET)
    if kind == "jsonl":
        return sheet.write_ndjson().encode()
    texts = pl.col(pl.String)
    # A spreadsheet takes a file without this mark for one in the encoding of its country.
    return sheet.with_columns(texts.str.replace(_READ_OTHERWISE, "'${1}")).write_csv(include_bom=True).encode()


def read_sheet(data: bytes, kind: str, where: str) -> pl.DataFrame:
    """The rows of a file as text: those columns of SHEET that it has, and `row`, its place in the file as people count.

    `decision` is lower case, null where it is empty. Raises DataError for a file of another form.
    """
    try:
        rows = _read_csv(data) if kind == "csv" else _read_jsonl(data)
    except (pl.exceptions.PolarsError, ValueError) as error:
        raise DataError(f"the file can't be read: {error}", where=where, expected=f"{kind} in UTF-8") from error
    if missing := [name for name in _NEEDED if name not in rows.columns]:
        raise DataError(
            f"no column {', '.join(missing)}", where=where, expected=", ".join(SHEET), do="keep the names as they were exported"
        )
    word = pl.col("decision").str.strip_chars().str.to_lowercase()
    return rows.with_columns(pl.when(word != "").then(word).alias("decision"))


def _read_csv(data: bytes) -> pl.DataFrame:
    header = data.split(b"\n", 1)[0]
    # Spreadsheets of countries with a decimal comma part cells with semicolons.
    separator = ";" if header.count(b";") > header.count(b",") else ","
    rows = pl.read_csv(io.BytesIO(data), infer_schema=False, separator=separator)
    return rows.with_columns(pl.col(pl.String).str.replace(_GUARDED, "${1}")).with_row_index("row", 2)


def _read_jsonl(data: bytes) -> pl.DataFrame:
    lines = [(number, json.loads(line)) for number, line in enumerate(data.decode().split("\n"), 1) if line.strip()]
    if any(not isinstance(row, dict) for _, row in lines):
        raise ValueError("a line is no JSON object")
    present = [name for name in SHEET if any(name in row for _, row in lines)]
    columns = {name: [None if row.get(name) is None else str(row[name]) for _, row in lines] for name in present}
    schema: dict[str, Any] = {"row": pl.UInt32(), **dict.fromkeys(present, pl.String())}
    return pl.DataFrame({"row": [number for number, _ in lines], **columns}, schema=schema)


def checked(rows: pl.DataFrame, store: Store, where: str) -> dict[Task, dict[str, str]]:
    """The decisions of a file, by task and pair id.

    Raises DataError that names the rows that are wrong, and in what: the task, the word, a pair that nobody was asked about, texts
    that are not the pair's (cells that slipped), a pair decided in two ways.
    """
    decided = rows.filter(pl.col("decision").is_not_null())
    known = pl.concat([review.asked(store, task, decided.filter(task=task)["pair_id"]) for task in TASKS])
    known = known.select("task", "pair_id", *(pl.col(name).alias(f"known_{name}") for name in _TEXTS))
    judged = decided.join(known, on=["task", "pair_id"], how="left", maintain_order="left")
    slipped = [pl.col(name).ne_missing(pl.col(f"known_{name}")) for name in _TEXTS if name in rows.columns]
    ways = pl.col("decision").n_unique().over("task", "pair_id")
    wrong = (
        pl.when(~pl.col("task").is_in(TASKS).fill_null(False)).then(pl.lit(f"the task is none of {', '.join(TASKS)}"))
        .when(~pl.col("decision").is_in(list(review.WORDS))).then(pl.lit(f"the decision is none of {', '.join(review.WORDS)}"))
        .when(pl.col("known_query").is_null()).then(pl.lit("nobody was asked about this pair id"))
        .when(pl.any_horizontal(False, *slipped)).then(pl.lit("language, query or target are not those of this pair id"))
        .when(ways > 1).then(pl.lit("this pair is decided in two ways"))
    )  # fmt: skip
    found = judged.with_columns(wrong=wrong).filter(pl.col("wrong").is_not_null())
    if found.height:
        raise _wrong(found, where)
    return {task: dict(judged.filter(task=task).select("pair_id", "decision").iter_rows()) for task in TASKS}


def _wrong(found: pl.DataFrame, where: str) -> DataError:
    told = [
        f"row {row['row']}: {row['wrong']} ({row['pair_id']}, {row['decision']!r})"
        for row in found.head(_SHOWN).iter_rows(named=True)
    ]
    more = f" and {found.height - _SHOWN} more" if found.height > _SHOWN else ""
    return DataError(
        f"{found.height} row{'s are' if found.height > 1 else ' is'} wrong: {'; '.join(told)}{more}",
        where=where,
        expected="pair ids and texts as exported, and in `decision` yes, no, keep or nothing",
        do="correct these rows and import the file again; nothing of it was recorded",
    )


def _format(file: str) -> str:
    kind = Path(file).suffix.lower().removeprefix(".")
    if kind not in ("csv", "jsonl"):
        raise SettingsError(f"{file} is no file of the review queue", expected="a name that ends in .csv or .jsonl")
    return kind


def _tasks(options: argparse.Namespace) -> tuple[Task, ...]:
    return (options.task,) if options.task else TASKS
