"""Delimited text, such as CSV and TSV: its dialect is proved, then it is read at full speed; else each bad row is named."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa
from pyarrow import csv

from relevance_core.sources.names import ALIASES, known_as
from relevance_core.sources.reading import LINE, UNREAD, Form, Options, Reading, Unreadable
from relevance_core.sources.records import Bad, Dialect, Kind, Records, parse, scan, spellings, two_readings
from relevance_core.sources.text import decode_rows, newline_of, told

DELIMITERS: Final = (",", ";", "\t", "|")
"""The delimiters among which the header chooses; the first of equals is taken where no name is known."""

_QUOTES: Final = {"double": '"', "single": "'", "none": ""}
_SEP: Final = re.compile(r'"?sep=([^\w\s"\']|\t)"?(?:\r\n|\n|\r|\Z)', re.IGNORECASE)
SMALL: Final = 1 << 16
"""The bytes below which a text goes to the exact reader at once: it is the faster of the two there."""

_HEAD: Final = 1 << 20
_BLOCK: Final = 1 << 24
_TEXT: Final = re.compile(r"[^\s,;|]")
_NAMES: Final = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
_TELLING: Final = (*ALIASES["label"], *ALIASES["task"], *ALIASES["language"], *ALIASES["event_time"], *ALIASES["target_id"])
"""Columns whose values are no words, as names of columns are; the first that a file has is searched for them."""

_GO_ON: Final = "or set source.bad_rows to quarantine to go on without such lines"
_DO: Final[dict[Kind, str]] = {
    "fields": f"correct the line, set source.csv.delimiter or source.csv.quote if the file has others, {_GO_ON}",
    "quote": f"set source.csv.quote to none if quotes are text, correct the line, {_GO_ON}",
    "header": f"take the line out, {_GO_ON}",
    "lines": f"set source.csv.quote to none if quotes are text, write the value on one line, {_GO_ON}",
    "encoding": f"set source.encoding to the file's encoding, such as cp1252, correct the line, {_GO_ON}",
}
_EXPECTED: Final[dict[Kind, str]] = {
    "quote": "quotes around a whole value, each quote in it doubled (RFC 4180)",
    "header": "the header on the first line alone",
    "lines": "a row that can be read in a single way",
    "encoding": "text in the file's encoding throughout",
}


@dataclass(frozen=True)
class _Start:
    """The begin of a delimited text.

    Attributes:
        header: the names of the columns.
        at: the offset of the line behind the header, in characters.
        line: that line's number.
        first: the header's line.
        dialect: as settled by the settings and the header; its escape is settled later.
    """

    header: list[str]
    at: int
    line: int
    first: int
    dialect: Dialect

    def known(self, options: Options) -> dict[int, str]:
        """Returns the number of each column that is read → its known name. Raises Unreadable."""
        try:
            named = options.named(self.header)
        except Unreadable as error:
            error.line = self.first
            raise
        return {self.header.index(column): name for column, name in named.items()}


def read_delimited(data: bytes, options: Options, *, tab: bool) -> Reading:
    """Reads delimited text with a header.

    Values are text. An empty value is null, with quotes around it or not: many writers quote every value, also those that are not
    there. Blank lines, lines of nothing but delimiters and Excel's first line `sep=;` are no rows. Lines end in LF, CRLF or CR. The
    delimiter is the setting's, or of comma, semicolon, tab and bar the one under which the header has the most known names.

    A quote is special where a value begins with it; it must then close before a delimiter or a line end, and a quote in the value
    is doubled (RFC 4180) or has a backslash before it (Spark, where a backslash in quotes is written as two). Where a backslash
    stands before a quote or another backslash both are tried; the reading with fewer bad rows is taken, and two that are as good
    and differ are refused. Quotes inside a value that does not begin with one are text.

    Args:
        data: the whole decompressed file.
        options: the settings.
        tab: the file's name says that tabs divide its values.

    Raises:
        Unreadable: the header, or with `bad_rows="stop"` a row, can't be read for certain.
    """
    data, encoding, undecoded = decode_rows(data, options)
    start = _start(data, options, tab=tab)
    if start is None:
        return Reading(_frame({}, [], {}), Form("csv", encoding=encoding))
    _check_header_bytes(undecoded, start)
    known = start.known(options)
    if not known and start.header[0].lstrip().startswith(("[", "{")):
        raise Unreadable(
            "the text is JSON",
            line=start.first,
            expected="a header that names columns",
            do="set the file's ending to .json for an array, or to .jsonl for one object a line",
        )
    frame, escape = None, ""
    if len(data) >= SMALL and not undecoded:
        frame, escape = _fast(data, start, known, options)
    if frame is None:
        text = data.decode()
        records, escape = _escape_settled(text, start, options)
        _mark_undecoded(records, undecoded)
        if known and options.bad_rows == "stop":
            stop_at_first(records, start.dialect, len(start.header))
        frame = _frame(known, records.rows, records.bad, records.lines)
    ignored = tuple(name for number, name in enumerate(start.header) if number not in known)
    return Reading(frame, Form("csv", "", encoding, start.dialect.delimiter, escape), ignored)


def read_companion(data: bytes, *, quoted: bool = True) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Returns the header and, with their lines, the rows of a tab-separated file beside the logs. Raises Unreadable.

    Such a file has no settings: its values are quoted as Excel does it (RFC 4180), or, where that fits no value of the file, quotes
    are text.

    Args:
        data: the text, in UTF-8.
        quoted: values may have quotes around them; else every quote is text.
    """
    text, start = data.decode(), _start(data, Options(delimiter="tab", quote="double" if quoted else "none"), tab=True)
    if start is None:
        return [], []
    records = parse(text, start.at, start.line, start.dialect, start.header)
    if records.bad and not _quoted(text, start.dialect):
        start = replace(start, dialect=Dialect("\t", ""))
        records = parse(text, start.at, start.line, start.dialect, start.header)
    if records.bad:
        number, bad = min(records.bad.items())
        raise Unreadable(
            bad.why,
            line=records.lines[number],
            expected=_EXPECTED.get(bad.kind, f"{len(start.header)} values, a tab between two, as in the header"),
            do="correct the line; quotes in a name need quotes around the name, and are doubled there",
        )
    return start.header, [(line, row) for line, row in zip(records.lines, records.rows, strict=True) if row is not None]


def _quoted(text: str, dialect: Dialect) -> bool:
    """Tells whether any value of the text has quotes around it that open and close rightly."""
    quote, delimiter = re.escape(dialect.quote), re.escape(dialect.delimiter)
    return bool(
        re.search(rf"(?:\A|[{delimiter}\r\n]){quote}(?:[^{quote}\r\n]|{quote}{quote})*+{quote}(?=[{delimiter}\r\n]|\Z)", text)
    )


def _check_header_bytes(undecoded: dict[int, str], start: _Start) -> None:
    if undecoded and min(undecoded) < start.at:
        raise Unreadable(
            undecoded[min(undecoded)],
            line=start.first,
            expected="a header in the file's encoding",
            do="set source.encoding to the file's encoding",
        )


def _mark_undecoded(records: Records, undecoded: dict[int, str]) -> None:
    """Spoils the records in which a byte could not be decoded."""
    for at, why in undecoded.items():
        records.spoil(bisect.bisect_right(records.starts, at) - 1, Bad("encoding", told(why)))


def _start(data: bytes, options: Options, *, tab: bool) -> _Start | None:
    """Finds the header and the delimiter; None in a text without any. Raises Unreadable."""
    head = data[:_HEAD].decode(errors="ignore") if len(data) > _HEAD else data.decode()
    newline = newline_of(head)
    note = _SEP.match(head)
    sep = note[1] if note else ""
    begin = _TEXT.search(head, note.end() if note else 0)
    if begin is None:
        return None
    at = max(head.rfind("\n", 0, begin.start()), head.rfind("\r", 0, begin.start())) + 1
    line = _first_line(head, at)
    number = head.count(newline, 0, at) + 1
    quote = _QUOTES[options.quote]
    wanted = {"auto": sep, "tab": "\t"}.get(options.delimiter, options.delimiter)
    found = {mark: _header(head, at, Dialect(mark, quote)) for mark in ((wanted,) if wanted else DELIMITERS)}
    readable = {mark: header for mark, header in found.items() if header}
    if not readable:
        raise Unreadable(
            "the header's quotes do not close",
            line=number,
            expected="names of columns, a delimiter between two",
            do="correct the header, or set source.csv.quote to none",
        )
    delimiter = wanted or _best({mark: names for mark, (names, _) in readable.items()}, options, line, number, tab=tab)
    names, end = readable[delimiter]
    after = end + len(re.match(r"\r\n|\n|\r|\Z", head[end:])[0])  # type: ignore[index] # it matches at any line end
    return _Start(names, after, number + head.count(newline, at, after), number, Dialect(delimiter, quote))


def _first_line(text: str, at: int) -> str:
    match = re.compile(r"[^\r\n]*").match(text, at)
    return match[0] if match else ""


def _header(text: str, at: int, dialect: Dialect) -> tuple[list[str], int] | None:
    """Returns the names in the header, and its end; None where its quotes do not close."""
    if not dialect.quote:
        line = _first_line(text, at)
        return line.split(dialect.delimiter), at + len(line)
    for backslash in (False, True):
        found = scan(text, at, Dialect(dialect.delimiter, dialect.quote, backslash))
        if found.values is not None:
            return found.values, found.end
    return None


def _best(headers: dict[str, list[str]], options: Options, line: str, number: int, *, tab: bool) -> str:
    """Returns the delimiter under which the header has the most known names. Raises Unreadable where two are as good."""
    usual = "\t" if tab and "\t" in headers else "," if "," in headers else next(iter(headers))
    split = {mark: names for mark, names in headers.items() if len(names) > 1}
    scores = {mark: len({known_as(name, options.columns) for name in names} - {""}) for mark, names in split.items()}
    most = max(scores.values(), default=0)
    best = [mark for mark in split if scores[mark] == most]
    if not most:
        return usual if usual in split or not split else max(split, key=lambda mark: (line.count(mark), -DELIMITERS.index(mark)))
    if tab and "\t" in best:
        return "\t"
    if len(best) > 1:
        marks = " and with ".join(_NAMES[mark] for mark in best)
        raise Unreadable(
            f"the header has {most} known name{'s' * (most > 1)} with {marks} between values",
            line=number,
            expected="a header that names the columns",
            do="set source.csv.delimiter",
        )
    return best[0]


def _escape_settled(text: str, start: _Start, options: Options) -> tuple[Records, str]:
    """Returns the records under the escape that the settings name or that fits, and its name for Form. Raises Unreadable."""
    dialect, header = start.dialect, start.header
    double = Dialect(dialect.delimiter, dialect.quote)
    backslash = Dialect(dialect.delimiter, dialect.quote, backslash=bool(dialect.quote))

    def parsed(by: Dialect) -> Records:
        return parse(text, start.at, start.line, by, header)

    if options.escape == "backslash":
        records = parsed(backslash)
        return records, "backslash" if records.escaped else ""
    records = parsed(double)
    if options.escape == "double" or not dialect.quote or not any(f"\\{mark}" in text for mark in (dialect.quote, "\\")):
        return records, "double" if records.escaped else ""
    other = parsed(backslash)
    badness, of_other = ((found.alone, len(found.bad)) for found in (records, other))
    if of_other < badness:
        return other, "backslash"
    if of_other == badness and other.rows != records.rows:
        differ = (number for number, (one, two) in enumerate(zip(records.rows, other.rows, strict=False)) if one != two)
        number = next(differ, 0)
        raise Unreadable(
            "a backslash stands before a quote or a backslash: it may be a part of the value or not",
            line=records.lines[number] if records.lines else start.line,
            expected="a file that can be read in a single way",
            do="set source.csv.escape to double or backslash",
        )
    return records, "double" if records.escaped else ""


def stop_at_first(records: Records, dialect: Dialect, width: int) -> None:
    """Raises Unreadable for the first bad record, if there is one."""
    if not records.bad:
        return
    number, bad = min(records.bad.items())
    more = len(records.bad) - 1
    raise Unreadable(
        bad.why + (f"; {more:,} more row{'s' * (more > 1)} can't be read" if more else ""),
        line=records.lines[number],
        expected=_EXPECTED.get(bad.kind, f"{width} values, {_NAMES.get(dialect.delimiter, repr(dialect.delimiter))} between two"),
        do=_DO[bad.kind],
    )


def _frame(known: dict[int, str], rows: Sequence[list[str] | None], bad: dict[int, Bad], lines: Iterable[int] = ()) -> pl.DataFrame:
    columns = [
        pl.Series(name, [(row[number] or None) if row else None for row in rows], dtype=pl.String) for number, name in known.items()
    ]
    unread: list[str | None] = [None] * len(rows)
    for number, reason in bad.items():
        unread[number] = f"row={reason.why}"
    return pl.DataFrame([*columns, pl.Series(LINE, lines, dtype=pl.Int64), pl.Series(UNREAD, unread, dtype=pl.String)])


@dataclass(frozen=True)
class _Layout:
    """A proof that a text follows RFC 4180: its records, each with as many values as the header, and the lines of nothing.

    Attributes:
        lines: the line of each record.
        kept: for each line with any text whether it is a record.
        longest: the most bytes of a record.
        quoted: there are quotes around values; else quotes are text.
        doubled: pairs of quotes that stand for a quote in a quoted value.
    """

    lines: np.ndarray[Any, Any]
    kept: np.ndarray[Any, Any]
    longest: int
    quoted: bool
    doubled: int


def _fast(data: bytes, start: _Start, known: dict[int, str], options: Options) -> tuple[pl.DataFrame | None, str]:
    """Reads a text whose dialect is proved at full speed. Returns None where there is no proof: the exact reader must judge."""
    dialect, width = start.dialect, len(start.header)
    body = data[len(data[:_HEAD].decode(errors="ignore")[: start.at].encode()) :]
    if width < 2 or len(dialect.delimiter.encode()) > 1:
        return None, ""
    backslash, escaped, quote = False, 0, dialect.quote.encode()
    if quote and options.escape != "double" and b"\\" in body and quote in body:
        escaped = body.count(b"\\" + quote)
        backslash = escaped > 0 or options.escape == "backslash"
        if b"\\\\" in body or (escaped and options.escape == "auto" and not _doubled_fails(data, start)):
            return None, ""
        body = body.replace(b"\\" + quote, 2 * quote)
    layout = _proved(body, dialect, width, start.line)
    if layout is None or ((backslash or options.escape == "backslash") and layout.doubled != escaped):
        return None, ""
    columns = _columns(body, start, known, layout) if known else []
    if columns is None:
        return None, ""
    lines = pl.Series(LINE, layout.lines, dtype=pl.Int64)
    unread = pl.Series(UNREAD, [None], dtype=pl.String).new_from_index(0, len(lines))
    return pl.DataFrame([*columns, lines, unread]), "" if not layout.doubled else "backslash" if backslash else "double"


def _columns(body: bytes, start: _Start, known: dict[int, str], layout: _Layout) -> list[pl.Series] | None:
    """Reads the known columns of a text with a proved layout; None where a row may repeat a header."""
    names = [f"{number}" for number in range(len(start.header))]
    block = _BLOCK if layout.longest * 2 < _BLOCK else min(len(body) + 1, (1 << 31) - 1)
    try:
        table = csv.read_csv(
            pa.BufferReader(body),
            csv.ReadOptions(column_names=names, block_size=block),
            csv.ParseOptions(
                delimiter=start.dialect.delimiter,
                quote_char=start.dialect.quote if layout.quoted else False,
                newlines_in_values=layout.quoted,
            ),
            csv.ConvertOptions(
                check_utf8=False,
                column_types=dict.fromkeys(names, pa.large_string()),
                include_columns=[names[number] for number in known],
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
    except pa.ArrowException:
        return None
    if table.num_rows != len(layout.kept):
        return None
    read = pl.DataFrame(pl.from_arrow(table)).rename({names[number]: name for number, name in known.items()})
    if not layout.kept.all():
        read = read.filter(pl.Series(layout.kept))
    # A line with the header of this table or of another has the name of a column in each place: one column is enough to see it.
    telling = next((name for name in _TELLING if name in read.columns), read.columns[0])
    return None if read[telling].is_in(list(spellings(start.header))).any() else read.get_columns()


def _doubled_fails(data: bytes, start: _Start) -> bool:
    """Tells whether a row is bad if quotes in values are doubled."""
    return bool(parse(data.decode(), start.at, start.line, start.dialect, start.header, until_bad=True).bad)


def _proved(body: bytes, dialect: Dialect, width: int, first: int) -> _Layout | None:
    """Returns the layout of a text that follows RFC 4180 throughout, else None. first: the number of its first line."""
    buffer = np.frombuffer(body, np.uint8)
    delimiters = np.flatnonzero(buffer == ord(dialect.delimiter))
    feeds, returns = _line_ends(body, buffer)
    quotes = _quotes(body, buffer, dialect)
    if quotes is None:
        return None
    outside = delimiters
    newlines = feeds if len(returns) <= len(feeds) else np.flatnonzero(buffer == 13)  # as newline_of counts
    every = np.sort(np.concatenate((feeds, returns))) if len(returns) else feeds
    if len(quotes):
        outside = delimiters[_outside(delimiters, quotes)]
        feeds, returns = feeds[_outside(feeds, quotes)], returns[_outside(returns, quotes)]
    if len(feeds) and len(returns):
        return None
    ends = feeds if len(feeds) else returns
    if not len(ends) or ends[-1] != len(body) - 1:
        ends = np.append(ends, len(body))
    starts = np.concatenate(([0], ends[:-1] + 1))
    length = ends - starts
    if len(feeds) and b"\r" in body:
        length -= (length > 0) & (buffer[ends - 1] == 13)
    counts = np.diff(np.searchsorted(outside, np.append(starts, len(body))))
    blank = counts == length
    sound = ~blank
    if (counts[sound] != width - 1).any():
        return None
    lines = np.searchsorted(newlines, starts)
    if len(quotes) and _two_readings(body, delimiters, every, starts, ends, dialect, width):
        return None
    doubled = int((quotes[2::2] - quotes[1:-1:2] == 1).sum()) if len(quotes) else 0
    return _Layout(lines[sound] + first, sound[length > 0], int(length.max(initial=0)), bool(len(quotes)), doubled)


def _line_ends(body: bytes, buffer: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Returns the positions of line feeds, and of carriage returns that stand alone."""
    feeds = np.flatnonzero(buffer == 10)
    if b"\r" not in body:
        return feeds, np.empty(0, np.int64)
    returns = np.flatnonzero(buffer == 13)
    follows = buffer[np.minimum(returns + 1, len(buffer) - 1)]
    return feeds, returns[follows != 10]


def _quotes(body: bytes, buffer: np.ndarray[Any, Any], dialect: Dialect) -> np.ndarray[Any, Any] | None:
    """Returns the positions of quotes around values and in them, none where all are text; None where there is no proof."""
    quote = dialect.quote.encode()
    if not quote or quote not in body:
        return np.empty(0, np.int64)
    quotes = np.flatnonzero(buffer == ord(quote))
    ends = np.zeros(256, bool)
    ends[[ord(dialect.delimiter), 10, 13]] = True
    before = ends[buffer[np.maximum(quotes - 1, 0)]] | (quotes == 0)
    if not before.any():
        spaced = rb"(?:\A|[\r\n" + re.escape(dialect.delimiter.encode()) + rb"])[ \t]+" + quote
        return None if re.search(spaced, body) else np.empty(0, np.int64)
    if len(quotes) % 2:
        return None
    after = ends[buffer[np.minimum(quotes + 1, len(buffer) - 1)]] | (quotes == len(buffer) - 1)
    opens, closes = quotes[::2], quotes[1::2]
    doubled = opens[1:] - closes[:-1] == 1
    opened = before[::2] | np.concatenate(([False], doubled))
    closed = after[1::2] | np.concatenate((doubled, [False]))
    return quotes if opened.all() and closed.all() else None


def _outside(positions: np.ndarray[Any, Any], quotes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    outside: np.ndarray[Any, Any] = np.searchsorted(quotes, positions) & 1 == 0
    return outside


def _two_readings(
    body: bytes,
    delimiters: np.ndarray[Any, Any],
    newlines: np.ndarray[Any, Any],
    starts: np.ndarray[Any, Any],
    ends: np.ndarray[Any, Any],
    dialect: Dialect,
    width: int,
) -> bool:
    """Tells whether a record over several lines may be rows too, if quotes are text; the exact reader judges those that may.

    They are such whose lines all have the delimiters of a row, or that hold those of a row between quotes.
    """
    first, last = np.searchsorted(newlines, starts), np.searchsorted(newlines, ends)
    several = last > first
    if not several.any():
        return False
    bounds = np.concatenate(([0], newlines + 1, [max(int(ends[-1]), 1)]))
    rows = np.concatenate(([0], np.cumsum(np.diff(np.searchsorted(delimiters, bounds)) >= width - 1)))
    begin, end = first[several], last[several] + 1
    starts, ends = starts[several], ends[several]
    inside = np.searchsorted(delimiters, ends) - np.searchsorted(delimiters, starts) >= 2 * (width - 1)
    suspects = np.flatnonzero(inside | (rows[end] - rows[begin] == end - begin))
    return any(two_readings(body[starts[at] : ends[at]].decode(), width, dialect) for at in suspects)
