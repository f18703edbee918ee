"""Labelled logs from a SQL query with the bound parameters :start and :end."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from relevance_core.errors import DataError, RelevanceError, SettingsError, StoreError
from relevance_core.sources.columns import KNOWN, Batch

if TYPE_CHECKING:
    from sqlalchemy import URL, Engine

CHUNK: Final = 50_000
"""Rows fetched per round trip."""

_DRIVERS: Final = {"postgres": "postgresql+psycopg", "postgresql": "postgresql+psycopg"}


@dataclass(frozen=True)
class Query:
    """A SELECT over the rows of [start, end). Its connection never appears in a message or a representation."""

    sql: str
    connection: str = field(repr=False)
    start: datetime
    end: datetime

    def fetch(self) -> Batch:
        """Returns the rows in an order that depends on their content alone.

        Raises SettingsError for an invalid connection or query, DataError for what the query can't read, StoreError for an
        unreachable database.
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
            result = connection.execution_options(stream_results=True).execute(statement, {"start": self.start, "end": self.end})
            names = list(result.keys())
            chunks = [_frame(names, rows) for rows in result.partitions(CHUNK)]
        frame = pl.concat(chunks, how="vertical_relaxed") if chunks else pl.DataFrame(schema=dict.fromkeys(names, pl.String))
        frame = frame.select(name for name in KNOWN if name in names)
        return Batch("sql", frame.sort(frame.columns) if frame.columns else frame)


def stamp(batch: Batch) -> str:
    """Returns a digest of a query's fetched rows, independent of the order in which the database returned them."""
    return hashlib.sha256(batch.frame.write_csv().encode()).hexdigest()


def _frame(names: list[str], rows: Any) -> pl.DataFrame:
    """Returns known columns of fetched rows; values other than dates, times and numbers become text."""
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    return pl.DataFrame([_series(name, list(values)) for name, values in columns.items() if name in KNOWN])


def _series(name: str, values: list[Any]) -> pl.Series:
    if any(isinstance(value, datetime) for value in values):
        zones = {value.tzinfo is not None for value in values if value is not None}
        return pl.Series(name, values, dtype=pl.Datetime("us", "UTC" if zones == {True} else None))
    return pl.Series(name, [None if value is None else str(value) for value in values], dtype=pl.String)


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
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    url = _url(connection)
    options: Mapping[str, Any] = {"postgresql_readonly": True} if url.get_dialect().name == "postgresql" else {}
    engine = create_engine(url, poolclass=NullPool, hide_parameters=True, execution_options=options)
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def _errors(connection: str) -> Iterator[None]:
    """Raises the database's errors as the package's own, without the password and without the exception chain that holds it."""
    from sqlalchemy.exc import DBAPIError, InterfaceError, NoSuchModuleError, OperationalError, SQLAlchemyError

    try:
        yield
    except RelevanceError:
        raise
    except (OperationalError, InterfaceError) as error:
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
        raise SettingsError(
            f"the database refused the query: {_plain(error.orig, connection)}", where="source.sql", do="correct the query"
        ) from None
    except SQLAlchemyError as error:
        raise DataError(f"the query failed: {_plain(error, connection)}", where=_shown(connection)) from None


def _shown(connection: str) -> str:
    return _url(connection).render_as_string(hide_password=True)


def _plain(error: object, connection: str) -> str:
    """Returns the error's text on one line without the password."""
    text = " ".join(str(error).split())
    password = _url(connection).password
    return text.replace(str(password), "***") if password else text
