"""Faults that files have: what wrote them broke off, or wrote something else."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.fuzzing.forms import DELIMITED, ENCODINGS, Column, Form, Piece, Style
from tests.support.fuzzing.rows import Row

ANY: Final = object()
"""A value that can't be told from a damaged file."""


@dataclass
class Draft:
    """A file while it is written, and what a fault does to it.

    Attributes:
        touched: rows that a fault changed: to be read as they were, or named.
        gone: rows of which nothing is in the file.
        others: rows → values that a reader of the damaged file may rightly say instead.
        ending: of the file's name, where it is not that of its format.
    """

    form: Form
    columns: list[Column]
    rows: list[Row]
    style: Style
    pieces: list[Piece] = field(default_factory=list)
    data: bytes = b""
    touched: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)
    others: dict[int, dict[str, Any]] = field(default_factory=dict)
    ending: str = ""

    def records(self) -> list[int]:
        """Places of the pieces at which one row begins."""
        return [at for at, piece in enumerate(self.pieces) if len(piece.rows) == 1]

    def hit(self, rng: Random) -> Piece:
        """Chooses a row's piece; the row counts as touched."""
        piece = self.pieces[rng.choice(self.records())]
        self.touched.update(piece.rows)
        return piece

    def header(self) -> Piece:
        """The piece of the header."""
        return next(piece for piece in self.pieces if piece.values)

    def replace(self, piece: Piece, values: Sequence[str], delimiter: str = "") -> None:
        """Writes other values as a record."""
        piece.values = list(values)
        piece.text = (delimiter or self.form.dialect.delimiter).join(values)

    def place(self, *keys: str) -> int:
        """The place of a column, by its key."""
        return next(at for at, column in enumerate(self.columns) if column.key in (*keys, "query"))


@dataclass(frozen=True)
class Fault:
    """A kind of fault.

    Attributes:
        formats: in which it happens.
        apply: does it.
        one: exactly one line is bad, and the file's others can be read for certain.
        whole: the file as a whole is meant, so its name is place enough.
        packed: happens to the file's bytes after compression.
        early: happens before anything is written.
    """

    formats: tuple[str, ...]
    apply: Callable[[Random, Draft], None]
    one: bool = False
    whole: bool = False
    packed: bool = False
    early: bool = False


def _cut(rng: Random, draft: Draft) -> None:
    at = rng.choice(draft.records())
    piece = draft.pieces[at]
    piece.text, piece.end = piece.text[: rng.randrange(1, max(2, len(piece.text)))], ""
    draft.touched.update(piece.rows)
    draft.gone.update(index for later in draft.pieces[at + 1 :] for index in later.rows)
    del draft.pieces[at + 1 :]
    if draft.form.format in DELIMITED:
        _seen(draft, piece)


def _seen(draft: Draft, piece: Piece) -> None:
    """A record that was cut in its last value may look whole: nobody can tell."""
    dialect = draft.form.dialect
    text = piece.text if dialect.escape == "double" else re.sub(r"\\.", "xx", piece.text)
    if text.count('"') % 2:
        return
    fields = next(csv.reader(io.StringIO(text, newline=""), delimiter=dialect.delimiter), [])
    key, row = draft.columns[-1].key, draft.rows[piece.rows[0]]
    name = {"category_path": "target", "item_title": "target", "time": "event_time"}.get(key, key)
    held = key not in {"category_path", "item_title"} or draft.style.render(row, key) is not None
    if (
        len(fields) == len(draft.columns)
        and name in {"task", "language", "query", "target", "label", "event_time", "target_id"}
        and held
    ):
        draft.others[piece.rows[0]] = {name: ANY}


def _fewer(rng: Random, draft: Draft) -> None:
    piece = draft.hit(rng)
    at = rng.randrange(len(piece.values))
    draft.replace(piece, piece.values[:at] + piece.values[at + 1 :])


def _more(rng: Random, draft: Draft) -> None:
    piece = draft.hit(rng)
    at = rng.randrange(len(piece.values) + 1)
    draft.replace(piece, [*piece.values[:at], rng.choice(["large", "", "2 l"]), *piece.values[at:]])


def _unclosed(rng: Random, draft: Draft) -> None:
    piece = draft.hit(rng)
    values, at = list(piece.values), draft.place("target")
    values[at] = '"' + values[at].strip('"')
    draft.replace(piece, values)


def _inch(rng: Random, draft: Draft) -> None:
    piece = draft.hit(rng)
    values, at = list(piece.values), draft.place()
    values[at] = rng.choice(['"5" Rohr', '"best" pan', '" pan', '"" pan'])
    draft.replace(piece, values)
    draft.others[piece.rows[0]] = {"query": values[at]}


def _inch_pair(rng: Random, draft: Draft) -> None:
    places = draft.records()
    if len(places) < 2:
        return _inch(rng, draft)
    first, second = sorted(rng.sample(places, 2)) if rng.random() < 0.3 else (places[0], places[1])
    for at, text in ((first, '"12 pan'), (second, 'pan 14"')):
        piece = draft.pieces[at]
        values = list(piece.values)
        values[draft.place()] = text
        draft.replace(piece, values)
        draft.touched.update(piece.rows)
        draft.others[piece.rows[0]] = {"query": text}
    return None


def _stray(rng: Random, draft: Draft) -> None:
    piece = draft.hit(rng)
    values, at = list(piece.values), draft.place()
    values[at] = '"red" shoe"' if rng.random() < 0.5 else '"red shoe"x'
    draft.replace(piece, values)


def _mixed(rng: Random, draft: Draft) -> None:
    piece = draft.hit(rng)
    draft.replace(piece, piece.values, rng.choice([sign for sign in ",;\t|" if sign != draft.form.dialect.delimiter]))


def _header_again(rng: Random, draft: Draft) -> None:
    header = draft.header()
    draft.pieces.insert(rng.choice(draft.records()), Piece(header.text, end=draft.form.end))


def _header_of_other_order(rng: Random, draft: Draft) -> None:
    at, header = rng.choice(draft.records()), draft.header()
    order = list(range(len(draft.columns)))
    while order == sorted(order):
        rng.shuffle(order)
    for piece in draft.pieces[at:]:
        if piece.rows:
            draft.replace(piece, [piece.values[place] for place in order])
            draft.touched.update(piece.rows)
    draft.pieces.insert(at, Piece(draft.form.dialect.delimiter.join(header.values[place] for place in order), end=draft.form.end))


def _glued(rng: Random, draft: Draft) -> None:
    places = draft.records()
    at = rng.choice(places[:-1] or places)
    draft.pieces[at].end = ""
    draft.touched.update(draft.pieces[at].rows)
    if draft.form.format in DELIMITED:
        draft.pieces.insert(at + 1, Piece(draft.header().text, end=draft.form.end))
    elif at + 1 < len(draft.pieces):
        draft.touched.update(draft.pieces[at + 1].rows)


def _invalid_byte(rng: Random, draft: Draft) -> None:
    piece = draft.hit(rng)
    data = piece.text.encode(ENCODINGS[draft.form.encoding][0])
    at = data.find(f"q{piece.rows[0]}".encode())
    at = at if at > 0 else len(data) - 1
    piece.raw = data[:at] + rng.choice([b"\xff", b"\xe9", b"\xc3", b"\xed\xa0\xbd"]) + data[at:]


def _nul(rng: Random, draft: Draft) -> None:
    piece = draft.hit(rng)
    row = piece.rows[0]
    marked = f"q{row}"
    piece.text = piece.text.replace(marked, f"\0{marked}", 1)
    query = draft.rows[row].query
    if query is not None:
        draft.others[row] = {"query": query.replace(marked, f"\0{marked}", 1)}


def _header_twice(rng: Random, draft: Draft) -> None:
    header = draft.header()
    values = list(header.values)
    at = rng.randrange(len(values) + 1)
    values.insert(at, rng.choice(values))
    for piece in draft.pieces:
        if piece.rows:
            draft.replace(piece, [*piece.values[:at], "twice", *piece.values[at:]])
    draft.replace(header, values)
    draft.touched.update(range(len(draft.rows)))


def _no_column(rng: Random, draft: Draft) -> None:
    name = rng.choice(["query", "label", "language", "target"])
    keys = {"target": {"target", "category_path", "item_title"}}.get(name, {name})
    draft.columns = [column for column in draft.columns if column.key not in keys]
    for index in range(len(draft.rows)):
        draft.touched.add(index)
        draft.others[index] = {name: None, "missing": name}


def _object(piece: Piece) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(piece.text)
    return found


def _put(draft: Draft, piece: Piece, change: Callable[[dict[str, Any]], str]) -> None:
    piece.text = change(_object(piece)).replace("\n", " ")


def _name(draft: Draft, key: str) -> str:
    return next(column.header for column in draft.columns if column.key == key)


def _nan(rng: Random, draft: Draft) -> None:
    name, piece = _name(draft, rng.choice(["label", "query"])), draft.hit(rng)
    value = rng.choice([float("nan"), float("inf"), float("-inf")])
    _put(draft, piece, lambda found: json.dumps(found | {name: value}))


def _surrogate(rng: Random, draft: Draft) -> None:
    name, piece = _name(draft, "query"), draft.hit(rng)
    mark = json.dumps("\x01")[1:-1]
    half = rng.choice(["\\ud83d", "\\ude00", "\\ude00\\ud83d"])
    _put(draft, piece, lambda found: json.dumps(found | {name: "pan \x01 x"}).replace(mark, half))


def _deep(rng: Random, draft: Draft) -> None:
    piece, depth = draft.hit(rng), rng.choice([200, 5000, 100_000])
    name = rng.choice(["extra", _name(draft, "query")])
    mark = json.dumps("\x01")
    nested = "[" * depth + "]" * depth if rng.random() < 0.5 else '{"a":' * depth + "1" + "}" * depth
    _put(draft, piece, lambda found: json.dumps(found | {name: "\x01"}).replace(mark, nested))


def _twice(rng: Random, draft: Draft) -> None:
    """The last of two equal keys counts, as for every reader of JSON in wide use."""
    name, piece = _name(draft, "query"), draft.hit(rng)
    given = name in _object(piece)
    piece.text = "{" + json.dumps(name) + ': "the first", ' + piece.text.lstrip()[1:]
    if not given:
        draft.others[piece.rows[0]] = {"query": "the first"}


def _no_text(rng: Random, draft: Draft) -> None:
    name, piece = _name(draft, "query"), draft.hit(rng)
    value = rng.choice([["red", "shoe"], {"text": "red shoe"}, []])
    _put(draft, piece, lambda found: json.dumps(found | {name: value}))


def _garbage(rng: Random, draft: Draft) -> None:
    piece = draft.hit(rng)
    piece.text = rng.choice(
        [
            "garbage",
            "{'query': 'x'}",
            '{"query": "x"',
            '{"query": }',
            "[1, 2]",
            "null",
            '"text"',
            "12",
            "<html>",
            "{",
            "}",
            '{"a": 1,}',
            "// x",
        ]
    )


def _array_as_lines(rng: Random, draft: Draft) -> None:
    draft.ending = rng.choice(["jsonl", "ndjson"])
    draft.touched.update(range(len(draft.rows)))


def _wrapped(rng: Random, draft: Draft) -> None:
    draft.pieces[0].text = '{"data": ['
    draft.pieces[-1].text = "]}"
    draft.touched.update(range(len(draft.rows)))


def _trailing(rng: Random, draft: Draft) -> None:
    draft.pieces.append(Piece(rng.choice(["x", "[]", "{}", "]", ","]), end="\n"))


def _wrong_ending(rng: Random, draft: Draft) -> None:
    kind = "jsonl" if draft.form.format == "ndjson" else draft.form.format
    endings = {"csv": "csv", "tsv": "tsv", "jsonl": "jsonl", "json": "json", "parquet": "parquet"}
    draft.ending = rng.choice([ending for name, ending in endings.items() if name != kind])
    draft.touched.update(range(len(draft.rows)))


def _wrong_compression(rng: Random, draft: Draft) -> None:
    """`.csv.gz` that is no gzip, or gzip that is called `.csv`."""
    name = draft.form.format
    draft.ending = name if draft.form.compression else f"{name}.{rng.choice(['gz', 'zst'])}"
    draft.touched.update(range(len(draft.rows)))


def _cut_packed(rng: Random, draft: Draft) -> None:
    draft.data = draft.data[: rng.randrange(1, len(draft.data) - 1)]
    draft.touched.update(range(len(draft.rows)))


def _zeroed(rng: Random, draft: Draft) -> None:
    at = rng.randrange(1, len(draft.data))
    draft.data = draft.data[:at] + b"\0" * (len(draft.data) - at)
    draft.touched.update(range(len(draft.rows)))


def _listed(rng: Random, draft: Draft) -> None:
    _retyped(draft, lambda texts: pa.array([None if text is None else [text, "x"] for text in texts]))


def _struct(rng: Random, draft: Draft) -> None:
    _retyped(draft, lambda texts: pa.array([{"text": text} for text in texts]))


def _binary(rng: Random, draft: Draft) -> None:
    row = rng.randrange(len(draft.rows))
    data = pq.read_table(io.BytesIO(draft.data))[_name(draft, "query")].to_pylist()
    raw = [None if text is None else text.encode() for text in data]
    raw[row] = b"\xff\xfe\x80" + (raw[row] or b"")
    _retyped(draft, lambda _: pa.array(raw, pa.binary()))
    draft.touched = {row}


def _retyped(draft: Draft, convert: Callable[[list[Any]], pa.Array]) -> None:
    table = pq.read_table(io.BytesIO(draft.data))
    name = _name(draft, "query")
    table = table.set_column(table.column_names.index(name), name, convert(table[name].to_pylist()))
    out = io.BytesIO()
    pq.write_table(table, out)
    draft.data = out.getvalue()
    draft.touched.update(range(len(draft.rows)))


LINES: Final = ("jsonl", "ndjson")
TEXT: Final = (*DELIMITED, *LINES)
FAULTS: Final[dict[str, Fault]] = {
    "cut file": Fault(TEXT, _cut, one=True),
    "cut array": Fault(("json",), _cut),
    "cut gzip or zstd": Fault((*TEXT, "json"), _cut_packed, whole=True, packed=True),
    "too few values": Fault(DELIMITED, _fewer, one=True),
    "too many values": Fault(DELIMITED, _more, one=True),
    "unclosed quote": Fault(DELIMITED, _unclosed, one=True),
    "quote at a value's start": Fault(DELIMITED, _inch, one=True),
    "two quotes that make two rows one": Fault(DELIMITED, _inch_pair),
    "quote inside a quoted value": Fault(DELIMITED, _stray, one=True),
    "line of another delimiter": Fault(DELIMITED, _mixed, one=True),
    "header again": Fault(DELIMITED, _header_again, one=True),
    "header again, other order": Fault(DELIMITED, _header_of_other_order),
    "column twice": Fault(DELIMITED, _header_twice, whole=True),
    "two files glued": Fault(TEXT, _glued, one=True),
    "byte that is no UTF-8": Fault(TEXT, _invalid_byte, one=True),
    "NUL": Fault(TEXT, _nul, one=True),
    "column missing": Fault((*TEXT, "json", "parquet"), _no_column, whole=True, early=True),
    "NaN or Infinity": Fault((*LINES, "json"), _nan, one=True),
    "half a surrogate": Fault((*LINES, "json"), _surrogate, one=True),
    "deep nesting": Fault((*LINES, "json"), _deep, one=True),
    "key twice": Fault((*LINES, "json"), _twice, one=True),
    "list or object as text": Fault((*LINES, "json"), _no_text, one=True),
    "line that is no object": Fault(LINES, _garbage, one=True),
    "array named .jsonl": Fault(("json",), _array_as_lines, whole=True),
    "array in an object": Fault(("json",), _wrapped, whole=True),
    "text after the array": Fault(("json",), _trailing, whole=True),
    "wrong ending": Fault((*TEXT, "json", "parquet"), _wrong_ending, whole=True),
    "wrong compression": Fault((*TEXT, "json"), _wrong_compression, whole=True),
    "cut Parquet": Fault(("parquet",), _cut_packed, whole=True, packed=True),
    "zeros at the end": Fault(("parquet",), _zeroed, whole=True, packed=True),
    "list column": Fault(("parquet",), _listed, whole=True, packed=True),
    "struct column": Fault(("parquet",), _struct, whole=True, packed=True),
    "bytes that are no UTF-8": Fault(("parquet",), _binary, one=True, packed=True),
}
"""Every kind of fault."""
