"""A SQL query as a source, against a real PostgreSQL that these tests start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from relevance_core import config
from relevance_core.config import Settings
from relevance_core.errors import RelevanceError, SettingsError, StoreError
from relevance_core.machine import free_port
from relevance_core.sources import Batch, Source, conform, open_source, sql
from relevance_core.sources.sql import Query
from relevance_core.store import Store
from tests.support.pair_cases import END, at, ingested, validated
from tests.support.postgres_server import NEEDS_POSTGRES, QUOTED, postgres_server

pytestmark = NEEDS_POSTGRES

SELECT = (
    "SELECT task, lang AS language, q AS query, path AS category_path, is_relevant AS label, at AS event_time "
    "FROM judgements WHERE at >= :start AND at < :end"
)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """host:port of a server with five judgements."""
    import psycopg

    with postgres_server() as address:
        with psycopg.connect(f"postgresql://shop:{QUOTED}@{address}/postgres") as connection:
            connection.execute(
                "CREATE TABLE judgements (task text, lang text, q text, path text, is_relevant boolean, at timestamptz)"
            )
            connection.execute("CREATE SEQUENCE counter")
            rows = [
                ("QC", "en", "too old", "a", True, "2026-10-11T23:59:59Z"),
                ("QC", "en", "history", "a,b", True, "2026-10-12T00:00:00Z"),
                ("QC", "DE", "roter  Schuh", "a,b", False, "2026-10-14T02:00:00+02:00"),
                ("QC", "en", None, "a,b", True, "2026-10-14T23:59:59.999999Z"),
                ("QC", "en", "too new", "a,b", True, "2026-10-15T00:00:00Z"),
            ]
            with connection.cursor() as cursor:
                cursor.executemany("INSERT INTO judgements VALUES (%s, %s, %s, %s, %s, %s)", rows)
        yield address


def _settings(connection: str, query: str = SELECT, history_days: int = 2) -> Settings:
    source = {"sql": query, "connection": connection}
    bounds = {"max_quarantine_share": 1, "max_positive_rate": 1}
    return config.build({"source": source, "window": {"end": END, "history_days": history_days}, "validation": bounds})


def _source(connection: str, query: str = SELECT) -> Source:
    return open_source(_settings(connection, query))


def _fetched(source: Source) -> Batch:
    assert source.query is not None
    return source.query.fetch()


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_a_query_is_bound_to_window_and_history(address: str, store: Store, scheme: str) -> None:
    """:start is the first moment of the history, :end the watermark; types, time zones and aliases are those of any source."""
    found = ingested(_settings(f"{scheme}://shop:{QUOTED}@{address}/postgres?__extra__=%7B%7D"), store)
    pairs = found.table("pairs").select("language", "query", "target", "label", "fresh")
    assert pairs.rows() == [
        ("en", "history", "a,b", 1, False),
        ("de", "roter Schuh", "a,b", 0, True),
        ("en", None, "a,b", 1, True),
    ]
    assert found.report.rows.incoming == 3


@pytest.fixture
def hours(address: str) -> Iterator[str]:
    """A connection to a table of one row an hour, 12 to 15 October in UTC, in columns without a zone."""
    import psycopg

    url = f"postgresql://shop:{QUOTED}@{address}/postgres"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE hours (q text, at timestamp, day date)")
        connection.execute(
            "INSERT INTO hours SELECT 'q ' || d || ' ' || h, make_timestamp(2026, 10, d, h, 0, 0), make_date(2026, 10, d) "
            "FROM generate_series(12, 15) d, generate_series(0, 23) h"
        )
        yield url
        connection.execute("DROP TABLE hours")
        connection.execute("ALTER ROLE shop RESET timezone")


@pytest.mark.parametrize("zone", ["UTC", "America/Los_Angeles", "Asia/Tokyo"])
@pytest.mark.parametrize("column", ["at", "day"])
def test_the_zone_of_a_session_moves_no_row(hours: str, store: Store, zone: str, column: str) -> None:
    """Whatever the role's zone, three days of hourly rows are 72, 24 of them fresh; a window without history is its 24."""
    import psycopg

    with psycopg.connect(hours, autocommit=True) as connection:
        connection.execute(f"ALTER ROLE shop SET timezone = '{zone}'")
    query = (
        f"SELECT 'QC' AS task, 'en' AS language, q AS query, 'shoes' AS category_path, true AS label, {column} AS event_time "  # noqa: S608 - names of this test
        f"FROM hours WHERE {column} >= :start AND {column} < :end"
    )
    found = ingested(_settings(hours, query), store)
    assert (found.report.rows.incoming, found.report.figures["fresh_rows"]) == (72, 24)
    assert ingested(_settings(hours, query, history_days=0), store).report.rows.incoming == 24


def test_values_of_postgres_are_text_by_their_type(address: str, store: Store) -> None:
    """Bytes are UTF-8 or unread; an array and JSON are no text: these rows are in quarantine, and a sound one is kept."""
    import psycopg

    url = f"postgresql://shop:{QUOTED}@{address}/postgres"
    values = [
        (b"caf\xc3\xa9", "shoes", None, None),
        (b"m\xf6bel", "shoes", None, None),
        (b"array", None, ["shoes", "red"], None),
        (b"json", None, None, '{"a": 1}'),
    ]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kinds (q bytea, path text, paths text[], j jsonb)")
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO kinds VALUES (%s, %s, %s, %s)", values)
    query = (
        "SELECT 'QC' AS task, 'en' AS language, q AS query, path AS target, paths AS category_path, j AS target_id, "
        "true AS label, :start AS event_time FROM kinds WHERE :start < :end"
    )
    found = validated(_settings(url, query, history_days=0), store)
    assert found.table("pairs").select("query", "target").rows() == [("café", "shoes")]
    told = found.table("quarantine").select("query", "unread", "file").sort("unread")
    assert told["unread"].to_list() == ["category_path=['shoes', 'red']", "query=b'm\\xf6bel'", "target_id={'a': 1}"]
    assert set(told["file"]) == {"sql 2026-10-14"}


def test_rows_are_fetched_in_parts_and_their_order_is_their_contents(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows at a time and in the reverse order give the same rows and the same fingerprint."""
    url = f"postgres://shop:{QUOTED}@{address}/postgres"
    whole = _source(url)
    monkeypatch.setattr(sql, "CHUNK", 2)
    parts = _source(url, SELECT + " ORDER BY at DESC")
    assert parts.fingerprint() == whole.fingerprint()
    one, other = _fetched(parts).frame, _fetched(whole).frame
    assert one.height == 3
    assert one.equals(other)


def test_the_fingerprint_follows_the_rows(address: str) -> None:
    """A row inside the window changes it, a row outside does not."""
    import psycopg

    source = _source(f"postgres://shop:{QUOTED}@{address}/postgres")
    before = source.fingerprint()
    with psycopg.connect(f"postgresql://shop:{QUOTED}@{address}/postgres") as connection:
        connection.execute("INSERT INTO judgements VALUES ('QC', 'en', 'outside', 'x', true, '2026-11-01T00:00:00Z')")
        connection.commit()
        assert source.fingerprint() == before
        connection.execute("INSERT INTO judgements VALUES ('QC', 'en', 'inside', 'x', true, '2026-10-13T00:00:00Z')")
        connection.commit()
        assert source.fingerprint() != before
        connection.execute("DELETE FROM judgements WHERE path = 'x'")


def test_a_window_without_rows_has_columns(address: str) -> None:
    """No rows are no missing columns."""
    batch = _fetched(_source(f"postgres://shop:{QUOTED}@{address}/postgres", SELECT + " AND false"))
    assert batch.frame.height == 0
    assert batch.missing() == []


@pytest.mark.parametrize("zone", ["America/Los_Angeles", "Asia/Tokyo", "UTC"])
@pytest.mark.parametrize("options", ["", "?options=-c%20TimeZone%3DAsia/Kolkata%20-c%20statement_timeout%3D60s"])
@pytest.mark.parametrize("column", ["plain", "zoned", "day", "text"])
def test_a_window_is_in_utc_whatever_the_sessions_zone(address: str, zone: str, options: str, column: str) -> None:
    """A night has 24 hours, of a timestamp, a timestamptz or a date, whatever zone the role, and the URL's options, ask for."""
    import psycopg

    with psycopg.connect(f"postgresql://shop:{QUOTED}@{address}/postgres", autocommit=True) as connection:
        connection.execute(f"ALTER ROLE shop SET TimeZone = '{zone}'")
        connection.execute("DROP TABLE IF EXISTS hours")
        connection.execute(
            "CREATE TABLE hours AS SELECT h AS plain, h AT TIME ZONE 'UTC' AS zoned, h::date AS day, "
            "to_char(h, 'YYYY-MM-DD HH24:MI:SS') AS text "
            "FROM generate_series(timestamp '2026-10-12', '2026-10-15 23:00', '1 hour') h"
        )
    given = "text::timestamp" if column == "text" else column
    query = (
        f"SELECT 'QC' AS task, 'en' AS language, 'a' AS query, 'b' AS target, 1 AS label, {column} AS event_time "  # noqa: S608 - a case's
        f"FROM hours WHERE {given} >= :start AND {given} < :end"
    )
    url = f"postgres://shop:{QUOTED}@{address}/postgres{options}"
    found = Query(query, url, at("2026-10-14"), at("2026-10-15")).fetch()
    assert found.frame.height == 24
    assert set(conform(found)["event_time"].dt.date()) == {at("2026-10-14").date()}


def test_values_are_text_by_their_type(address: str) -> None:
    """Bytes are UTF-8 or unread; an enum, a number and a UUID are text; arrays, JSON, composites, ranges and intervals are not."""
    import psycopg

    with psycopg.connect(f"postgresql://shop:{QUOTED}@{address}/postgres", autocommit=True) as connection:
        connection.execute("CREATE TYPE grade AS ENUM ('good', 'bad')")
        connection.execute("CREATE TYPE pair AS (a int, b text)")
        connection.execute("CREATE DOMAIN grades AS grade[]")
        connection.execute("CREATE DOMAIN word AS text")
    cases = {
        r"'\x636166c3a9'::bytea": ("caf\u00e9", None),
        r"'\xff'::bytea": (None, "b'\\xff'"),
        "'good'::grade": ("good", None),
        "'good'::word": ("good", None),
        "1001.00::numeric": ("1001", None),
        "'NaN'::numeric": (None, "NaN"),
        "1001.0::float8": ("1001", None),
        "true": ("true", None),
        "'c8c9cacb-cccd-cecf-d0d1-d2d3d4d5d6d7'::uuid": ("c8c9cacb-cccd-cecf-d0d1-d2d3d4d5d6d7", None),
        "date '2026-10-14'": ("2026-10-14", None),
        "timestamptz '2026-10-14 02:00+02'": ("2026-10-14T00:00:00+00:00", None),
        "'{shoes,red}'::text[]": (None, "['shoes', 'red']"),
        "'{good,bad}'::grade[]": (None, "{good,bad}"),
        "'{good,bad}'::grades": (None, "{good,bad}"),
        "'{\"a\": 1}'::jsonb": (None, "{'a': 1}"),
        "'{\"a\": 1}'::json": (None, "{'a': 1}"),
        "ROW(1, 'x')::pair": (None, "(1,x)"),
        "'[1,2]'::int4range": (None, "[1, 3)"),
        "interval '1 day'": (None, "1 day, 0:00:00"),
        "NULL::text": (None, None),
    }
    for value, (text, printed) in cases.items():
        query = (
            f"SELECT 'QC' AS task, 'en' AS language, 'a' AS query, {value.replace(':', chr(92) + ':')} AS \"TARGET\", 1 AS label "
            "WHERE :start < :end"
        )
        rows = Query(query, f"postgres://shop:{QUOTED}@{address}/postgres", at("2026-10-14"), at("2026-10-15")).read().rows
        assert rows.select("target", "line", "unread").row(0) == (text, 1, printed and f"target={printed}"), value


def test_times_of_parts_that_differ_become_text(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that holds only nulls, fetched beside parts with times, has no kind of its own."""
    monkeypatch.setattr(sql, "CHUNK", 1)
    query = (
        "SELECT 'QC' AS task, 'en' AS language, 'a' AS query, 'b' AS target, 1 AS label, e AS event_time "
        "FROM (VALUES (timestamptz '2026-10-14 01:00Z'), (NULL), (timestamptz '2026-10-14 02:00Z')) AS t (e) WHERE :start < :end"
    )
    rows = Query(query, f"postgres://shop:{QUOTED}@{address}/postgres", at("2026-10-14"), at("2026-10-15")).read().rows
    assert rows["event_time"].to_list() == [None, at("2026-10-14T01:00:00"), at("2026-10-14T02:00:00")]


def test_the_database_is_only_read(address: str) -> None:
    """A query with a side effect is refused by the database itself."""
    counting = "SELECT nextval('counter') AS id FROM judgements WHERE at >= :start AND at < :end"
    with pytest.raises(SettingsError, match="read-only transaction"):
        _source(f"postgres://shop:{QUOTED}@{address}/postgres", counting).fingerprint()


def _refused(source: Source) -> RelevanceError:
    with pytest.raises(RelevanceError) as caught:
        source.fingerprint()
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    return caught.value


def test_no_error_holds_the_password(address: str) -> None:
    """A wrong password, a dead port, a wrong query and a broken URL each say what to do, and none of them holds the password."""
    port = free_port()
    cases = {
        f"postgres://shop:{QUOTED}x@{address}/postgres": (SELECT, StoreError, "check the database"),
        f"postgres://shop:{QUOTED}@127.0.0.1:{port}/postgres": (SELECT, StoreError, "can't be reached"),
        f"postgres://shop:{QUOTED}@{address}/postgres": (
            SELECT.replace("judgements", "nothing"),
            SettingsError,
            "correct the query",
        ),
        f"postgres://shop:{QUOTED}@{address}:x/postgres": (SELECT, SettingsError, "not a database URL"),
        f"nosuch://shop:{QUOTED}@{address}/postgres": (SELECT, SettingsError, "no driver"),
    }
    for connection, (query, kind, told) in cases.items():
        error = _refused(_source(connection, query))
        assert isinstance(error, kind), error
        assert told in str(error)
        assert "s3cret" not in str(error) + repr(error) + repr(_source(connection, query))


def test_a_query_must_use_the_window() -> None:
    """A query without :start and :end would read another thing every night: it is refused before it is sent."""
    with pytest.raises(SettingsError, match="does not use the window"):
        _source("postgres://nobody@127.0.0.1:1/none", "SELECT * FROM judgements WHERE at < :end").fingerprint()
    with pytest.raises(SettingsError, match="the query has no connection"):
        _source("").fingerprint()
