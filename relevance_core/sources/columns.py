"""Converts a source's own columns into the labelled pair's: names, types and texts.

`ALIASES` alone defines which column of a log means what. Reading never fails on a value: a value that does not parse as its
column's type becomes null and is recorded in the column `unread`, so that *validate* can name it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

import polars as pl

from relevance_core.pairs import ORIGINALS, SCHEMA, TASKS, digest, map_distinct, normalise_expr, with_ids

ALIASES: Final[dict[str, tuple[str, ...]]] = {
    "task": ("task",),
    "language": ("language", "lang"),
    "query": ("query", "origin_query"),
    "target": ("target", "category_path", "item_title"),
    "target_id": ("target_id", "category_id", "item_id"),
    "label": ("label",),
    "event_time": ("event_time", "event_date"),
    "weight": ("weight",),
    "source_id": ("source_id", "id"),
}
"""Column of the pair → names that a source may use for it; the first that holds a value is taken."""

FOR_TASK: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "target": {"QC": ("target", "category_path"), "QI": ("target", "item_title")},
    "target_id": {"QC": ("target_id", "category_id"), "QI": ("target_id", "item_id")},
}
"""Column → task → names that count for the task's rows: a log of items may carry their categories too."""

REQUIRED: Final = ("task", "language", "query", "target", "label")
"""Columns that a labelled pair must have."""

KNOWN: Final = tuple(name for names in ALIASES.values() for name in names)
"""Every column name that is read from a source."""

UNREAD: Final = "unread"
SOURCE_ID: Final = "source_id"

COLUMNS: Final[dict[str, pl.DataType]] = {
    **SCHEMA,
    **{name: pl.String() for name in (*ORIGINALS, UNREAD, SOURCE_ID)},
}
"""The columns of `conform`'s result."""


@dataclass(frozen=True)
class Batch:
    """Rows of one file or query in the source's own columns. day: the partition that held them (None: no partition)."""

    name: str
    frame: pl.DataFrame
    day: date | None = None

    def missing(self, task: str | None = None) -> list[str]:
        """Returns the required columns that the batch has under no name; none for an empty batch. task: of rows without one."""
        if self.frame.is_empty():
            return []
        given = {"task"} if task else set()
        return [name for name in REQUIRED if name not in given and not set(ALIASES[name]) & set(self.frame.columns)]


def conform(batch: Batch, *, task: str | None = None, undated: datetime | None = None) -> pl.DataFrame:
    """Returns the rows of a batch as pairs: pairs.SCHEMA and ORIGINALS, then `unread` and `source_id` (both nullable text).

    A missing column is null throughout. Texts are normalised, language codes lower case, task names upper case. `target_id` is a
    digest of the normalised target where the source has none; `pair_id` takes an empty text for a null. Values that don't parse are
    null and listed in `unread` as `column=value`.

    Args:
        batch: rows in the source's own columns.
        task: task of rows without one.
        undated: event time of rows that have neither an event time column nor a partition.
    """
    moment = datetime(batch.day.year, batch.day.month, batch.day.day, tzinfo=UTC) if batch.day else undated
    frame = named(batch.frame, task, moment).with_columns(label=_label("label_text"), weight=_weight("weight_text"))
    frame = frame.with_columns(
        unread("label", "event_time", "weight"),
        pl.col("weight").fill_null(1.0),
        pl.col("query").alias("query_original"),
        pl.col("target").alias("target_original"),
        normalise_expr("query"),
        normalise_expr("target"),
        normalise_expr("target_id"),
        pl.lit("log").alias("origin"),
        pl.lit(None, pl.String).alias("origin_id"),
    )
    frame = with_target_ids(frame)
    ids = with_ids(frame.select(pl.col("task", "language", "query", "target", "target_id").fill_null("")))["pair_id"]
    return frame.with_columns(ids).select(pl.col(name).cast(kind) for name, kind in COLUMNS.items())


def named(raw: pl.DataFrame, task: str | None, moment: datetime | None) -> pl.DataFrame:
    """Returns the source's columns under the pair's names, texts unchanged; label, weight and event time as text in `<name>_text`.

    moment: event time where the source has no column for it.
    """
    frame = _as_text(raw)
    present = [name for name in ALIASES["event_time"] if name in frame.columns]
    moments = [_moment(name, frame.schema[name]) for name in present] or [pl.lit(moment, SCHEMA["event_time"])]
    frame = frame.with_columns(_first(frame, "task").str.strip_chars().str.to_uppercase().fill_null(pl.lit(task, pl.String)))
    return frame.with_columns(
        _first(frame, "language").str.strip_chars().str.to_lowercase(),
        _first(frame, "query"),
        _first(frame, SOURCE_ID),
        *(_of_task(frame, name) for name in FOR_TASK),
        *(_first(frame, name).alias(f"{name}_text") for name in ("label", "event_time", "weight")),
        pl.coalesce(moments).alias("event_time"),
    )


def with_target_ids(frame: pl.DataFrame) -> pl.DataFrame:
    """Returns `frame` with each null or empty `target_id` replaced by a digest of the target."""
    given = pl.when(pl.col("target_id") != "").then(pl.col("target_id"))
    return frame.with_columns(pl.coalesce(given, target_digests(frame["target"])).alias("target_id"))


def target_digests(targets: pl.Series) -> pl.Series:
    """Returns `digest`: ids of (normalised) targets to which the source gives none."""
    return map_distinct(targets, lambda target: digest("target", target), "digest")


def _as_text(frame: pl.DataFrame) -> pl.DataFrame:
    """Returns known columns as text, times unchanged, and a row number that keeps the height of a frame without known columns."""
    known = [frame[name] for name in KNOWN if name in frame.columns]
    kept = [column if column.dtype.is_temporal() else _text(column) for column in known]
    return pl.DataFrame([pl.int_range(frame.height, eager=True).alias("row"), *kept])


def _text(column: pl.Series) -> pl.Series:
    if not column.dtype.is_nested():
        return column.cast(pl.String)
    # A list or an object is no text of a log: its printed form goes on, for people to see in the quarantine or the report.
    return pl.Series(column.name, [None if value is None else str(value) for value in column.to_list()], dtype=pl.String)


def _names(frame: pl.DataFrame, names: tuple[str, ...]) -> pl.Expr:
    present = [pl.col(name).cast(pl.String) for name in names if name in frame.columns]
    return pl.coalesce(present) if present else pl.lit(None, pl.String)


def _first(frame: pl.DataFrame, name: str) -> pl.Expr:
    return _names(frame, ALIASES[name]).alias(name)


def _of_task(frame: pl.DataFrame, name: str) -> pl.Expr:
    """Reads the column `name` by each row's task; a row of an unknown task takes any name that holds a value."""
    chosen = _names(frame, ALIASES[name])
    for task in TASKS:
        chosen = pl.when(pl.col("task") == task).then(_names(frame, FOR_TASK[name][task])).otherwise(chosen)
    return chosen.alias(name)


def _label(name: str) -> pl.Expr:
    """Parses a whole number in a byte, or a truth value, from text; null for anything else."""
    text = pl.col(name).str.strip_chars().str.to_lowercase()
    number = pl.when(text == "true").then(1.0).when(text == "false").then(0.0).otherwise(text.cast(pl.Float64, strict=False))
    return pl.when((number == number.floor()) & number.is_between(-128, 127)).then(number).cast(pl.Int8, strict=False)


def _weight(name: str) -> pl.Expr:
    number = pl.col(name).str.strip_chars().cast(pl.Float32, strict=False)
    return pl.when(number.is_finite() & (number >= 0)).then(number)


def _moment(name: str, kind: pl.DataType) -> pl.Expr:
    """Parses a moment in UTC; a time without a zone is UTC, a date is its first moment."""
    column = pl.col(name)
    if isinstance(kind, pl.Datetime):
        return (column if kind.time_zone else column.dt.replace_time_zone("UTC")).cast(SCHEMA["event_time"])
    if kind == pl.Date:
        return column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    text = column.cast(pl.String).str.strip_chars().str.replace(r"^(\d{4}-\d{2}-\d{2}) ", "${1}T")
    formats = ("%Y-%m-%d", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f%#z")
    return pl.coalesce([text.str.to_datetime(form, strict=False, time_unit="us", time_zone="UTC") for form in formats])


def unread(*names: str) -> pl.Expr:
    """Lists `column=value` of every value that was given (`<name>_text`) and did not parse (`<name>` is null)."""
    failed = [
        pl.when((pl.col(f"{name}_text").str.strip_chars() != "") & pl.col(name).is_null()).then(f"{name}=" + pl.col(f"{name}_text"))
        for name in names
    ]
    found = pl.concat_str(failed, separator="; ", ignore_nulls=True)
    return pl.when(found != "").then(found).alias(UNREAD)
