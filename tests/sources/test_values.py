"""Values: a typed value's text, or an account of what could not be read; one value and a column agree."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import polars as pl
import pytest

from relevance_core.sources import values

BERLIN = timezone(timedelta(hours=2))
NUMBER = UUID("00000000-0000-0000-0000-000000000005")


class Colour(Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("caf\u00e9 ", "caf\u00e9 "),
        (True, "true"),
        (False, "false"),
        (1001, "1001"),
        (2**64, "18446744073709551616"),
        (1001.0, "1001"),
        (-0.0, "0"),
        (0.5, "0.5"),
        (1e-7, "1e-07"),
        (2.0**53 - 1, "9007199254740991"),
        (Decimal("1001.00"), "1001"),
        (Decimal("1.50"), "1.5"),
        (Decimal("1E+3"), "1000"),
        (Decimal("-0.00"), "0"),
        (NUMBER, str(NUMBER)),
        (Colour.RED, "red"),
        ("caf\u00e9".encode(), "caf\u00e9"),
        (bytearray(b"a"), "a"),
        (memoryview(b"a"), "a"),
        (date(2026, 10, 14), "2026-10-14"),
        (datetime(2026, 10, 14, 9), "2026-10-14T09:00:00"),
        (datetime(2026, 10, 14, 9, 0, 0, 5, tzinfo=BERLIN), "2026-10-14T07:00:00.000005+00:00"),
        (time(9, 30), "09:30:00"),
    ],
)
def test_a_value_has_one_text_whatever_its_type(value: Any, text: str) -> None:
    """Whole numbers are digits, bytes are UTF-8, moments are ISO 8601, in UTC where they have a zone."""
    assert values.text_of(value) == (text, None)


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (["Clothing", "Shoes"], "['Clothing', 'Shoes']"),
        ([], "[]"),
        ({"a": 1}, "{'a': 1}"),
        (("a",), "('a',)"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (2.0**53, "9007199254740992.0"),
        (Decimal("NaN"), "NaN"),
        (Decimal("1E+900"), "1E+900"),
        (b"m\xf6bel", "b'm\\xf6bel'"),
        (bytes(range(16)), "b'\\x00\\x01\\x02\\x03\\x04\\x05\\x06\\x07\\x08\\t\\n\\x0b\\x0c\\r\\x0e\\x0f'"),
        ("a\ud800", "a\\ud800"),
        (timedelta(days=1), "1 day, 0:00:00"),
        (datetime.min.replace(tzinfo=BERLIN), "0001-01-01 00:00:00+02:00"),
    ],
)
def test_what_is_no_text_is_null_and_printed_for_a_person(value: Any, printed: str) -> None:
    """Lists, objects, bytes that are no UTF-8 or hold control characters, and floats that stand for several ids can't be read."""
    assert values.text_of(value) == (None, printed)


def test_a_long_value_is_printed_in_part() -> None:
    """80 characters are shown of a value, the last of them an ellipsis."""
    assert values.text_of(["x" * 500])[1] == "['" + "x" * 77 + "…"
    assert len(values.text_of(b"\xff" * 10**6)[1] or "") == 80
    assert values.text_of(10**5000) == (None, "a value of type int")


def test_a_null_is_no_text_and_nothing_unread() -> None:
    """None is null in both answers, in a column too."""
    assert values.text_of(None) == (None, None)
    assert values.read_values("a", [None, None])[0].to_list() == [None, None]


def _columns(chance: random.Random) -> list[pl.Series]:
    """Columns of every dtype that a reader meets, with nulls, of values at and beyond their bounds."""
    whole = [chance.randrange(-(2**62), 2**62) for _ in range(20)]
    floats = [chance.choice([float(n % 10**6), chance.uniform(-1, 1) * 10.0 ** chance.randrange(-12, 20)]) for n in whole]
    moments = [datetime(1, 1, 1) + timedelta(microseconds=chance.randrange(315_000_000_000 * 10**6)) for _ in whole]
    days: list[Any] = [moment.date() for moment in moments]
    blobs = [bytes(chance.randrange(256) for _ in range(3)) if n % 2 else f"é{n}".encode() for n in whole]
    odd = [float("nan"), float("inf"), -0.0, 2.0**53, 1e-4, 9.9e-5, None]
    return [
        pl.Series([*whole, None]),
        pl.Series([n % 256 for n in whole], dtype=pl.UInt8),
        pl.Series([2**64 - 1, None], dtype=pl.UInt64),
        pl.Series([*floats, *odd]),
        pl.Series([float(n % 10**6) for n in whole] + [None]),
        pl.Series([*(abs(number) % 1 for number in floats), 0.5]),
        pl.Series([True, None, False]),
        pl.Series([Decimal(n % 10**6) / 100 for n in whole] + [Decimal("0.00"), None], dtype=pl.Decimal(12, 4)),
        pl.Series(["a", "b", None], dtype=pl.Categorical),
        pl.Series(["a", None], dtype=pl.Enum(["a"])),
        pl.Series([*blobs, None]),
        pl.Series([b"plain", None, "é".encode()]),
        pl.Series([b"plain", b"nul\x00"]),
        pl.Series([*days, None], dtype=pl.Date),
        *(pl.Series([*moments, None], dtype=pl.Datetime(unit)) for unit in ("us", "ms")),
        pl.Series([datetime(2026, 1, 1), datetime(1969, 1, 1, 0, 0, 0, 5)], dtype=pl.Datetime("ns")),
        pl.Series([moment.replace(tzinfo=UTC) for moment in moments[:5]]).dt.convert_time_zone("Europe/Berlin"),
        pl.Series([time(1, 2, 3), time(1, 2, 3, 4), None]),
        pl.Series([timedelta(seconds=n % 1000) for n in whole] + [None]),
        pl.Series([["a"], [], None]),
        pl.Series([[1, 2], None], dtype=pl.Array(pl.Int8, 2)),
        pl.Series([{"a": 1}, None]),
        pl.Series([None, None], dtype=pl.Null),
        pl.Series([None], dtype=pl.List(pl.String)),
        pl.Series(["x", None]),
    ]


@pytest.mark.parametrize("seed", range(20))
def test_a_column_reads_as_its_values_do(seed: int) -> None:
    """For every dtype, the column's texts and accounts are those of its Python values, read as a list or one at a time."""
    for column in _columns(random.Random(seed)):
        texts, notes = values.read_series(column)
        found = list(zip(texts, notes if notes is not None else [None] * len(texts), strict=True))
        assert texts.dtype == pl.String
        assert found == [values.text_of(value) for value in column.to_list()], column.dtype
        listed, accounts = values.read_values("a", column.to_list())
        assert listed.to_list() == texts.to_list()
        assert (accounts is None) == (notes is None)


def test_a_short_float_has_the_digits_that_it_is_printed_with() -> None:
    """0.1 in 32 bits is 0.1, as in a file of text, not 0.10000000149011612."""
    assert values.read_series(pl.Series([0.1, 3.0, None], dtype=pl.Float32))[0].to_list() == ["0.1", "3", None]


def test_times_of_an_event_stay_typed() -> None:
    """Dates stay dates, times are microseconds and in UTC where they have a zone; times with and without one become text."""
    zoned = datetime(2026, 10, 14, 2, tzinfo=BERLIN)
    column, _ = values.read_values("event_time", [zoned, None], moments=True)
    assert column.dtype == pl.Datetime("us", "UTC")
    assert column.to_list() == [datetime(2026, 10, 14, tzinfo=UTC), None]
    assert values.read_values("event_time", [date(2026, 10, 14)], moments=True)[0].dtype == pl.Date
    mixed, _ = values.read_values("event_time", [zoned, datetime(2026, 10, 14)], moments=True)
    assert mixed.to_list() == ["2026-10-14T00:00:00+00:00", "2026-10-14T00:00:00"]
    typed, _ = values.read_series(pl.Series([zoned]).cast(pl.Datetime("ns", "Asia/Tokyo")), moments=True)
    assert typed.to_list() == [datetime(2026, 10, 14, tzinfo=UTC)]


def test_a_time_beyond_the_calendar_is_told() -> None:
    """A time in milliseconds of the year 292 million overflows nothing: it is null, and its number is shown."""
    column, notes = values.read_series(pl.Series([9 * 10**18, 0], dtype=pl.Datetime("ms")), moments=True)
    assert column.to_list() == [None, datetime(1970, 1, 1)]
    assert notes is not None
    assert notes.to_list() == ["9000000000000000000 ms since 1970", None]
