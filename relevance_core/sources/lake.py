"""Tables of a lake, read through their own libraries: only these know which files are current and which rows are deleted."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from importlib import import_module
from typing import Any, Final

import polars as pl

from relevance_core.errors import DataError, RelevanceError
from relevance_core.sources.columns import Batch
from relevance_core.sources.names import ALIASES, known_as
from relevance_core.sources.partitions import NULL, partitions, shown
from relevance_core.sources.reading import LINE
from relevance_core.sources.values import MOMENTS, read_series, rows_of
from relevance_core.store import open_store

_PACKAGES: Final = {"delta": ("Delta", "deltalake"), "iceberg": ("Iceberg", "pyiceberg")}
_NUMBER: Final = re.compile(r"v?([0-9]+)")
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True)
class Table:
    """The rows of a table that may lie in a window.

    Attributes:
        rows: the known columns under the table's own names and of its own types; `event_date` where a partition alone says the day.
        ignored: the table's columns that no name stands for.
        version: of the content: a table changes it with every write.
    """

    rows: pl.DataFrame
    ignored: tuple[str, ...]
    version: str


@dataclass(frozen=True)
class TableQuery:
    """The rows of [start, end) of a table that a listing found, as `sql.Query` has those of a query."""

    kind: str
    address: str
    start: datetime
    end: datetime
    columns: Mapping[str, str]

    def fetch(self) -> Batch:
        """Returns the rows in an order that depends on their content alone, with LINE and UNREAD. Raises DataError."""
        table = read_table(self.kind, self.address, self.start, self.end, self.columns)
        texts, notes = {}, {}
        for column in table.rows.columns:
            name = known_as(column, self.columns)
            texts[name], note = read_series(table.rows[column], moments=name in MOMENTS)
            if note is not None:
                notes[name] = note
        rows = rows_of(texts, notes, range(table.rows.height)).drop(LINE)
        ordered = rows.sort(rows.columns, nulls_last=True)
        return Batch(self.kind, ordered.with_columns(pl.int_range(1, pl.len() + 1).alias(LINE)))


def read_table(kind: str, address: str, start: datetime, end: datetime, columns: Mapping[str, str] | None = None) -> Table:
    """Reads a table that a listing found.

    Partitions of other days than those of [start, end) are left out, and so are rows whose time lies more than a day outside.

    Args:
        kind: delta, iceberg or hudi, as in Listing.table.
        address: as in Listing.address.
        start: first moment of the rows wanted, with a zone.
        end: moment after the last.
        columns: the source's own names of columns → known names (`source.columns`).

    Raises:
        DataError: the kind is not read, its package is not installed, or the table can't be read.
    """
    readers: dict[str, Callable[..., Table]] = {"delta": read_delta, "iceberg": read_iceberg}
    if kind not in readers:
        raise DataError(
            f"a {kind.capitalize()} table is not read",
            where=address,
            expected="a folder of files, a Delta or an Iceberg table",
            do="export the rows as Parquet files in dt=YYYY-MM-DD partitions, or set source.sql to a query of its engine",
        )
    return readers[kind](address, start, end, columns)


def read_delta(address: str, start: datetime, end: datetime, columns: Mapping[str, str] | None = None) -> Table:
    """Reads a Delta table: its current version without deleted rows. As `read_table`."""
    library = _library("delta", address)
    with _Reading("delta", address):
        table = library.DeltaTable(_location(address), storage_options=_delta_options(address))
        fields = {field.name: str(getattr(field.type, "type", "")) for field in table.schema().fields}
        known, ignored, time, days = _sorted_out(fields, table.metadata().partition_columns, columns)
        conditions = _of_days(table, days, start, end)
        if time and fields[time].startswith("timestamp"):
            low, high = ((moment.astimezone(UTC)).strftime("%Y-%m-%dT%H:%M:%S") for moment in (start - _DAY, end + _DAY))
            zone = "Z" if fields[time] == "timestamp" else ""
            name = _quoted(time)
            conditions.append(f"({name} IS NULL OR ({name} >= TIMESTAMP '{low}{zone}' AND {name} < TIMESTAMP '{high}{zone}'))")
        wanted = ", ".join(map(_quoted, [*known, *(day for day in days if day not in known)])) or "1 AS none"
        query = f"SELECT {wanted} FROM source" + (" WHERE " + " AND ".join(conditions) if conditions else "")  # noqa: S608 - names quoted
        found = library.QueryBuilder().register("source", table).execute(query).read_all()
        rows = pl.DataFrame(found)
        return Table(_dated(rows, known, time, days), ignored, f"delta {table.metadata().id} {table.version()}")


def read_iceberg(address: str, start: datetime, end: datetime, columns: Mapping[str, str] | None = None) -> Table:
    """Reads an Iceberg table: its current snapshot without deleted rows. As `read_table`.

    The address is the table's folder, whose newest metadata are taken, or a metadata file.
    """
    library = _library("iceberg", address)
    with _Reading("iceberg", address):
        metadata = address if address.endswith(".metadata.json") else _newest_metadata(address)
        table = library.table.StaticTable.from_metadata(_location(metadata), _iceberg_options(address))
        fields = {field.name: str(field.field_type) for field in table.schema().fields}
        partitioned = [name for field in table.spec().fields if (name := table.schema().find_column_name(field.source_id))]
        known, ignored, time, days = _sorted_out(fields, partitioned, columns)
        chosen = library.expressions.AlwaysTrue()
        if time and fields[time].startswith("timestamp"):
            zone = "+00:00" if fields[time].startswith("timestamptz") else ""
            low, high = (moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S") + zone for moment in (start - _DAY, end + _DAY))
            between = library.expressions.And(
                library.expressions.GreaterThanOrEqual(time, low), library.expressions.LessThan(time, high)
            )
            chosen = library.expressions.Or(library.expressions.IsNull(time), between)
        wanted = (*known, *(day for day in days if day not in known)) or tuple(fields)[:1]
        found = table.scan(row_filter=chosen, selected_fields=wanted).to_arrow()
        rows = pl.DataFrame(found)
        snapshot = table.metadata.current_snapshot_id
        return Table(_dated(rows, known, time, days), ignored, f"iceberg {table.metadata.table_uuid} {snapshot}")


def _sorted_out(
    fields: Mapping[str, str], partitioned: list[str], own: Mapping[str, str] | None
) -> tuple[list[str], tuple[str, ...], str, list[str]]:
    """Returns the known columns, the others, the column of the event time ("" for none), and the partitions that say the day."""
    names = {name: known_as(name, own or {}) for name in fields}
    time = next((name for alias in ALIASES["event_time"] for name, known in names.items() if known == alias), "")
    days = [name for name in partitioned if name.casefold() in {"dt", "date", "ds", "day", "year", "month"}]
    return [name for name in names if names[name]], tuple(name for name in names if not names[name]), time, days


def _of_days(table: Any, days: list[str], start: datetime, end: datetime) -> list[str]:
    """Returns the condition that leaves out partitions of other days; a partition of no readable day stays."""
    if not days:
        return []
    added = pl.DataFrame(table.get_add_actions(flatten=True)).select(pl.col(f"partition.{day}").alias(day) for day in days).unique()
    out = [row for row in added.rows() if (day := _day_of(days, row)) and not start - _DAY < _midnight(day) < end]
    return ["NOT (" + " AND ".join(_equal(*pair) for pair in zip(days, row, strict=True)) + ")" for row in out]


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _day_of(names: list[str], values: tuple[Any, ...]) -> date | None:
    return partitions([f"{name}={_text(value)}" for name, value in zip(names, values, strict=True)]).day


def _text(value: Any) -> str:
    return NULL if value is None else str(value).replace("%", "%25")


def _equal(name: str, value: Any) -> str:
    if value is None:
        return f"{_quoted(name)} IS NULL"
    return f"CAST({_quoted(name)} AS VARCHAR) = '" + str(value).replace("'", "''") + "'"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _dated(rows: pl.DataFrame, known: list[str], time: str, days: list[str]) -> pl.DataFrame:
    """Returns the known columns, and the day of each row's partition as `event_date` where no column holds a time."""
    if time or not days:
        return rows.select(known) if known else pl.DataFrame({"row": pl.int_range(rows.height, eager=True)})
    distinct = rows.select(days).unique()
    dates = pl.Series("event_date", [_day_of(days, row) for row in distinct.rows()], pl.Date)
    joined = rows.join(distinct.with_columns(dates), on=days, nulls_equal=True, how="left", maintain_order="left")
    return joined.select(*known, "event_date")


def _newest_metadata(address: str) -> str:
    """Returns the address of the metadata file with the highest number. Raises DataError where two have it."""
    store = open_store(address, reading=True)
    found: dict[int, list[str]] = {}
    for entry in store.list("metadata/"):
        name = entry.key.removeprefix("metadata/")
        number = _NUMBER.match(name)
        if name.endswith(".metadata.json") and number:
            found.setdefault(int(number[1]), []).append(entry.key)
    newest = found[max(found)] if found else []
    if len(newest) != 1:
        raise DataError(
            "the table's catalog alone knows its current metadata"
            + (f": {len(newest)} files have the highest number" if newest else ""),
            where=address,
            expected="one file metadata/NUMBER-….metadata.json or metadata/vNUMBER.metadata.json of the highest number",
            do="set source.uri (--source) to the address of the current metadata file",
        )
    return store.uri_of(newest[0])


def _library(kind: str, address: str) -> Any:
    title, package = _PACKAGES[kind]
    try:
        library = import_module(package)
        if kind == "iceberg":
            for part in ("table", "expressions", "io.pyarrow"):
                import_module(f"{package}.{part}")
    except ImportError as error:
        raise DataError(
            f"{'an' if kind == 'iceberg' else 'a'} {title} table, and the package {package} that reads it is not installed",
            where=address,
            expected="a folder of files, or the package: the table's own log alone says which of its files and rows are current",
            do="pip install 'relevance-loop[lake]', or export the rows as Parquet files in dt=YYYY-MM-DD partitions",
        ) from error
    return library


class _Reading:
    """Raises the errors of a library as DataError."""

    def __init__(self, kind: str, address: str) -> None:
        self.title, self.address = _PACKAGES[kind][0], address

    def __enter__(self) -> None:
        """Nothing to begin."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        # A library in Rust panics with an error that is no Exception.
        ours = isinstance(error, RelevanceError | MemoryError) or (
            not isinstance(error, Exception) and type(error).__name__ != "PanicException"
        )
        if not ours:
            raise DataError(
                f"the {self.title} table can't be read: {shown(' '.join(str(error).split()), 300)}",
                where=self.address,
                expected="a table that its library reads: all files in place, no feature that it does not know",
                do="repair the table, or export the rows as Parquet files in dt=YYYY-MM-DD partitions",
            ) from error


def _location(address: str) -> str:
    """Returns an address as the libraries take it, of a local place its path. Raises DataError for a name that they change."""
    path = None if address.startswith("s3://") else open_store(address, reading=True).local_path("x")
    location = str(path.parent) if path else address
    changed = re.search(r"[%\\]" if path else r"[%\\?#]|(?<!:)//", location)
    if changed:
        raise DataError(
            f"a table in a folder with {changed[0]} in its name is not read: its library would look into another folder",
            where=address,
            expected="names without % and \\, in an object store without ?, # and empty parts, too",
            do="rename the folder, or export the rows as Parquet files in dt=YYYY-MM-DD partitions",
        )
    return location


def _credentials() -> tuple[Any, str, str]:
    """Returns the keys, the region and the endpoint that the object store takes, "" for none."""
    import boto3

    from relevance_core.store.s3 import endpoint_from_environment, region_from_environment

    session = boto3.session.Session()
    keys = session.get_credentials()
    return (
        keys.get_frozen_credentials() if keys else None,
        region_from_environment() or session.region_name or "",
        endpoint_from_environment(),
    )


def _delta_options(address: str) -> dict[str, str] | None:
    if not address.startswith("s3://"):
        return None
    keys, region, endpoint = _credentials()
    options = {"AWS_REGION": region, "AWS_ENDPOINT_URL": endpoint}
    if endpoint:
        options |= {"AWS_ALLOW_HTTP": str(endpoint.startswith("http:")).lower(), "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "false"}
    if keys:
        options |= {
            "AWS_ACCESS_KEY_ID": keys.access_key,
            "AWS_SECRET_ACCESS_KEY": keys.secret_key,
            "AWS_SESSION_TOKEN": keys.token or "",
        }
    return {name: value for name, value in options.items() if value}


def _iceberg_options(address: str) -> dict[str, str]:
    if not address.startswith("s3://"):
        return {}
    keys, region, endpoint = _credentials()
    options = {"s3.region": region, "s3.endpoint": endpoint, "py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO"}
    if keys:
        options |= {
            "s3.access-key-id": keys.access_key,
            "s3.secret-access-key": keys.secret_key,
            "s3.session-token": keys.token or "",
        }
    return {name: value for name, value in options.items() if value}
