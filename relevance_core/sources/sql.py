"""Labelled logs from a SQL query with the bound parameters :start and :end."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, quote_plus, unquote_plus

import polars as pl

from relevance_core.errors import DataError, RelevanceError, SettingsError, StoreError
from relevance_core.sources import values
from relevance_core.sources.columns import Batch
from relevance_core.sources.names import ALIASES, REQUIRED
from relevance_core.sources.reading import LINE, Form, Options, Reading, Unreadable

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine
    from sqlalchemy.exc import DBAPIError

CHUNK: Final = 50_000
"""Rows fetched per round trip."""

_DRIVERS: Final = {"postgres": "postgresql+psycopg", "postgresql": "postgresql+psycopg"}

_IN_UTC: Final = {"postgresql": "SET LOCAL TIME ZONE 'UTC'", "duckdb": "SET TimeZone = 'UTC'"}
"""Dialect → the statement that puts the session in UTC. In a transaction of its own it also holds behind a connection pooler."""

_PRINTED_TYPES: Final = """
SELECT t.oid FROM pg_type t LEFT JOIN pg_type base ON base.oid = t.typbasetype
WHERE t.oid = ANY(:codes) AND (
  t.typtype IN ('c', 'r', 'm') OR t.typcategory = 'A' OR t.typname = 'hstore'
  OR base.typtype IN ('c', 'r', 'm') OR base.typcategory = 'A' OR base.typname = 'hstore'
)
"""

_SECRET: Final = re.compile(r"pass|pwd|secret|token|key|cred|odbc_connect|__extra__", re.IGNORECASE)
"""Names in a URL's query whose values are never shown."""


@dataclass(frozen=True)
class Query:
    """A SELECT over the rows of [start, end). Its connection never appears in a message or a representation.

    Attributes:
        options: the settings of the source; `columns` counts here.
        task: task of rows without one; with it the query needs no column for it.
    """

    sql: str
    connection: str = field(repr=False)
    start: datetime
    end: datetime
    options: Options = field(default_factory=Options)
    task: str | None = None

    def read(self) -> Reading:
        """Returns the rows in an order that depends on their content alone; LINE is a row's number in that order.

        The session is in UTC: a time without a zone is UTC to the database as well. A database that compares times as text (SQLite)
        is asked for whole days.

        Raises:
            SettingsError: the connection or the query is invalid, or a column is missing.
            DataError: the query can't read a value.
            StoreError: the database is unreachable.
        """
        from sqlalchemy import text

        statement = text(self.sql)
        if not {"start", "end"} <= set(statement.compile().params):
            raise SettingsError(
                "the query does not use the window",
                where="source.sql",
                expected="both :start and :end",
                do="end it with, say, WHERE event_time >= :start AND event_time < :end",
            )
        with _errors(self.connection), _engine(self.connection) as engine, engine.connect() as connection:
            if set_zone := _IN_UTC.get(engine.dialect.name):
                connection.execute(text(set_zone))
            bounds = _bounds(engine.dialect.name, self.start, self.end)
            result = connection.execution_options(stream_results=True).execute(statement, bounds)
            columns = list(result.keys())
            kinds = {column: code for column, code, *_ in result.cursor.description or ()} if result.cursor else {}
            named = self._named(columns)
            self._check_bounds(engine.dialect.name, list(named.values()))
            parts = [_part(named, columns, rows) for rows in result.partitions(CHUNK)]
            printed = _printed(connection, kinds, named)
        ignored = tuple(column for column in columns if column not in named)
        return Reading(_sorted(_joined(list(named.values()), parts), printed), Form("sql"), ignored)

    def fetch(self) -> Batch:
        """Returns `read`'s rows as a batch."""
        return Batch("sql", self.read().rows)

    def _named(self, columns: list[str]) -> dict[str, str]:
        """Returns the query's column → known name. Raises SettingsError for a column that is missing or comes twice."""
        came = f"the query returns {', '.join(map(values.shown, columns))}"
        try:
            named = self.options.named(columns)
        except Unreadable as error:
            raise SettingsError(error.what, where="source.sql", expected=error.expected, do=error.do) from None
        lacking = [name for name in REQUIRED if not set(ALIASES[name]) & set(named.values()) and not (name == "task" and self.task)]
        if lacking:
            raise SettingsError(
                f"the query has no column {', '.join(lacking)}; {came}",
                where="source.sql",
                expected="; ".join(f"{name}: {' or '.join(ALIASES[name])}" for name in lacking) + ", in capitals or not",
                do="name the columns with AS, or set source.columns",
            )
        return named

    def _check_bounds(self, dialect: str, names: list[str]) -> None:
        """Raises SettingsError where whole days were asked for and rows have no time by which they are cut."""
        if dialect == "sqlite" and any(map(_inside_a_day, (self.start, self.end))) and not set(values.MOMENTS) & set(names):
            raise SettingsError(
                "SQLite compares times as text, so that only whole days can be asked for",
                where="window.end, source.sql",
                expected="an event_time in the query's columns, by which its rows are cut",
                do="add the column, or end the window at midnight UTC",
            )


def stamp(batch: Batch) -> str:
    """Returns a digest of a query's fetched rows, independent of the order in which the database returned them."""
    return hashlib.sha256(batch.frame.drop(LINE, strict=False).write_csv().encode()).hexdigest()


def _inside_a_day(moment: datetime) -> bool:
    return moment.astimezone(UTC).timetz().replace(tzinfo=None) != time.min


def _bounds(dialect: str, start: datetime, end: datetime) -> dict[str, Any]:
    """Returns the values of :start and :end.

    SQLite has no type for a time. The text of a day, 2026-10-14, sorts behind every text of the day before and ahead of every text
    of its own day, whichever way that writes the time; inside a day no text does. So whole days are asked for: rows before the
    start and from the end on are dropped by their event_time, as those of a file are.
    """
    if dialect != "sqlite":
        return {"start": start, "end": end}
    first, last = start.astimezone(UTC).date(), end.astimezone(UTC).date()
    return {"start": str(first), "end": str(last + timedelta(days=1) if _inside_a_day(end) else last)}


_Part = dict[str, values.Texts]


def _part(named: Mapping[str, str], columns: list[str], rows: Sequence[Any]) -> _Part:
    found = dict(zip(columns, zip(*rows, strict=True), strict=True))
    return {name: values.read_values(name, found[column], moments=name in values.MOMENTS) for column, name in named.items()}


def _joined(names: list[str], parts: list[_Part]) -> _Part:
    """Returns the parts of each column as one; times of different kinds become text."""
    columns: _Part = {}
    for name in names:
        texts = [part[name][0] for part in parts]
        kinds = {column.dtype for column in texts if column.null_count() < len(column)}
        if len(kinds) == 1:  # a part of nulls has no kind of its own
            (kind,) = kinds
            texts = [column if column.dtype == kind else values.nulls(name, len(column)).cast(kind) for column in texts]
        else:
            texts = [values.read_series(column)[0] for column in texts]
        notes = [part[name][1] for part in parts]
        heights = [len(column) for column in texts]
        filled = [values.nulls(name, height) if note is None else note for note, height in zip(notes, heights, strict=True)]
        joined = pl.concat(texts) if texts else values.nulls(name, 0)
        columns[name] = joined, pl.concat(filled) if any(note is not None for note in notes) else None
    return columns


def _sorted(columns: _Part, printed: set[str]) -> pl.DataFrame:
    """Returns the rows, sorted. printed: columns whose texts are a driver's print of something that is no text."""
    texts = {name: column for name, (column, _) in columns.items()}
    notes = {name: note for name, (_, note) in columns.items() if note is not None}
    for name in printed & texts.keys():
        told = [None if text is None else values.shown(text) for text in texts[name]]
        note = pl.Series(name, told, dtype=pl.String)
        notes[name] = notes[name].zip_with(notes[name].is_not_null(), note) if name in notes else note
        texts[name] = values.nulls(name, len(texts[name]))
    height = len(next(iter(texts.values()))) if texts else 0
    frame = values.rows_of(texts, notes, range(1, height + 1))
    by = [name for name in frame.columns if name != LINE]
    return frame.with_columns(frame.drop(LINE).sort(by)).select(*frame.columns)


def _printed(connection: Connection, kinds: Mapping[str, Any], named: Mapping[str, str]) -> set[str]:
    """Returns the known names of PostgreSQL's columns whose type psycopg does not know and hands over as printed.

    These are composites, ranges, hstore, and arrays of a type of the database's own; an enum and a domain are text.
    """
    from sqlalchemy import text

    codes = {code for code in kinds.values() if isinstance(code, int)}
    if connection.dialect.name != "postgresql" or not codes:
        return set()
    found = connection.execute(text(_PRINTED_TYPES), {"codes": list(codes)})
    types = {code for (code,) in found}
    return {named[column] for column, code in kinds.items() if code in types and column in named}


def _url(connection: str) -> URL:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    if not connection:
        raise SettingsError(
            "the query has no connection",
            where="source.connection",
            expected="a database URL, such as postgresql://user:password@host:5432/name",
            do="set it in RELEVANCE_SETTINGS, not in a file or on the command line, where others can read it",
        )
    try:
        url = make_url(connection)
    except (ArgumentError, ValueError):
        # The library's message repeats the URL with its password.
        raise SettingsError(
            "not a database URL", where="source.connection", expected="dialect://user:password@host:port/name"
        ) from None
    # Airflow keeps its own extras in the query part of a connection's URI.
    return url.set(drivername=_DRIVERS.get(url.drivername, url.drivername)).difference_update_query(["__extra__"])


@contextmanager
def _engine(connection: str) -> Iterator[Engine]:
    from sqlalchemy import create_engine, event
    from sqlalchemy.pool import NullPool

    url = _url(connection)
    dialect = url.get_dialect().name
    options: Mapping[str, Any] = {"postgresql_readonly": True} if dialect == "postgresql" else {}
    arguments = {"read_only": True} if dialect == "duckdb" and _file(url) else {}
    if dialect in ("sqlite", "duckdb") and (path := _file(url)) and not Path(path).exists():
        # Both would make a database of a mistyped name.
        raise StoreError("there is no such database", where=_shown(connection), do="correct the path in source.connection")
    engine = create_engine(url, poolclass=NullPool, hide_parameters=True, execution_options=options, connect_args=arguments)
    if dialect == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
    try:
        yield engine
    finally:
        engine.dispose()


def _file(url: URL) -> str:
    """Returns the path of a database that is a file, "" for one in memory or behind another address."""
    name = url.database or ""
    return "" if name in ("", ":memory:", ":default:") or name.startswith(("file:", "md:", "motherduck:")) else name


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA query_only = ON")
    connection.text_factory = _sqlite_text


def _sqlite_text(value: bytes) -> str | bytes:
    """Returns a text, or the bytes of a text that is no UTF-8: SQLite takes in any."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


@contextmanager
def _errors(connection: str) -> Iterator[None]:
    """Raises the database's errors as the package's own, without the password and without the exception chain that holds it."""
    from sqlalchemy.exc import DBAPIError, InterfaceError, NoSuchModuleError, OperationalError, SQLAlchemyError

    try:
        yield
    except RelevanceError:
        raise
    except (OperationalError, InterfaceError) as error:
        if _is_query(error):
            raise _refused(error, connection) from None
        raise StoreError(
            f"the database can't be reached or gave up: {_plain(error.orig, connection)}",
            where=_shown(connection),
            do="check the database, and the connection's host, port, user and password",
        ) from None
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise SettingsError(
            f"no driver for this database: {_plain(error, connection)}",
            where="source.connection",
            do="install the driver, or correct the URL",
        ) from None
    except DBAPIError as error:
        raise _refused(error, connection) from None
    except SQLAlchemyError as error:
        raise DataError(f"the query failed: {_plain(error, connection)}", where=_shown(connection)) from None


def _is_query(error: DBAPIError) -> bool:
    """Tells whether SQLite, which has one error for all, means the query."""
    return isinstance(error.orig, sqlite3.Error) and getattr(error.orig, "sqlite_errorname", "") in (
        "SQLITE_ERROR",
        "SQLITE_READONLY",
    )


def _refused(error: DBAPIError, connection: str) -> SettingsError:
    told = _plain(error.orig, connection)
    return SettingsError(f"the database refused the query: {told}", where="source.sql", do="correct the query")


def _shown(connection: str) -> str:
    """Returns the URL without its password and without its query, which may hold others."""
    return _url(connection).set(query={}).render_as_string(hide_password=True)


def _plain(error: object, connection: str) -> str:
    """Returns the error's text on one line without the passwords."""
    text = " ".join(str(error).split())
    for secret in sorted(_secrets(connection), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _secrets(connection: str) -> set[str]:
    """Returns every form in which a driver may print the URL's secrets."""
    url = _url(connection)
    given = [str(url.password)] if url.password else []
    for name, value in url.query.items():
        if _SECRET.search(name):
            given += [value] if isinstance(value, str) else value
    raw = connection.partition("?")[2].split("&")
    given += [pair.partition("=")[2] for pair in raw if _SECRET.search(unquote_plus(pair.partition("=")[0]))]
    forms = (str, quote, quote_plus, unquote_plus, lambda text: quote(text, safe=""), lambda text: " ".join(text.split()))
    return {form(secret) for secret in given for form in forms} - {""}
