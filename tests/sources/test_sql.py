"""A SQL query as a source, against a real PostgreSQL that these tests start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from relevance_core import config
from relevance_core.config import Settings
from relevance_core.errors import RelevanceError, SettingsError, StoreError
from relevance_core.machine import free_port
from relevance_core.sources import Source, open_source, sql
from relevance_core.store import Store
from tests.support.pair_cases import END, ingested
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


def _settings(connection: str, query: str = SELECT) -> Settings:
    source = {"sql": query, "connection": connection}
    return config.build({"source": source, "window": {"end": END, "history_days": 2}})


def _source(connection: str, query: str = SELECT) -> Source:
    return open_source(_settings(connection, query))


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


def test_rows_are_fetched_in_parts_and_their_order_is_their_contents(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows at a time and in the reverse order give the same rows and the same fingerprint."""
    url = f"postgres://shop:{QUOTED}@{address}/postgres"
    whole = _source(url)
    monkeypatch.setattr(sql, "CHUNK", 2)
    parts = _source(url, SELECT + " ORDER BY at DESC")
    assert parts.fingerprint() == whole.fingerprint()
    one, other = next(parts.batches()).frame, next(whole.batches()).frame
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
    batch = next(_source(f"postgres://shop:{QUOTED}@{address}/postgres", SELECT + " AND false").batches())
    assert batch.frame.height == 0
    assert batch.missing() == []


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
