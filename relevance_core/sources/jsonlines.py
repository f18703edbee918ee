"""JSON in lines (an object each) and JSON arrays of objects.

A row that is no JSON, or no object, is a bad row with its line, byte and reason; its neighbours are read. A file of another form
(an array in a file of lines, objects over several lines, rows inside an object) is refused as a whole, under either setting of bad
rows: its lines say nothing for certain about its rows.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec
import polars as pl

from relevance_core.sources import values
from relevance_core.sources.names import KNOWN, known_as
from relevance_core.sources.reading import LINE, UNREAD, Form, Options, Reading, Unreadable
from relevance_core.sources.text import told

BLOCK: Final = 8 * 2**20
"""Bytes of lines that are held as objects at a time."""

ELEMENTS: Final = 20_000
"""Elements of an array that are held as objects at a time."""

DAMAGED: Final = 100
"""Damaged elements of an array, for each of which its text is gone through again; with more of them it is refused."""

_ONE_A_LINE: Final = "one JSON object a line"
_AN_ARRAY: Final = "a JSON array of objects, or one JSON object a line"
_OF_LINES: Final = "set the file's ending to .json or write one object a line"
_BAD_ROWS: Final = "correct the {unit}, or set source.bad_rows=quarantine to read the others and report it"
_KINDS: Final = {
    list: "a JSON array",
    str: "a JSON string",
    bool: "true or false",
    type(None): "null",
    int: "a number",
    float: "a number",
}
_CUT: Final = "the JSON ends before the object does"

_decode = msgspec.json.Decoder(type=dict[str, Any]).decode
_raws = msgspec.json.Decoder(type=list[msgspec.Raw]).decode
_ERRORS = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
_SPACE = re.compile(rb"[ \t\r\n]*")
_NEXT = re.compile(r"[ \t\r\n]*[,\]]")
_STRICT = json.JSONDecoder(parse_int=len, parse_float=len)
_LENIENT = json.JSONDecoder(strict=False, parse_int=len, parse_float=len)
"""Find where a value ends, whatever its numbers; the second also with control characters in its texts."""

_GAP = re.compile(rb"[ \t\r\n,]*")
_LONE = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F]")


def read_json_lines(data: bytes, options: Options, undecoded: Mapping[int, str] | None = None) -> Reading:
    """Returns the rows of JSON lines: one object a line, blank lines are no rows.

    Args:
        data: UTF-8 without a byte order mark.
        options: the settings; `columns` and `bad_rows` count here.
        undecoded: the characters in place of bytes that could not be decoded, which spoil their rows (`text.decode_rows`).

    Raises:
        Unreadable: a bad row under bad_rows=stop; a file that does not hold one object a line.
    """
    separator = _separator(data)
    rows = _Rows(options, "line")
    line, position = 1, 0
    while position < len(data):
        end = data.find(separator, position + BLOCK) + 1 or len(data)
        lines = data[position:end].split(separator)
        if data.endswith(separator, position, end):
            lines.pop()
        try:
            rows.add(list(map(_decode, lines)), range(line, line + len(lines)))
        except _ERRORS:
            _line_by_line(rows, lines, line, position)
        line, position = line + len(lines), end
    if rows.first:
        _refuse_another_form(data, rows)
    found = rows.reading("jsonl")
    return _spoilt(found, _lines_of(undecoded, data, separator)) if undecoded else found


def _lines_of(undecoded: Mapping[int, str], data: bytes, separator: bytes) -> dict[int, str]:
    """Returns the lines of characters, by their offsets → why the first of a line is none."""
    text, lines, line, before = data.decode(), dict[int, str](), 1, 0
    for at, why in sorted(undecoded.items()):
        line += text.count(separator.decode(), before, at)
        before = at
        lines.setdefault(line, told(why))
    return lines


def _spoilt(found: Reading, lines: Mapping[int, str]) -> Reading:
    """Returns the rows without those of some lines, which are rows that can't be read."""
    why = pl.col(LINE).replace_strict(lines, default=None, return_dtype=pl.String)
    values = [pl.when(why.is_null()).then(column).alias(column) for column in found.rows.columns if column not in (LINE, UNREAD)]
    return replace(found, rows=found.rows.with_columns(*values, pl.coalesce("row=" + why, UNREAD).alias(UNREAD)))


def read_json_array(data: bytes, options: Options) -> Reading:
    """Returns the rows of a .json file: the objects of an array or, as Spark writes them, one object a line.

    Args:
        data: UTF-8 without a byte order mark.
        options: the settings; `columns` and `bad_rows` count here.

    Raises:
        Unreadable: a bad row under bad_rows=stop; a file of another form, such as rows inside an object.
    """
    start = _skip(data, 0)
    if data.startswith(b"[", start):
        return _array(data, start + 1, options)
    if data.startswith(b"{", start):
        _refuse_one_object(data, start, options)
    return read_json_lines(data, options)


@dataclass(frozen=True)
class _Bad:
    """A row that can't be read: its number among the unit's rows, its line, its byte, its text."""

    number: int
    line: int
    byte: int
    content: bytes
    why: str = ""


@dataclass
class _Rows:
    """The rows of a file as they are read, in parts that become columns at once."""

    options: Options
    unit: str
    keys: dict[str, str] = field(default_factory=dict)
    parts: list[dict[str, values.Texts]] = field(default_factory=list)
    lines: list[Sequence[int]] = field(default_factory=list)
    bad: int = 0
    first: _Bad | None = None
    _shapes: dict[tuple[str, ...], str] = field(default_factory=dict)

    @property
    def height(self) -> int:
        """The number of rows so far, bad ones included."""
        return sum(map(len, self.lines))

    def add(self, objects: list[dict[str, Any]], lines: Sequence[int], bad: Sequence[tuple[int, _Bad]] = ()) -> None:
        """Adds rows.

        Args:
            objects: the rows; an empty object for a bad row.
            lines: their lines.
            bad: index in `objects` and account of each bad row.
        """
        reasons = {index: self._why(found) for index, found in bad}
        shapes = dict.fromkeys(map(tuple, objects))
        if wrong := {shape for shape in shapes if self._check(shape)}:
            for index, row in enumerate(objects):
                if tuple(row) in wrong:
                    found = _Bad(self.height + index + 1, lines[index], -1, b"", self._shapes[tuple(row)])
                    reasons[index] = self._why(found)
                    objects[index] = {}
            shapes = dict.fromkeys(map(tuple, objects))
        columns = dict(self._columns(objects, list(shapes)))
        if reasons:
            notes = [reasons.get(index) for index in range(len(objects))]
            columns["row"] = values.nulls("row", 0), pl.Series("row", notes, dtype=pl.String)
        self.parts.append(columns)
        self.lines.append(lines)

    def reading(self, form: str) -> Reading:
        """Returns the rows. Raises Unreadable for a bad row that is to stop the run, or where no row can be read."""
        height = self.height
        if self.first and (self.options.bad_rows == "stop" or (self.bad == height and height > 1)):
            some = f"{self.bad} of {height} {self.unit}s can't be read, the first" if self.bad > 1 else ""
            place = f"{self.unit} {self.first.number if self.unit == 'element' else self.first.line}"
            raise Unreadable(
                f"{some} is {place}: {self.first.why}" if some else f"{place} can't be read: {self.first.why}",
                line=self.first.line,
                byte=self.first.byte,
                expected=_ONE_A_LINE if form == "jsonl" else _AN_ARRAY,
                do=_BAD_ROWS.format(unit=self.unit) if self.bad < height else "write the file again, or take it out of the source",
            )
        texts, notes = {}, {}
        for name in [*KNOWN, "row"]:
            found = [part.get(name) for part in self.parts]
            if name != "row" and any(found):
                texts[name] = self._joined(name, [pair and pair[0] for pair in found])
            if any(pair and pair[1] is not None for pair in found):
                notes[name] = self._joined(name, [pair and pair[1] for pair in found])
        ignored = tuple(key for key, name in self.keys.items() if not name)
        return Reading(values.rows_of(texts, notes, self._places()), Form(form), ignored)

    def _places(self) -> pl.Series | range:
        if len(self.lines) == 1 and isinstance(self.lines[0], range):
            return self.lines[0]
        return pl.Series("line", list(itertools.chain.from_iterable(self.lines)), dtype=pl.Int64)

    def _joined(self, name: str, parts: list[pl.Series | None]) -> pl.Series:
        whole = [values.nulls(name, len(lines)) if part is None else part for part, lines in zip(parts, self.lines, strict=True)]
        return whole[0] if len(whole) == 1 else pl.concat(whole)

    def _why(self, found: _Bad) -> str:
        """Counts a bad row. Returns why it is bad; "" under bad_rows=stop for all but the first, which alone is told."""
        self.bad += 1
        if self.options.bad_rows == "stop" and self.first:
            return ""
        why = found.why or _why(found.content, self.unit)
        self.first = self.first or _Bad(found.number, found.line, found.byte, found.content, why)
        return why if self.unit == "line" else f"element {found.number}: {why}"

    def _check(self, shape: tuple[str, ...]) -> str:
        """Returns why an object of these keys can't be read, or ""."""
        if shape not in self._shapes:
            for key in shape:
                if key not in self.keys:
                    self.keys[key] = known_as(key, self.options.columns)
            known = [self.keys[key] for key in shape if self.keys[key]]
            self._shapes[shape] = "" if len(known) == len(set(known)) else self._twice(shape)
        return self._shapes[shape]

    def _twice(self, shape: tuple[str, ...]) -> str:
        try:
            self.options.named(list(shape))
        except Unreadable as error:
            return error.what.replace("the columns", "the keys")
        return "two keys of one name"

    def _columns(self, objects: list[dict[str, Any]], shapes: list[tuple[str, ...]]) -> Iterator[tuple[str, values.Texts]]:
        """Yields the known columns that hold a value. A key that is null or absent in every row is a missing column."""
        whole = dict(zip(shapes[0], zip(*map(dict.values, objects), strict=True), strict=True)) if len(shapes) == 1 else {}
        here: dict[str, list[str]] = {}
        for key in dict.fromkeys(itertools.chain.from_iterable(shapes)):
            if self.keys[key]:
                here.setdefault(self.keys[key], []).append(key)
        for name, keys in here.items():
            if whole:
                column: Sequence[Any] = whole[keys[0]]
            elif len(keys) == 1:
                column = [row.get(keys[0]) for row in objects]
            else:  # spelt in two ways, though never in one object
                column = [next((row[key] for key in keys if key in row), None) for row in objects]
            texts = values.read_values(name, column)
            if texts[0].null_count() < len(column) or texts[1] is not None:
                yield name, texts


def _separator(data: bytes) -> bytes:
    return b"\r" if b"\n" not in data and b"\r" in data else b"\n"


def _skip(data: bytes, position: int) -> int:
    found = _SPACE.match(data, position)
    return found.end() if found else position


def _line_by_line(rows: _Rows, lines: list[bytes], first: int, position: int) -> None:
    """Adds lines of which one at least is blank or bad. first, position: line and byte at which they begin."""
    objects: list[dict[str, Any]] = []
    numbers: list[int] = []
    bad: list[tuple[int, _Bad]] = []
    before = rows.height
    for number, line in enumerate(lines, first):
        if line and not line.isspace():
            row = _object(line)
            if row is None:
                bad.append((len(objects), _Bad(before + len(objects) + 1, number, position, line)))
            objects.append(row or {})
            numbers.append(number)
        position += len(line) + 1
    rows.add(objects, numbers, bad)


def _refuse_another_form(data: bytes, rows: _Rows) -> None:
    """Raises Unreadable where the first bad line shows that the file does not hold an object a line."""
    bad = rows.first
    if bad is None or bad.byte < 0:
        return
    content = bad.content.lstrip()
    if content.startswith(b"[") and bad.number == 1 and (rows.height == 1 or (rows.bad > 1 and not _is_json(bad.content))):
        raise Unreadable(f"line {bad.line} begins a JSON array", line=bad.line, byte=bad.byte, expected=_ONE_A_LINE, do=_OF_LINES)
    if content.startswith(b"{") and not _is_json(bad.content):
        end = _end_of_object(data[bad.byte : bad.byte + BLOCK])
        lines = data.count(_separator(data), bad.byte, bad.byte + end)
        if lines:
            raise Unreadable(
                f"an object goes over several lines, from line {bad.line} to line {bad.line + lines}",
                line=bad.line,
                byte=bad.byte,
                expected=_ONE_A_LINE,
                do="write each object on a line of its own, without line breaks between its values",
            )


def _refuse_one_object(data: bytes, start: int, options: Options) -> None:
    """Raises Unreadable for a .json file that is a single object, unless it is a row on one line."""
    separator = _separator(data)
    end = data.find(separator, start) + 1 or len(data)
    more = _skip(data, end) < len(data)
    if more and _object(data[start:end]) is not None:
        return
    found = _object(data)
    if found is None:
        return  # lines, or no JSON: the reader of lines says which
    rows = next((key for key, value in found.items() if isinstance(value, list) and value and isinstance(value[0], dict)), None)
    if rows is None and not more and any(known_as(key, options.columns) for key in found):
        return
    inside = f'; its rows may be in "{values.shown(rows)}"' if rows is not None else ""
    raise Unreadable(
        f"the file is a single JSON object{inside}",
        line=1 + data.count(separator, 0, start),
        byte=start,
        expected=_AN_ARRAY,
        do="write the rows as an array, or one object a line",
    )


def _array(data: bytes, start: int, options: Options) -> Reading:
    """Returns the rows of an array. start: the byte after its bracket."""
    rows = _Rows(options, "element")
    separator = _separator(data)
    try:
        elements = _raws(data)
    except _ERRORS:
        _damaged(data, start, rows)
        return rows.reading("json")
    places = _places(data, start, separator, elements)
    while part := list(itertools.islice(places, ELEMENTS)):
        _add_elements(rows, part)
    return rows.reading("json")


_Element = tuple[int, int, bytes]
"""Line, byte and text of an element."""


def _places(data: bytes, end: int, separator: bytes, elements: Iterable[msgspec.Raw]) -> Iterator[_Element]:
    line, counted = 1, 0
    for element in elements:
        gap = _GAP.match(data, end)
        start = gap.end() if gap else end
        line += data.count(separator, counted, start)
        counted, end = start, start + len(element)
        yield line, start, data[start:end]


def _add_elements(rows: _Rows, elements: list[_Element]) -> None:
    objects: list[dict[str, Any]] = []
    bad: list[tuple[int, _Bad]] = []
    before = rows.height
    for index, (line, byte, content) in enumerate(elements):
        row = _object(content)
        if row is None:
            bad.append((index, _Bad(before + index + 1, line, byte, content)))
        objects.append(row or {})
    rows.add(objects, [line for line, _, _ in elements], bad)


def _damaged(data: bytes, start: int, rows: _Rows) -> None:
    """Adds the elements of an array that is no valid JSON, as far as it is certain where each ends.

    An element ends where its brackets close, even with NaN in it; a damaged element on a line of its own ends with the line, and
    the last of an array that was cut ends with the file. Raises Unreadable for other damage.
    """
    separator, last = _separator(data), len(data.rstrip())
    text = data[:last].decode("latin-1")  # a character a byte: JSON's own signs are ASCII
    damaged = 0
    elements: list[_Element] = []
    line, counted, position = 1, 0, start
    while True:
        gap = _GAP.match(data, position)
        begin = gap.end() if gap else position
        line += data.count(separator, counted, begin)
        counted = begin
        if begin >= last or (data.startswith(b"]", begin) and begin + 1 == last):
            break
        position = _end_of_element(text, begin)
        if not position:
            damaged += 1
            position = _end_of_damage(data, begin, separator)
        if not position or damaged > DAMAGED:
            _refuse_array(data, len(elements) + 1, line, begin)
        elements.append((line, begin, data[begin:position]))
    for index in range(0, len(elements), ELEMENTS):
        _add_elements(rows, elements[index : index + ELEMENTS])
    if not rows.bad:
        _refuse_array(data, len(elements) + 1, line, counted)


def _end_of_element(text: str, begin: int) -> int:
    """Returns the position after an element that a comma or the array's end follows, 0 where it is damaged."""
    end = _end_of_value(text, begin, _STRICT)
    if not end:
        end = _end_of_value(text, begin, _LENIENT)
        if any(sign in text[begin:end] for sign in "\r\n") and end < len(text):
            return 0  # a quote that is missing takes in what follows
    return end


def _end_of_value(text: str, begin: int, decoder: json.JSONDecoder) -> int:
    try:
        end = decoder.raw_decode(text, begin)[1]
    except json.JSONDecodeError as error:
        cut = error.pos >= len(text) or error.msg.startswith("Unterminated string")
        return len(text) if cut and not text.endswith("]") else 0
    except RecursionError:
        return 0
    return end if _NEXT.match(text, end) else 0


def _end_of_damage(data: bytes, begin: int, separator: bytes) -> int:
    """Returns the byte after a damaged element, 0 where its end is not certain.

    An element on a line of its own ends with the line. In an array that is written with an indent, where an element's bracket is
    alone on its line, the next element begins at the same bracket with the same indent.
    """
    end = data.find(separator, begin)
    indent = data[data.rfind(separator, 0, begin) + 1 : begin]
    content = data[begin:end].rstrip() if end >= 0 else b""
    if indent.strip():
        return 0
    if content.startswith(b"{") and content.endswith((b"}", b"},")):
        return begin + len(content.removesuffix(b","))
    if content != b"{" or not indent:
        return 0
    following = data.find(separator + indent + data[begin : end + 1], begin)
    rest = data[begin:following].rstrip() if following >= 0 else data[begin:].rstrip().removesuffix(b"]").rstrip()
    return begin + len(rest.removesuffix(b","))


def _refuse_array(data: bytes, number: int, line: int, byte: int) -> None:
    raise Unreadable(
        f"the JSON array is damaged at element {number}: {_why(data[byte : byte + BLOCK], 'element')}",
        line=line,
        byte=byte,
        expected="a JSON array of objects",
        do="write the file again; of an array with an element a line, only that element is lost",
    )


def _object(content: bytes) -> dict[str, Any] | None:
    try:
        return _decode(content)
    except _ERRORS:
        return None


def _is_json(content: bytes) -> bool:
    try:
        msgspec.json.decode(content)
    except _ERRORS:
        return False
    return True


def _end_of_object(data: bytes) -> int:
    """Returns the length of the object at the beginning, 0 where it does not end."""
    text = data.decode("latin-1")
    try:
        return json.JSONDecoder().raw_decode(text, _skip(data, 0))[1]
    except (ValueError, RecursionError):
        return 0


def _why(content: bytes, unit: str) -> str:
    """Returns why a line or an element is no object, in a few words and at most 40 characters of the content."""
    try:
        found = msgspec.json.decode(content)
    except _ERRORS as error:
        return _why_no_json(content, error)
    kind = _KINDS.get(type(found), "no object")
    return f"the {unit} is {kind}" + (f"; {_OF_LINES}" if isinstance(found, list) and unit == "line" else "")


def _why_no_json(content: bytes, error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "the object is nested too deeply"
    if isinstance(error, msgspec.ValidationError):
        return f"a number is out of range: {_part(content, 0)}"
    text = content.decode("utf-8", "replace")
    try:
        json.loads(text, parse_constant=_refuse_constant, parse_int=len)
    except json.JSONDecodeError as found:
        if found.pos >= len(text.rstrip()) or found.msg.startswith("Unterminated string"):
            return f"{_CUT}: {_part(text.rstrip()[-40:].encode(), 0)}"
        if found.msg == "Extra data":
            return f"more follows the object: {_part(text[found.pos :].encode(), 0)}"
        return f"{found.msg[:1].lower()}{found.msg[1:].removesuffix(' at')}, at {_part(text.encode(), max(0, found.pos - 10))}"
    except (ValueError, RecursionError) as found:
        return str(found) if not isinstance(found, RecursionError) else "the object is nested too deeply"
    return "half of a surrogate pair stands in it" if _LONE.search(content) else f"no JSON: {_part(content, 0)}"


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value; write null")


def _part(content: bytes, start: int) -> str:
    return repr(content.decode("utf-8", "replace")[start : start + 40])
