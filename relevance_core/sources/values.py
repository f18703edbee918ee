"""The text of a typed value: of JSON, of a table's column, of a database's row. What is no text is noted, never printed as one.

A log's column holds texts, whatever wrote it: `1001`, `1001.0` and `1001.00` are one id. `text_of` reads one value, `read_values` a
column of Python values, `read_series` a typed column at full speed; all three agree.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

import polars as pl

from relevance_core.sources.names import KNOWN
from relevance_core.sources.reading import LINE, UNREAD

SHOWN: Final = 80
"""Characters that are shown of a value that can't be read."""

MOMENTS: Final = ("event_time", "event_date")
"""Columns whose dates and times stay typed."""

EXACT: Final = 2**53
"""From here on a float stands for several whole numbers: it is no id for certain."""

Texts = tuple[pl.Series, pl.Series | None]
"""A column as text (or dates, or times), and the printed form of each value that can't be read; None where all can."""

_CONTROLS: Final = r"[\x00-\x08\x0B\x0C\x0E-\x1F\x7F]"
_CONTROL: Final = re.compile(_CONTROLS)
_LEAST_DAY, _MOST_DAY = -719_162, 2_932_896
_DAY: Final = {"ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}


def text_of(value: object) -> tuple[str | None, str | None]:
    """Returns a value's text and None, or None and the printed form of a value that is no text; a null gives None twice.

    A truth value is true or false. A whole number, in whatever type, is its digits. Bytes are text where they are UTF-8 without
    control characters. A moment is ISO 8601, in UTC where it has a zone. NaN, infinity, a float from 2**53 on, lists, objects and
    durations are no text.
    """
    if isinstance(value, Enum):
        value = value.value
    if value is None:
        return None, None
    for kind, convert in _TEXTS:
        if isinstance(value, kind):
            text = convert(value)
            return (text, None) if text is not None else (None, shown(value))
    return None, shown(value)


def shown(value: object) -> str:
    """Returns the printed form of a value in at most SHOWN characters."""
    if isinstance(value, bytes | bytearray | memoryview):
        text = repr(bytes(value[:SHOWN]))
    else:
        try:
            text = str(value)
        except (ValueError, RecursionError):  # a whole number of thousands of digits, lists in thousands of lists
            text = f"a value of type {type(value).__name__}"
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def read_values(name: str, values: Collection[object], *, moments: bool = False) -> Texts:
    """Returns a column of Python values as text. moments: dates and times stay typed where the column has one kind of them."""
    kinds = set(map(type, values)) - {type(None)}
    if kinds == {datetime} and moments:
        return _datetimes(name, values)
    dtype = _DTYPES.get(next(iter(kinds))) if len(kinds) == 1 else None
    if not kinds:
        return nulls(name, len(values)), None
    if dtype is None:
        return _each(name, values)
    try:
        column = pl.Series(name, values, dtype=dtype, strict=True)
    except (TypeError, OverflowError, UnicodeEncodeError):  # a whole number beyond 64 bits, half a surrogate pair
        return _each(name, values)
    return read_series(column, moments=moments)


def read_series(column: pl.Series, *, moments: bool = False) -> Texts:
    """Returns a typed column as text. moments: dates and times stay typed, times in microseconds and, with a zone, in UTC."""
    if isinstance(column.dtype, pl.BaseExtension):
        column = column.ext.storage()
    kind = column.dtype
    if kind == pl.String:
        return column, None
    if kind == pl.Null or kind == pl.Boolean or kind.is_integer() or isinstance(kind, pl.Categorical | pl.Enum):
        return column.cast(pl.String), None
    reader = _READERS.get(kind.base_type())
    if reader:
        return reader(column)
    if kind == pl.Date or isinstance(kind, pl.Datetime):
        return _moments(column, typed=moments)
    return _each(column.name, column.to_list())


def nulls(name: str, height: int) -> pl.Series:
    """Returns a text column of nulls."""
    return pl.Series(name, [None], dtype=pl.String).new_from_index(0, height)


def rows_of(columns: Mapping[str, pl.Series], notes: Mapping[str, pl.Series], lines: pl.Series | range) -> pl.DataFrame:
    """Returns `Reading.rows`.

    Args:
        columns: known columns by name.
        notes: for each column, and for `row`, the printed form of what could not be read; null for what could.
        lines: the rows' places.
    """
    numbers = _numbers(lines) if isinstance(lines, range) else lines.cast(pl.Int64)
    known = [columns[name].alias(name) for name in KNOWN if name in columns]
    return pl.DataFrame([*known, numbers.alias(LINE), _unread(notes, len(numbers))])


def _numbers(lines: range) -> pl.Series:
    # An eager range is a query of polars', which a file of few rows is quicker without.
    return pl.Series(list(lines), dtype=pl.Int64) if len(lines) < 1000 else pl.int_range(lines.start, lines.stop, eager=True)


def _unread(notes: Mapping[str, pl.Series], height: int) -> pl.Series:
    if not notes:
        return nulls(UNREAD, height)
    found = pl.DataFrame([note.alias(name) for name, note in notes.items()])
    joined = pl.concat_str([pl.lit(f"{name}=") + pl.col(name) for name in notes], separator="; ", ignore_nulls=True)
    return found.select(pl.when(joined != "").then(joined).alias(UNREAD)).to_series()


def _each(name: str, values: Iterable[object]) -> Texts:
    pairs = [text_of(value) for value in values]
    texts = pl.Series(name, [text for text, _ in pairs], dtype=pl.String)
    notes = pl.Series(name, [note for _, note in pairs], dtype=pl.String)
    return texts, notes if notes.null_count() < len(notes) else None


def _datetimes(name: str, values: Collection[Any]) -> Texts:
    zones = {value.tzinfo is not None for value in values if value is not None}
    if len(zones) != 1:  # text keeps which have a zone
        return _each(name, values)
    try:
        if True in zones:
            values = [None if value is None else value.astimezone(UTC) for value in values]
    except OverflowError:  # the first or last day of the calendar in another zone
        return _each(name, values)
    return pl.Series(name, values, dtype=pl.Datetime("us", "UTC" if True in zones else None)), None


def _floats(column: pl.Series) -> Texts:
    if column.dtype != pl.Float64:  # a short float has the digits that it is printed with
        column = column.cast(pl.Float32).cast(pl.String).cast(pl.Float64)
    size = column.abs()
    whole = (column == column.floor()) & (size < EXACT)
    if whole.all():
        return column.cast(pl.Int64).cast(pl.String), None
    if not (whole | ((size >= 1e-4) & (size < EXACT))).all():  # elsewhere Python writes an exponent, polars zeros
        return _each(column.name, column.to_list())
    texts = column.cast(pl.String)
    return column.cast(pl.Int64, strict=False).cast(pl.String).zip_with(whole.fill_null(True), texts), None


def _decimals(column: pl.Series) -> Texts:
    texts = column.cast(pl.String)
    return texts.str.replace(r"(\.\d*?)0+$", "${1}").str.strip_suffix("."), None


def _binary(column: pl.Series) -> Texts:
    try:
        texts = column.cast(pl.String)
    except pl.exceptions.ComputeError:
        return _each(column.name, column.to_list())
    return _each(column.name, column.to_list()) if texts.str.contains(_CONTROLS).any() else (texts, None)


def _moments(column: pl.Series, *, typed: bool) -> Texts:
    """Reads dates and times; those outside the years 1 to 9999 can't be read."""
    kind, number = column.dtype, column.to_physical()
    day = _DAY[kind.time_unit] if isinstance(kind, pl.Datetime) else 1
    good = number.is_not_null()
    if day != _DAY["ns"]:  # nanoseconds in 64 bits end in the year 2262
        good = number.cast(pl.Int64).is_between(_LEAST_DAY * day, (_MOST_DAY + 1) * day - 1)
    notes = None
    if not good.all():
        unit = f"{kind.time_unit}" if isinstance(kind, pl.Datetime) else "days"
        frame = pl.DataFrame([column.alias("value"), number.alias("number"), good.alias("good")])
        notes = frame.select(pl.when(~pl.col("good")).then(pl.format("{} {} since 1970", "number", pl.lit(unit)))).to_series()
        column = frame.select(pl.when("good").then("value").alias(column.name)).to_series()
    if isinstance(kind, pl.Datetime):
        column = column.cast(pl.Datetime("us", kind.time_zone))
        column = column.dt.convert_time_zone("UTC") if kind.time_zone else column
    return (column if typed else _iso(column)), notes


def _times(column: pl.Series) -> Texts:
    return _iso(column), None


def _iso(column: pl.Series) -> pl.Series:
    """Returns ISO 8601 as Python writes it: microseconds only where there are some."""
    if column.dtype == pl.Date:
        return column.dt.strftime("%Y-%m-%d")
    zoned = isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone
    form = ("" if column.dtype == pl.Time else "%Y-%m-%dT") + "%H:%M:%S"
    whole = (column.dt.nanosecond() < 1000) if column.dtype == pl.Time else column.dt.microsecond() == 0
    fine = column.dt.strftime(form + "%.6f")
    texts = column.dt.strftime(form).zip_with(whole.fill_null(True), fine)
    return texts + "+00:00" if zoned else texts


def _text(value: str) -> str | None:
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return str(value)


def _whole(value: int) -> str | None:
    try:
        return str(int(value))
    except ValueError:  # thousands of digits
        return None


def _float(value: float) -> str | None:
    if not abs(value) < EXACT:
        return None
    return str(int(value)) if value == int(value) else repr(float(value))


def _decimal(value: Decimal) -> str | None:
    if not value.is_finite() or abs(value.adjusted()) > SHOWN:
        return None if not value.is_finite() or value else "0"
    text = format(value, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def _bytes(value: bytes | bytearray | memoryview) -> str | None:
    try:
        text = bytes(value).decode()
    except UnicodeDecodeError:
        return None
    return None if _CONTROL.search(text) else text


def _datetime(value: datetime) -> str | None:
    try:
        return (value if value.tzinfo is None else value.astimezone(UTC)).isoformat()
    except OverflowError:
        return None


_TEXTS: Final[tuple[tuple[Any, Callable[[Any], str | None]], ...]] = (
    (str, _text),
    (bool, lambda value: "true" if value else "false"),
    (int, _whole),
    (float, _float),
    (Decimal, _decimal),
    (UUID, str),
    ((bytes, bytearray, memoryview), _bytes),
    (datetime, _datetime),
    ((date, time), lambda value: value.isoformat()),
)
"""Type → its text, None for a value that has none; a subclass stands before its class."""

_DTYPES: Final[dict[type, Any]] = {
    str: pl.String,
    bool: pl.Boolean,
    int: pl.Int64,
    float: pl.Float64,
    bytes: pl.Binary,
    date: pl.Date,
}
"""Type of all values of a column → the dtype that holds them as they are."""

_READERS: Final[dict[Any, Callable[[pl.Series], Texts]]] = {
    pl.Float64: _floats,
    pl.Float32: _floats,
    pl.Float16: _floats,
    pl.Decimal: _decimals,
    pl.Binary: _binary,
    pl.Time: _times,
}
