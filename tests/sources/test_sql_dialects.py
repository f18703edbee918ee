"""A SQL query on databases that are files: SQLite, whose times are text, and DuckDB."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from relevance_core.errors import RelevanceError, SettingsError, StoreError
from relevance_core.sources import conform
from relevance_core.sources.reading import Options
from relevance_core.sources.sql import Query, stamp

SELECT = """SELECT 'QC' AS task, 'en' AS language, query, 'a' AS category_path, 1 AS label, judged_at AS event_time
FROM t WHERE judged_at >= :start AND judged_at < :end"""
DAY = (datetime(2026, 10, 14, tzinfo=UTC), datetime(2026, 10, 15, tzinfo=UTC))
FORMS = {
    "date": ("{day}", "{day}", "{day}"),
    "SQLite's datetime()": ("{day} 00:00:00", "{day} 00:00:01", "{day} 23:59:59"),
    "microseconds": ("{day} 00:00:00.000000", "{day} 00:00:00.000001", "{day} 23:59:59.999999"),
    "ISO": ("{day}T00:00:00", "{day}T00:00:01", "{day}T23:59:59"),
    "Zulu": ("{day}T00:00:00Z", "{day}T00:00:01.5Z", "{day}T23:59:59Z"),
    "SQLAlchemy's": ("{day} 00:00:00+00:00", "{day} 00:00:01+00:00", "{day} 23:59:59.9+00:00"),
}


def _sqlite(path: Path, rows: list[tuple[Any, ...]], columns: str = "query, judged_at") -> str:
    with sqlite3.connect(path) as connection:
        connection.execute(f"CREATE TABLE t ({columns})")  # the columns are this file's
        connection.executemany(f"INSERT INTO t VALUES ({', '.join('?' * len(rows[0]))})", rows)  # noqa: S608 - question marks
    connection.close()
    return f"sqlite:///{path}"


def _queries(query: Query) -> list[str]:
    return query.read().rows["query"].to_list()


@pytest.mark.parametrize("form", FORMS)
def test_a_day_of_sqlite_begins_and_ends_at_midnight(tmp_path: Path, form: str) -> None:
    """Whichever way a time is written, the first moment is inside [start, end) and the end is outside."""
    rows = [
        (f"{day} {n}", text.format(day=day))
        for day in ("2026-10-13", "2026-10-14", "2026-10-15")
        for n, text in enumerate(FORMS[form])
    ]
    found = _queries(Query(SELECT, _sqlite(tmp_path / "shop.db", rows), *DAY))
    assert found == ["2026-10-14 0", "2026-10-14 1", "2026-10-14 2"]


def test_sqlite_functions_take_the_bounds(tmp_path: Path) -> None:
    """A column of seconds since 1970 is compared with unixepoch(:start)."""
    rows = [("before", 1_791_935_999), ("first", 1_791_936_000), ("last", 1_792_022_399), ("after", 1_792_022_400)]
    query = SELECT.replace(":start", "unixepoch(:start)").replace(":end", "unixepoch(:end)")
    assert _queries(Query(query, _sqlite(tmp_path / "shop.db", rows), *DAY)) == ["first", "last"]


def test_a_window_inside_a_day_is_cut_by_the_rows_own_times(tmp_path: Path) -> None:
    """SQLite is asked for whole days, so that no form of a time is lost; rows without a time can't be cut, and are refused."""
    rows = [
        ("five", "2026-10-14 05:00:00"),
        ("six", "2026-10-14T06:00:00Z"),
        ("noon", "2026-10-14 12:00:00"),
        ("next", "2026-10-15"),
    ]
    url, window = (
        _sqlite(tmp_path / "shop.db", rows),
        (datetime(2026, 10, 14, 6, tzinfo=UTC), datetime(2026, 10, 14, 12, tzinfo=UTC)),
    )
    pairs = conform(Query(SELECT, url, *window).fetch())
    inside = pairs.filter(pl.col("event_time").is_between(*window, closed="left"))
    assert inside["query"].to_list() == ["six"]
    with pytest.raises(SettingsError, match="only whole days can be asked for"):
        Query(SELECT.replace("judged_at AS event_time", "1 AS weight"), url, *window).read()


def test_values_of_sqlite_are_text_by_their_type(tmp_path: Path) -> None:
    """A blob is UTF-8 or unread, a text that is no UTF-8 is unread, a whole float is its digits; a row's number is its place."""
    rows = [
        ("caf\u00e9".encode(), 1001.0, "2026-10-14"),
        (b"\xff\xfe", 1001, "2026-10-14"),
        ("plain", None, "2026-10-14"),
    ]
    url = _sqlite(tmp_path / "shop.db", rows, "query, id, judged_at")
    with sqlite3.connect(tmp_path / "shop.db") as connection:
        connection.execute("INSERT INTO t SELECT CAST(X'6DF6' AS TEXT), 'odd', '2026-10-14'")
    connection.close()
    found = Query(SELECT.replace("query,", "query, id,"), url, *DAY).read().rows.select("query", "id", "line", "unread")
    assert set(found.drop("line").rows()) == {
        ("caf\u00e9", "1001", None),
        ("plain", None, None),
        (None, "1001", "query=b'\\xff\\xfe'"),
        (None, "odd", "query=b'm\\xf6'"),
    }
    assert found["line"].to_list() == [1, 2, 3, 4]


def test_names_of_columns_match_in_any_case(tmp_path: Path) -> None:
    """Capitals, as Oracle and Snowflake return them, and own names of source.columns are read."""
    url = _sqlite(tmp_path / "shop.db", [("a", "2026-10-14")])
    query = SELECT.replace("query,", "query AS QUERY,").replace("category_path", "PATH").replace("AS label", 'AS "LABEL"')
    reading = Query(query, url, *DAY, Options(columns={"path": "category_path"})).read()
    assert reading.rows.select("query", "category_path", "label", "line").rows() == [("a", "a", "1", 1)]


def test_a_missing_column_is_named_beside_those_that_came(tmp_path: Path) -> None:
    """The error lists the query's columns and the names that would do; two of one name are refused; a task may be the settings'."""
    url = _sqlite(tmp_path / "shop.db", [("a", "2026-10-14")])
    query = SELECT.replace("query,", "query AS term,").replace("'QC' AS task, ", "")
    with pytest.raises(SettingsError) as caught:
        Query(query, url, *DAY).read()
    assert caught.value.what == (
        "the query has no column task, query; the query returns language, term, category_path, label, event_time"
    )
    assert caught.value.expected == "task: task; query: query or origin_query, in capitals or not"
    assert Query(query, url, *DAY, Options(columns={"term": "query"}), "QC").read().rows["query"].to_list() == ["a"]
    with pytest.raises(SettingsError, match="both read as query"):
        Query(SELECT.replace("query,", "query, query,"), url, *DAY).read()


def test_sqlite_is_only_read_and_never_made(tmp_path: Path) -> None:
    """A mistyped path makes no empty database; a wrong name in the query is the query's error, not the database's."""
    url = _sqlite(tmp_path / "shop.db", [("a", "2026-10-14")])
    with pytest.raises(StoreError, match="there is no such database"):
        Query(SELECT, f"sqlite:///{tmp_path}/other.db", *DAY).read()
    assert not (tmp_path / "other.db").exists()
    with pytest.raises(SettingsError, match="refused the query: no such column: nonesuch"):
        Query(SELECT.replace("query,", "nonesuch AS query,"), url, *DAY).read()
    deleting = "DELETE FROM t WHERE judged_at >= :start AND judged_at < :end RETURNING query"
    with pytest.raises(SettingsError, match="refused the query: attempt to write a readonly database"):
        Query(deleting, url, *DAY).read()
    assert _queries(Query(SELECT, url, *DAY)) == ["a"]


def test_the_order_of_rows_is_their_content(tmp_path: Path) -> None:
    """The same rows in another order have the same stamp and the same numbers."""
    rows = [("b", "2026-10-14 01:00:00"), ("a", "2026-10-14 02:00:00"), ("a", "2026-10-14 01:00:00")]
    one = Query(SELECT, _sqlite(tmp_path / "one.db", rows), *DAY)
    other = Query(SELECT, _sqlite(tmp_path / "other.db", rows[::-1]), *DAY)
    assert one.read().rows.equals(other.read().rows)
    assert stamp(one.fetch()) == stamp(other.fetch())
    assert one.read().rows["line"].to_list() == [1, 2, 3]


@pytest.mark.parametrize("secret", ["s3cret", "s3cret word@1"])
@pytest.mark.parametrize("name", ["password", "sslpassword", "PWD", "api_token", "pass%77ord"])
def test_a_secret_in_the_urls_query_is_never_shown(name: str, secret: str) -> None:
    """Whatever the driver makes of it, no message holds a password that stands behind the URL's ?, plain or percent-encoded."""
    quoted = secret.replace(" ", "%20").replace("@", "%40")
    for connection in (f"postgresql://shop@127.0.0.1:1/db?{name}={quoted}", f"nosuch://h/d?{name}={quoted}"):
        query = Query(SELECT, connection, *DAY)
        with pytest.raises(RelevanceError) as caught:
            query.read()
        assert caught.value.__suppress_context__
        shown = str(caught.value) + repr(caught.value) + repr(query)
        assert "s3cret" not in shown


@pytest.fixture
def los_angeles() -> Iterator[None]:
    """The process's own zone, which DuckDB takes for its sessions, is eight hours from UTC."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "America/Los_Angeles")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("los_angeles")
def test_duckdb_reads_the_window_in_utc(tmp_path: Path) -> None:
    """In another zone, times without a zone, with one, and dates are inside [start, end) in UTC; values are text by their type."""
    pytest.importorskip("duckdb_engine")
    import duckdb

    path = tmp_path / "shop.duckdb"
    with duckdb.connect(path) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("CREATE TABLE t (query blob, path text[], id double, plain timestamp, zoned timestamptz, day date)")
        for text in ("2026-10-13 23:59:59", "2026-10-14 00:00:00", "2026-10-14 23:59:59", "2026-10-15 00:00:00"):
            connection.execute("INSERT INTO t VALUES ('a'::blob, ['x'], 1001.0, $1, $1, $1::timestamp)", [text])
    for column in ("plain", "zoned", "day"):
        query = SELECT.replace("'a' AS", "id, path AS").replace("1 AS label", "true AS label").replace("judged_at", column)
        rows = Query(query, f"duckdb:///{path}", *DAY).read().rows
        assert rows.height == 2, column
        assert set(rows["event_time"].dt.date()) == {DAY[0].date()}, column
        assert rows.select("query", "category_path", "id", "unread").row(0) == ("a", None, "1001", "category_path=['x']")
    with pytest.raises(StoreError, match="there is no such database"):
        Query(SELECT, f"duckdb:///{tmp_path}/other.duckdb", *DAY).read()
