"""Files of rows: formats, dialects, encodings, compressions."""

from __future__ import annotations

import bisect
import gzip
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from random import Random
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.fuzzing.rows import Row

ENCODINGS: Final[dict[str, tuple[str, bytes]]] = {
    "utf-8": ("utf-8", b""),
    "utf-8-sig": ("utf-8", b"\xef\xbb\xbf"),
    "utf-16": ("utf-16-le", b"\xff\xfe"),
    "utf-16 (big end first)": ("utf-16-be", b"\xfe\xff"),
    "utf-16-le": ("utf-16-le", b""),
    "utf-16-be": ("utf-16-be", b""),
    "cp1252": ("cp1252", b""),
    "latin-1": ("latin-1", b""),
    "shift_jis": ("shift_jis", b""),
    "gb18030": ("gb18030", b""),
}
"""Name → Python's codec without a mark, and the mark. The names without a mark are Python's own."""

LEGACY: Final = ("cp1252", "latin-1", "shift_jis", "gb18030")
"""Encodings that nothing in a file tells."""

DELIMITED: Final = ("csv", "tsv")
TEXTUAL: Final = (*DELIMITED, "jsonl", "ndjson", "json")


@dataclass(frozen=True)
class Dialect:
    """The dialect of a delimited file.

    Attributes:
        delimiter: between values.
        quote: around values: `"`, `'`, or "" where quotes are text.
        quoting: minimal, all or nonnumeric.
        escape: double (RFC 4180) or backslash (Spark).
        sep: a first line `sep=;` as Excel reads it.
        blanks: lines below the data: "", blank, delimiters or both.
        bare: with escape backslash, a value is not quoted for its backslashes (Spark), and they are not escaped then.
    """

    delimiter: str = ","
    quote: str = '"'
    quoting: str = "minimal"
    escape: str = "double"
    sep: bool = False
    blanks: str = ""
    bare: bool = False

    def value(self, text: str, *, number: bool = False) -> str:
        """Returns a value as it stands in the file."""
        if not self.quote or not self._quoted(text, number):
            return text
        if self.escape == "double":
            return self.quote + text.replace(self.quote, 2 * self.quote) + self.quote
        return self.quote + text.replace("\\", "\\\\").replace(self.quote, "\\" + self.quote) + self.quote

    def _quoted(self, text: str, number: bool) -> bool:
        if self.quoting != "minimal":
            return self.quoting == "all" or not number
        special = {self.delimiter, self.quote, "\n", "\r"} | ({"\\"} if self.escape == "backslash" and not self.bare else set())
        return any(sign in text for sign in special)

    def fits(self, text: str) -> bool:
        """Tells whether a file of this dialect can hold the text."""
        return bool(self.quote) or not set(text) & {self.delimiter, "\n", "\r"}

    @property
    def name(self) -> str:
        """The dialect in words."""
        delimiter = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}[self.delimiter]
        quotes = {'"': "", "'": ", single quotes", "": ", quotes as text"}[self.quote]
        return delimiter + quotes + (", backslash" if self.escape == "backslash" else "")


@dataclass(frozen=True)
class Form:
    """The form in which one file is written."""

    format: str
    compression: str = ""
    encoding: str = "utf-8"
    end: str = "\n"
    dialect: Dialect = field(default_factory=Dialect)
    pretty: bool = False
    ascii: bool = False
    final: bool = True

    def fits(self, text: str) -> bool:
        """Tells whether the file can hold the text and give it back."""
        if self.format in DELIMITED and not self.dialect.fits(text):
            return False
        if self.format == "parquet" or (self.ascii and self.format not in DELIMITED):
            return True
        codec = ENCODINGS[self.encoding][0]
        try:
            return text.encode(codec).decode(codec) == text
        except UnicodeError:
            return False


@dataclass(frozen=True)
class Column:
    """A column of a file: its header and its key (a field of Row, `category_path`, `item_title`, or an extra)."""

    header: str
    key: str


@dataclass
class Piece:
    """A part of a text file that begins on a line of its own, unless the piece before has no end.

    Attributes:
        text: without its end.
        rows: numbers of the rows that begin here.
        end: what ends it.
        raw: bytes that stand in place of the text.
        values: of a record of a delimited file, as they stand in it.
    """

    text: str
    rows: tuple[int, ...] = ()
    end: str = "\n"
    raw: bytes | None = None
    values: list[str] = field(default_factory=list)


@dataclass
class Style:
    """How a source spells values, the same in all of its files."""

    time: str
    label: str
    ids: str
    upper_language: bool

    def render_time(self, moment: datetime) -> str:
        """Returns a moment as text."""
        if self.time == "zone":
            return moment.astimezone(timezone(timedelta(hours=2))).isoformat()
        if self.time == "zulu":
            return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        if self.time == "blank":
            return moment.strftime("%Y-%m-%d %H:%M:%S")
        short = moment.strftime("%Y-%m-%dT%H:%M") if self.time == "java" and not moment.second else ""
        return short or moment.strftime("%Y-%m-%dT%H:%M:%S")

    def render(self, row: Row, key: str) -> Any:
        """Returns the value of a row under a column's key, typed; None where it has none."""
        if key == "category_path":
            return row.target if row.task == "QC" else None
        if key == "item_title":
            return row.target if row.task == "QI" else None
        if key == "language":
            return row.language.upper() if self.upper_language else row.language
        if key == "label":
            return {"whole": row.label, "truth": bool(row.label), "float": float(row.label)}.get(self.label, str(row.label))
        if key == "time":
            return self.render_time(row.time)
        if key == "target_id" and row.target_id is not None and self.ids == "whole" and row.target_id[0] != "0":
            return int(row.target_id) if row.target_id.isdigit() else row.target_id
        return getattr(row, key) if hasattr(row, key) else _extra(row, key)


def _extra(row: Row, key: str) -> Any:
    kinds: dict[str, Callable[[], Any]] = {
        "position": lambda: row.number + 1,
        "price": lambda: round(row.number * 1.37, 2),
        "comment": lambda: ("", "ok", "checked, twice", 'said "no"')[row.number % 4],
        "tags": lambda: ["a", f"b{row.number}"],
        "meta": lambda: {"n": row.number, "s": "x"},
    }
    return kinds[key]()


def as_text(value: Any) -> str:
    """Returns a value as a delimited file holds it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value)


def delimited(form: Form, columns: Sequence[Column], rows: Sequence[Row], style: Style, rng: Random) -> list[Piece]:
    """Returns the pieces of a delimited file."""
    dialect, end = form.dialect, form.end
    header = [dialect.value(column.header) for column in columns]
    pieces = [Piece(f"sep={dialect.delimiter}", end=end)] if dialect.sep else []
    pieces.append(Piece(dialect.delimiter.join(header), end=end, values=header))
    for index, row in enumerate(rows):
        typed = [style.render(row, column.key) for column in columns]
        values = [dialect.value(as_text(value), number=isinstance(value, int | float)) for value in typed]
        pieces.append(Piece(dialect.delimiter.join(values), (index,), end, values=values))
    empty = dialect.delimiter * (len(columns) - 1)
    below = {"": [], "blank": ["", ""], "delimiters": [empty], "both": [empty, "", empty, empty]}[dialect.blanks]
    if below and len(pieces) > 3 and rng.random() < 0.3:
        pieces.insert(rng.randrange(2 + dialect.sep, len(pieces)), Piece(below[0], end=end))
    pieces += [Piece(text, end=end) for text in below]
    if not form.final:
        pieces[-1].end = ""
    return pieces


def json_lines(form: Form, columns: Sequence[Column], rows: Sequence[Row], style: Style, rng: Random) -> list[Piece]:
    """Returns the pieces of a file of JSON lines; a null is a key with null in half of the files, else no key."""
    absent, compact = rng.random() < 0.5, rng.random() < 0.5
    pieces = []
    for index, row in enumerate(rows):
        found = {column.header: style.render(row, column.key) for column in columns}
        kept = {name: value for name, value in found.items() if not (absent and value is None)}
        text = json.dumps(kept, ensure_ascii=form.ascii, separators=(",", ":") if compact else None)
        pieces.append(Piece(text, (index,), form.end))
    if rng.random() < 0.1:
        pieces.append(Piece("", end=form.end))
    if pieces and not form.final:
        pieces[-1].end = ""
    return pieces


def json_array(form: Form, columns: Sequence[Column], rows: Sequence[Row], style: Style, rng: Random) -> list[Piece]:
    """Returns the pieces of one JSON array of objects."""
    between = form.end if form.pretty else ""
    pieces = [Piece("[", end=between)]
    for index, row in enumerate(rows):
        found = {column.header: style.render(row, column.key) for column in columns}
        text = json.dumps(found, ensure_ascii=form.ascii, indent=1 if form.pretty else None)
        pieces.append(Piece(text.replace("\n", form.end), (index,), ("," if index < len(rows) - 1 else "") + between))
    return [*pieces, Piece("]", end=form.end if form.final else "")]


def parquet(columns: Sequence[Column], rows: Sequence[Row], style: Style, rng: Random) -> bytes:
    """Returns a Parquet file in one of the types that writers choose."""
    arrays, names = [], []
    for column in columns:
        values = [style.render(row, column.key) for row in rows]
        arrays.append(_array(column.key, values, rows, style, rng))
        names.append(column.header)
    out = io.BytesIO()
    options = {"compression": rng.choice(["snappy", "zstd", "none", "gzip"]), "use_dictionary": rng.random() < 0.5}
    pq.write_table(pa.table(arrays, names=names), out, row_group_size=rng.choice([2, 7, 1000]), **options)
    return out.getvalue()


def _array(key: str, values: list[Any], rows: Sequence[Row], style: Style, rng: Random) -> pa.Array:
    if key == "time" and style.time != "java":
        naive = style.time == "blank"
        unit = rng.choice(["ms", "us", "ns"])
        return pa.array(
            [row.time.replace(tzinfo=None) if naive else row.time for row in rows], pa.timestamp(unit, None if naive else "UTC")
        )
    if key == "target_id" and style.ids == "whole" and all(value is None or isinstance(value, int) for value in values):
        return pa.array(values, pa.float64() if rng.random() < 0.4 else pa.int64())
    if key == "label" and style.label == "whole":
        return pa.array(values, rng.choice([pa.int8(), pa.int32(), pa.int64(), pa.uint8()]))
    if key in {"tags", "meta", "position", "price"} or any(isinstance(value, int | float) for value in values):
        texts = [as_text(value) if key == "target_id" and value is not None else value for value in values]
        return pa.array(texts)
    kind = rng.choice([pa.string(), pa.large_string(), pa.string_view()])
    array = pa.array(values, kind)
    return array.dictionary_encode() if kind == pa.string() and rng.random() < 0.2 else array


WRITERS: Final = {"csv": delimited, "tsv": delimited, "jsonl": json_lines, "ndjson": json_lines, "json": json_array}


def assemble(form: Form, pieces: Sequence[Piece]) -> tuple[bytes, dict[int, frozenset[int]]]:
    """Returns the file's bytes before compression, and each row's number → the lines on which it may be said to begin.

    A line ends at LF, CRLF or CR; a reader that counts LF alone, or only what ends records, counts as well.
    """
    codec, mark = ENCODINGS[form.encoding]
    data, text, starts = [mark], [], []
    offset = 0
    for piece in pieces:
        starts.append(offset)
        data.append(piece.raw if piece.raw is not None else piece.text.encode(codec))
        data.append(piece.end.encode(codec))
        text.append(piece.text + piece.end)
        offset += len(text[-1])
    whole = "".join(text)
    breaks = [[found.end() for found in re.finditer(mark, whole)] for mark in ("\r\n|\r|\n", "\n", form.end)]
    lines = {}
    for piece, start in zip(pieces, starts, strict=True):
        for index in piece.rows:
            lines[index] = frozenset(1 + bisect.bisect_right(ends, start) for ends in breaks)
            if form.format == "json":
                lines[index] |= {index + 1}
    return b"".join(data), lines


def compress(data: bytes, compression: str, rng: Random) -> bytes:
    """Compresses, as two members now and then, which tools that append leave."""
    at = rng.randrange(len(data)) if data and rng.random() < 0.15 else 0
    parts = [data[:at], data[at:]] if at else [data]
    if compression == "gz":
        return b"".join(gzip.compress(part, mtime=0) for part in parts)
    if compression == "zst":
        return b"".join(_zstd(part) for part in parts)
    return data


def decompress(data: bytes, compression: str) -> bytes:
    """Undoes `compress`, by gzip and pyarrow."""
    if compression == "gz":
        return gzip.decompress(data)
    if compression == "zst":
        with pa.input_stream(pa.BufferReader(data), compression="zstd") as stream:
            return bytes(stream.read())
    return data


def _zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())
