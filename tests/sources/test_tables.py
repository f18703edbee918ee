"""Parquet: every row is read, each value as text by its type, or noted; a damaged file is named."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from relevance_core.sources.reading import Options, Reading, Unreadable
from relevance_core.sources.tables import read_parquet

NUMBER = UUID("c8c9cacb-cccd-cecf-d0d1-d2d3d4d5d6d7")


def _read(path: Path, table: pa.Table, options: Options | None = None, **more: Any) -> Reading:
    pq.write_table(table, path, **more)
    return read_parquet(path, options or Options())


def _extended(kind: pa.ExtensionType, storage: pa.Array) -> pa.Array:
    return pa.ExtensionArray.from_storage(kind, storage)


def _text_of_bytes(value: bytes) -> pa.Array:
    """A column that says text and holds other bytes, as careless writers leave it."""
    offsets = pa.array([0, len(value)], pa.int32()).buffers()[1]
    return pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(value)])


@pytest.mark.parametrize(
    ("column", "text", "unread"),
    [
        (pa.array(["a"]), "a", None),
        (pa.array(["a"], pa.large_string()), "a", None),
        (pa.array(["a"], pa.string_view()), "a", None),
        (pa.array(["a"]).dictionary_encode(), "a", None),
        (pa.array([5]).dictionary_encode(), "5", None),
        (pa.array([1001.0]), "1001", None),
        (pa.array([0.1], pa.float32()), "0.1", None),
        (pa.array([1.5], pa.float16()), "1.5", None),
        (pa.array([float("nan")]), None, "nan"),
        (pa.array([2**64 - 1], pa.uint64()), "18446744073709551615", None),
        (pa.array([True]), "true", None),
        (pa.array([Decimal("7.00")], pa.decimal128(10, 2)), "7", None),
        (pa.array([Decimal("7.50")], pa.decimal256(60, 2)), "7.5", None),
        (pa.array(["caf\u00e9".encode()]), "caf\u00e9", None),
        (pa.array([b"m\xf6bel"]), None, "b'm\\xf6bel'"),
        (_text_of_bytes(b"m\xf6bel"), None, "b'm\\xf6bel'"),
        (pa.array([NUMBER.bytes], pa.binary(16)), None, str(NUMBER.bytes)),
        (_extended(pa.uuid(), pa.array([NUMBER.bytes], pa.binary(16))), str(NUMBER), None),
        (_extended(pa.json_(), pa.array(['{"a":1}'])), None, "{'a': 1}"),
        (_extended(pa.json_(), pa.array(['"a"'])), "a", None),
        (pa.array([["a", "b"]]), None, "['a', 'b']"),
        (pa.array([{"a": 1}]), None, "{'a': 1}"),
        (pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())), None, "{'a': 1}"),
        (pa.array([timedelta(seconds=1)]), None, "0:00:01"),
        (pa.array([date(2026, 10, 14)]), "2026-10-14", None),
        (pa.array([time(9, 30)]), "09:30:00", None),
        (pa.array([datetime(2026, 10, 14, 9)]), "2026-10-14T09:00:00", None),
        (pa.nulls(1), None, None),
    ],
)
@pytest.mark.parametrize("stored", [True, False])
def test_a_value_is_text_by_its_type(tmp_path: Path, column: pa.Array, text: str | None, unread: str | None, stored: bool) -> None:
    """With Arrow's own schema in the file or, as other writers leave it, without; the other columns of the row are read."""
    if not stored and pa.types.is_duration(column.type):
        return  # without the schema it is a whole number
    table = pa.table({"target": column, "query": pa.array(["b"])})
    rows = _read(tmp_path / "a.parquet", table, store_schema=stored).rows
    assert rows.to_dicts() == [{"query": "b", "target": text, "line": 1, "unread": unread and f"target={unread}"}]


@pytest.mark.parametrize(
    ("kind", "moment"),
    [
        (pa.timestamp("s"), datetime(2026, 10, 14, 9)),
        (pa.timestamp("ms"), datetime(2026, 10, 14, 9)),
        (pa.timestamp("ns"), datetime(2026, 10, 14, 9)),
        (pa.timestamp("us", "UTC"), datetime(2026, 10, 14, 9, tzinfo=UTC)),
        (pa.timestamp("ns", "Asia/Tokyo"), datetime(2026, 10, 14, 9, tzinfo=UTC)),
        (pa.timestamp("ms", "+02:00"), datetime(2026, 10, 14, 9, tzinfo=UTC)),
        (pa.date32(), date(2026, 10, 14)),
    ],
)
def test_times_stay_times(tmp_path: Path, kind: pa.DataType, moment: Any) -> None:
    """In whatever unit and zone, an event's time is the same moment: in UTC where it has a zone, as it stands where it has none."""
    rows = _read(tmp_path / "a.parquet", pa.table({"event_time": pa.array([moment, None], kind)})).rows
    assert rows["event_time"].to_list() == [moment, None]


def test_old_times_of_spark_are_read(tmp_path: Path) -> None:
    """A time in 96 bits keeps the year 9999, which overflows nanoseconds."""
    table = pa.table({"event_time": pa.array([datetime(9999, 12, 31), datetime(2026, 10, 14)], pa.timestamp("us"))})
    rows = _read(tmp_path / "a.parquet", table, use_deprecated_int96_timestamps=True).rows
    assert rows["event_time"].to_list() == [datetime(9999, 12, 31), datetime(2026, 10, 14)]


def test_a_time_beyond_the_calendar_is_noted(tmp_path: Path) -> None:
    """It is null, its number is shown, and its row stays."""
    rows = _read(tmp_path / "a.parquet", pa.table({"event_time": pa.array([9 * 10**18], pa.timestamp("ms"))})).rows
    assert rows.to_dicts() == [{"event_time": None, "line": 1, "unread": "event_time=9000000000000000000 ms since 1970"}]


@pytest.mark.parametrize("name", ["part[1].parquet", "a*.parquet", "dt=2026-10-14/a?.parquet", "{a,b}.parquet"])
def test_a_path_is_a_name(tmp_path: Path, name: str) -> None:
    """Signs of a pattern are letters of a name, and a folder's name is no column."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    pl.DataFrame({"query": ["other"]}).write_parquet(tmp_path / "a1.parquet")
    rows = _read(tmp_path / name, pa.table({"query": ["a"]})).rows
    assert rows.columns == ["query", "line", "unread"]
    assert rows["query"].to_list() == ["a"]


def test_columns_are_found_in_any_case_and_the_others_are_told(tmp_path: Path) -> None:
    """Rows are counted without a known column too; two columns of one name are refused; unknown ones may come twice."""
    path = tmp_path / "a.parquet"
    table = pa.table({"QUERY": ["a", "b"], "nested": [[1], [2]], "Titel": ["t", "u"]})
    reading = _read(path, table, Options(columns={"titel": "item_title"}), row_group_size=1)
    assert reading.rows.to_dict(as_series=False) == {
        "query": ["a", "b"],
        "item_title": ["t", "u"],
        "line": [1, 2],
        "unread": [None, None],
    }
    assert reading.ignored == ("nested",)
    assert _read(path, pa.table({"x": [1, 2, 3]})).rows["line"].to_list() == [1, 2, 3]
    assert _read(path, pa.table({"query": pa.array([], pa.string())})).rows.height == 0
    with pytest.raises(Unreadable, match="both read as query"):
        _read(path, pa.table({"query": ["a"], "Query": ["b"]}))
    twice = pa.table([pa.array([1]), pa.array([2]), pa.array(["a"])], names=["x", "x", "query"])
    assert _read(path, twice).rows["query"].to_list() == ["a"]


def test_two_unread_values_of_a_row_are_both_noted(tmp_path: Path) -> None:
    """Notes are joined by a semicolon, in the order of the columns."""
    rows = _read(tmp_path / "a.parquet", pa.table({"target": [["a"], None], "query": [b"\xff", b"b"]})).rows
    assert rows["unread"].to_list() == ["target=['a']; query=b'\\xff'", None]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"query,target\na,b\n",
        lambda data: data[: len(data) // 2],
        lambda data: b"PAR1" + b"\x00" * 50 + b"PAR1",
        lambda data: data[:40] + bytes(40) + data[80:],
    ],
    ids=["empty", "csv", "cut", "no footer", "page"],
)
def test_a_damaged_file_is_named_as_such(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    """One short line says what is wrong and what to do."""
    path = tmp_path / "a.parquet"
    pl.DataFrame({"query": [f"query {n}" for n in range(1000)]}).write_parquet(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(Unreadable, match=r"^the file is damaged or no Parquet: ") as caught:
        read_parquet(path, Options())
    assert len(caught.value.what) < 130
    assert caught.value.do == "write the file again, or take it out of the source"


@pytest.mark.parametrize("seed", range(20))
def test_rows_are_those_that_arrow_sees(tmp_path: Path, seed: int) -> None:
    """Of a file in several row groups, compressed or not, every text, number and null is the one that pyarrow reads."""
    chance = random.Random(seed)
    height = chance.randrange(1, 60)
    columns = {
        "query": [chance.choice(["a", "\u00e9\U0001f600", "", None, "x" * 50]) for _ in range(height)],
        "label": [chance.choice([0, 1, None]) for _ in range(height)],
        "weight": [chance.choice([0.25, 2.0, None]) for _ in range(height)],
    }
    options = {"row_group_size": chance.randrange(1, 20), "compression": chance.choice(["none", "snappy", "zstd", "gzip"])}
    rows = _read(tmp_path / "a.parquet", pa.table(columns), **options, use_dictionary=chance.random() < 0.5).rows
    seen = pq.read_table(tmp_path / "a.parquet").to_pydict()
    assert rows["query"].to_list() == seen["query"] == columns["query"]
    assert rows["label"].to_list() == [None if value is None else str(value) for value in seen["label"]]
    assert rows["weight"].to_list() == [None if value is None else {0.25: "0.25", 2.0: "2"}[value] for value in seen["weight"]]
    assert rows["line"].to_list() == list(range(1, height + 1))
