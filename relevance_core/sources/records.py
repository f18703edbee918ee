"""The exact reader of delimited text: every record with its line, and why it is bad. Slow, and right for any dialect."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from relevance_core.sources.names import KNOWN
from relevance_core.sources.reading import Unreadable
from relevance_core.sources.text import newline_of

Kind = Literal["fields", "quote", "header", "lines", "encoding"]

TELLING: Final = 4
"""The columns from which on a line inside a quoted value that has as many values as the header is a row rather than prose."""

_LINE_END: Final = re.compile(r"\r\n|\n|\r")
_KNOWN: Final = frozenset(KNOWN)
_TABLE: Final = 3
"""The known names of columns from which on a line of as many is another header rather than a row of such texts."""


@dataclass(frozen=True)
class Dialect:
    """The form of delimited text.

    Attributes:
        delimiter: the character between two values.
        quote: the character around a value; "" where quotes are text.
        backslash: a quote inside a quoted value is written with a backslash before it, and a backslash as two; else it is doubled.
    """

    delimiter: str
    quote: str = '"'
    backslash: bool = False


class Bad(NamedTuple):
    """The reason why a record can't be read for certain."""

    kind: Kind
    why: str


@dataclass
class Records:
    """Records in their order.

    Attributes:
        lines: the line on which each begins.
        starts: the offset in the text at which each begins.
        rows: the values of each; None for a bad record.
        bad: number of a bad record, from 0 → why.
        pieces: numbers of bad records without a delimiter: what a line end inside a value leaves.
        alone: how many records are bad by themselves, not for those beside them.
        escaped: a quoted value holds a quote.
    """

    lines: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    rows: list[list[str] | None] = field(default_factory=list)
    bad: dict[int, Bad] = field(default_factory=dict)
    pieces: set[int] = field(default_factory=set)
    alone: int = 0
    escaped: bool = False

    def spoil(self, number: int, reason: Bad) -> None:
        """Marks a record as bad; the first reason stays."""
        if self.rows[number] is not None:
            self.rows[number] = None
            self.bad[number] = reason


class Scan(NamedTuple):
    """A record as scanned: its values (None: bad), its end before the line end, and what is notable.

    Attributes:
        bare: a value without quotes around it holds a quote.
        end: of the record's text; of a bad record the place where it was seen to be bad.
    """

    values: list[str] | None
    end: int
    why: str = ""
    bare: bool = False
    escaped: bool = False


@lru_cache(64)
def _patterns(dialect: Dialect) -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    """Returns the patterns of a value up to its delimiter or line end, of a quoted value alone, and of an escaped character."""
    delimiter, quote = re.escape(dialect.delimiter), re.escape(dialect.quote)
    if dialect.backslash:
        quoted = rf"{quote}([^{quote}\\]*+(?:\\.[^{quote}\\]*+)*+){quote}"
        escape = rf"\\([{quote}\\])"
    else:
        quoted = rf"{quote}([^{quote}]*+(?:{quote}{quote}[^{quote}]*+)*+){quote}"
        escape = rf"{quote}({quote})"
    end = rf"(?=[{delimiter}\r\n]|\Z)"
    value = rf"{quoted}{end}|((?:[^{quote}{delimiter}\r\n][^{delimiter}\r\n]*+)?){end}"
    return re.compile(value, re.DOTALL), re.compile(quoted, re.DOTALL), re.compile(escape)


def scan(text: str, at: int, dialect: Dialect) -> Scan:
    """Reads the record that begins at an offset, by a dialect with quotes."""
    value, quoted, escape = _patterns(dialect)
    quote, size = dialect.quote, len(text)
    values: list[str] = []
    bare = escaped = False
    while True:
        match = value.match(text, at)
        if match is None:
            return _unclosed(text, quoted.match(text, at), len(values) + 1, bare, escaped)
        inside, plain = match.groups()
        if inside is not None:
            if quote in inside or (dialect.backslash and "\\" in inside):
                escaped = escaped or quote in inside
                inside = escape.sub(r"\1", inside)
            values.append(inside)
        else:
            if quote in plain:
                if _spaced(plain, quote):
                    why = f"value {len(values) + 1} has white space before its quotes: they are either around it or a part of it"
                    return Scan(None, _end(text, match.end()), why, bare, escaped)
                if dialect.backslash:
                    escaped = escaped or f"\\{quote}" in plain
                    plain = plain.replace(f"\\{quote}", "\0")  # no text has a NUL character
                bare = bare or quote in plain
                plain = plain.replace("\0", quote)
            values.append(plain)
        at = match.end()
        if at == size or text[at] != dialect.delimiter:
            return Scan(values, at, "", bare, escaped)
        at += 1


def _spaced(plain: str, quote: str) -> bool:
    inner = plain.strip(" \t")
    return plain[0] in " \t" and len(inner) > 1 and inner[0] == inner[-1] == quote


def _end(text: str, at: int) -> int:
    match = _LINE_END.search(text, at)
    return match.start() if match else len(text)


def _unclosed(text: str, quoted: re.Match[str] | None, number: int, bare: bool, escaped: bool) -> Scan:
    if quoted is None:
        return Scan(None, len(text), f"value {number} begins with a quote that is never closed", bare, escaped)
    found = text[quoted.end() : quoted.end() + 12]
    return Scan(
        None, quoted.end(), f"value {number} begins with a quote, and its closing quote stands before {found!r}", bare, escaped
    )


def parse(text: str, at: int, line: int, dialect: Dialect, header: list[str], *, until_bad: bool = False) -> Records:
    """Reads every record from an offset on.

    A record is bad that has more or fewer values than the header, whose quotes don't close, that repeats the header, or that can be
    read in two ways. After a bad quote reading goes on with the next line, so that a quote too many costs its line and no more.
    Blank lines and lines of nothing but delimiters are no records. A line with the header of another table makes the rows below it
    unreadable, so the whole text is refused: raises Unreadable.

    Args:
        text: the whole text.
        at: the offset of the first record behind the header.
        line: its line.
        dialect: delimiter and quotes.
        header: the names of the columns.
        until_bad: read no further than the first bad record.
    """
    out, width, newline = Records(), len(header), newline_of(text)
    delimiter, quote, size = dialect.delimiter, dialect.quote, len(text)
    returns, names = "\r" in text, spellings(header)
    suspect = 0
    ends: list[str] = []
    while at < size and not (until_bad and out.bad):
        end, after = _line(text, at, returns)
        raw = text[at:end]
        if not quote or quote not in raw:
            if raw and not raw.isspace() and raw.strip(delimiter):
                _add(out, line, at, raw.split(delimiter), header, names)
                ends.append(text[end:after])
        else:
            found = scan(text, at, dialect)
            out.escaped |= found.escaped
            last = line + text.count(newline, at, found.end)
            reason, whole = _judged(text, at, end, found, width, dialect, f"a quoted value runs over lines {line:,} to {last:,}")
            if not reason and found.bare and at < suspect:
                reason = Bad("quote", "a quote stands in the row, behind a line with a quote that is not closed rightly")
            if whole:
                end, after = found.end, _line(text, found.end, returns)[1]
            else:
                suspect = max(suspect, found.end)
            _add(out, line, at, found.values or raw.split(delimiter), header, names, reason)
            ends.append(text[end:after])
        line += text.count(newline, at, after)
        at = after
    out.alone = len(out.bad)
    _mark_pieces(out)
    _mark_returns(out, ends)
    return out


def _line(text: str, at: int, returns: bool) -> tuple[int, int]:
    """Returns the end of the line's text and the begin of the next line."""
    if not returns:
        end = text.find("\n", at)
        return (end, end + 1) if end >= 0 else (len(text), len(text))
    match = _LINE_END.search(text, at)
    return match.span() if match else (len(text), len(text))


def spellings(header: list[str]) -> frozenset[str]:
    """Returns names of columns as a later line might hold them: the header's and all known ones, in three cases, with blanks."""
    names = {*header, *KNOWN, *map(str.upper, KNOWN), *map(str.capitalize, KNOWN)}
    return frozenset(spelt for name in names for spelt in (name, f" {name}", f"{name} ", f" {name} "))


def _add(
    out: Records, line: int, at: int, values: list[str], header: list[str], names: frozenset[str], reason: Bad | None = None
) -> None:
    if reason is None and not names.isdisjoint(values):
        reason = _header_again(line, values, header)
    if reason is None and len(values) != len(header):
        reason = Bad("fields", f"{_values(len(values))}, the header has {len(header)}")
    if reason is not None:
        out.bad[len(out.rows)] = reason
        if len(values) == 1 < len(header):
            out.pieces.add(len(out.rows))
    out.lines.append(line)
    out.starts.append(at)
    out.rows.append(None if reason else values)


def _header_again(line: int, values: list[str], header: list[str]) -> Bad | None:
    """Returns why a line that repeats the header is no row. Raises Unreadable for the header of another table."""
    here, first = ([name.strip().casefold() for name in names] for names in (values, header))
    if here == first:
        return Bad("header", "the header once more")
    if len(here) > len(first) > 1 and here[1 - len(first) :] == first[1:]:
        return Bad("header", "a row and the header once more on one line")
    known = len({*first} & _KNOWN)
    if (len(here) > 1 and sorted(here) == sorted(first)) or (known >= _TABLE and len({*here} & _KNOWN) >= known):
        raise Unreadable(
            f"the line names columns, and not as the header does: {', '.join(values)[:80]!r}",
            line=line,
            expected="the header on the first line alone: the rows below another header may follow either",
            do="write the rows below the line into a file of their own, with the line as their header",
        )
    return None


def _values(count: int) -> str:
    return "1 value" if count == 1 else f"{count} values"


def _judged(text: str, at: int, end: int, found: Scan, width: int, dialect: Dialect, over: str) -> tuple[Bad | None, bool]:
    """Returns why a scanned record is bad, if it is, and whether it ends where the scan says (else with its first line).

    over: says over which lines a record of several runs; all of them are meant.
    """
    if found.values is None:
        return Bad("quote", found.why), False
    if found.end <= end:
        return None, True
    # over several lines
    like_rows = [_like_row(line, width, dialect) for line in _LINE_END.split(text[at : found.end])]
    if len(found.values) == width:
        if all(like_rows) or any(_makes_rows(value, at, width, dialect) for at, value in enumerate(found.values)):
            return Bad("lines", f"{over}, each of which is a row if quotes are text"), True
        inside = (line for value in found.values for line in _LINE_END.split(value)[1:-1])
        if width >= TELLING and any(_like_row(line, width, dialect) for line in inside):
            return Bad("lines", f"{over}, and a whole row is among them"), True
        return None, True
    if any(like_rows[1:]):
        return Bad("quote", f"{over}, and rows are among them"), False
    return None, True


def _like_row(line: str, width: int, dialect: Dialect) -> bool:
    """Tells whether a line alone has as many values as the header, if quotes that don't open and close around a value are text."""
    if line.count(dialect.delimiter) < width - 1:
        return False
    value, *_ = _patterns(dialect)
    count, at = 1, 0
    while True:
        match = value.match(line, at)
        at = match.end() if match else line.find(dialect.delimiter, at)
        if at < 0 or at == len(line):
            break
        count, at = count + 1, at + 1
    return width in (count, line.count(dialect.delimiter) + 1)


def _makes_rows(value: str, at: int, width: int, dialect: Dialect) -> bool:
    """Tells whether a quoted value, if its quotes are text, ends a row and begins another. at: the number of values before it."""
    first, *inside = _LINE_END.split(value)
    if not inside or width < 2:
        return False
    last, mark = inside.pop(), dialect.delimiter
    ends = (at + first.count(mark), last.count(mark)) == (width - 1, at)
    return ends and all(_like_row(line, width, dialect) for line in inside)


def two_readings(record: str, width: int, dialect: Dialect) -> bool:
    """Tells whether a record over several lines, whose quotes are right, is bad because its lines may be rows."""
    found = scan(record, 0, dialect)
    return _judged(record, 0, _end(record, 0), found, width, dialect, "")[0] is not None


def _mark_pieces(out: Records) -> None:
    """Spoils the rows beside a line with a single value: a line end without quotes around it may have cut the value there."""
    for number in out.pieces:
        line = out.lines[number]
        if number:
            out.spoil(number - 1, Bad("fields", f"line {line} may be the end of this row's last value"))
        if number + 1 < len(out.rows):
            out.spoil(number + 1, Bad("fields", f"line {line} may be the begin of this row's first value"))


def _mark_returns(out: Records, ends: list[str]) -> None:
    """Spoils the rows beside a bad record from which a carriage return alone divides them, in a text whose lines end otherwise."""
    if "\r" in ends and ("\n" in ends or "\r\n" in ends):
        reason = Bad("lines", "a carriage return alone ends the line, or is a part of a value")
        for number in list(out.bad):
            if number and ends[number - 1] == "\r":
                out.spoil(number - 1, reason)
            if ends[number] == "\r" and number + 1 < len(ends):
                out.spoil(number + 1, reason)
