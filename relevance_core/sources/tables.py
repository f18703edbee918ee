"""Parquet files: the known columns as text by the type of their values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from relevance_core.sources import values
from relevance_core.sources.reading import Form, Options, Reading, Unreadable

_DO: Final = "write the file again, or take it out of the source"


def read_parquet(path: Path, options: Options) -> Reading:
    """Returns the known columns of a Parquet file as text; dates and times of an event stay typed.

    Args:
        path: the file; its name is taken as it is, never for a pattern.
        options: the settings; `columns` counts here.

    Raises:
        Unreadable: the file is damaged, or two of its columns have one known name.
    """
    with _errors(), pq.ParquetFile(path) as file:
        height, columns = file.metadata.num_rows, list(file.schema_arrow.names)
        logical = {leaf.path: _logical(leaf) for leaf in map(file.schema.column, range(len(file.schema.names)))}
        named = options.named(columns)
        table = _read(path, file, list(named)) if named else {}
    for column, series in table.items():
        if len(series) != height:
            what = f"the file is damaged: its footer tells of {height} rows, the column {column!r} has {len(series)}"
            raise Unreadable(what, expected="a whole Parquet file", do=_DO)
    texts, notes = {}, {}
    for column, name in named.items():
        read = _LOGICAL.get(logical.get(column, ""), values.read_series)
        texts[name], note = read(table[column], moments=name in values.MOMENTS)
        if note is not None:
            notes[name] = note
    ignored = tuple(column for column in columns if column not in named)
    return Reading(values.rows_of(texts, notes, range(1, height + 1)), Form("parquet"), ignored)


def _read(path: Path, file: pq.ParquetFile, columns: list[str]) -> Mapping[str, pl.Series]:
    """Reads columns, by Arrow where polars can't: texts that are no UTF-8, decimals beyond 38 digits, names that come twice."""
    try:
        frame = pl.read_parquet(path, columns=columns, glob=False, hive_partitioning=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        table = file.read(columns=columns)
        return {column: _of_arrow(column, table.column(column)) for column in columns}
    return {column: frame[column] for column in columns}


def _of_arrow(name: str, column: pa.ChunkedArray) -> pl.Series:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = column.cast(pa.large_binary())  # polars takes a text's bytes unseen
    if pa.types.is_decimal(column.type):
        return values.read_values(name, column.to_pylist())[0]
    return pl.Series(name, column)


def _logical(leaf: Any) -> str:
    """Returns the kind of a column that its physical type does not tell: UUID, JSON, INTERVAL or ""."""
    kind = leaf.logical_type.type
    return kind if kind in ("UUID", "JSON") else leaf.converted_type if leaf.converted_type == "INTERVAL" else ""


def _by_value(convert: Callable[[Any], object]) -> Callable[..., values.Texts]:
    def read(column: pl.Series, *, moments: bool) -> values.Texts:
        column = column.ext.storage() if isinstance(column.dtype, pl.BaseExtension) else column
        return values.read_values(
            column.name, [None if value is None else convert(value) for value in column.to_list()], moments=moments
        )

    return read


def _json(value: str | bytes) -> object:
    try:
        return msgspec.json.decode(value)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return [value]  # no JSON: printed, not read


def _interval(value: bytes) -> object:
    months, days, milliseconds = (int.from_bytes(value[at : at + 4], "little") for at in (0, 4, 8))
    return [f"{months} months {days} days {milliseconds} ms"]


_LOGICAL: Final[Mapping[str, Callable[..., values.Texts]]] = {
    "UUID": _by_value(lambda value: UUID(bytes=value)),
    "JSON": _by_value(_json),
    "INTERVAL": _by_value(_interval),
}
"""Logical type → its reader; the text in a JSON column is read, its lists and objects are not."""


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except (
        pa.ArrowException,
        OSError,
        EOFError,
        UnicodeDecodeError,
        pl.exceptions.PolarsError,
        pl.exceptions.PanicException,
    ) as error:
        reason = " ".join(str(error).split())
        raise Unreadable(
            f"the file is damaged or no Parquet: {values.shown(reason)}", expected="a whole Parquet file", do=_DO
        ) from error
