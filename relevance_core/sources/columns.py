"""Converts a source's own columns into the labelled pair's: names, types and texts.

Reading never fails on a value: a value that does not parse as its
column's type becomes null and is recorded in the column `unread`, so that *validate* can name it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Final

import polars as pl

from relevance_core.config.data import SourceSettings
from relevance_core.pairs import ORIGINALS, SCHEMA, TASKS, normalise_expr, target_digests, with_ids
from relevance_core.sources.names import ALIASES, FOR_TASK, KNOWN, REQUIRED
from relevance_core.sources.reading import LINE, UNREAD

__all__ = ["COLUMNS", "FILE", "PLACE", "SOURCE_ID", "Batch", "Meaning", "conform", "target_digests", "with_target_ids"]

SOURCE_ID: Final = "source_id"
FILE: Final = "file"
"""The column of a row's file, where a frame holds the rows of several."""
PLACE: Final[dict[str, pl.DataType]] = {FILE: pl.String(), LINE: pl.Int64()}
"""Columns of a row's place, which are passed on where a frame has them."""

COLUMNS: Final[dict[str, pl.DataType]] = {
    **SCHEMA,
    **{name: pl.String() for name in (*ORIGINALS, UNREAD, SOURCE_ID)},
}
"""The columns of `conform`'s result, before those of PLACE."""

_SHOWN: Final = 80
_EXTENDED: Final = (
    r"^(?P<day>\d{4}-\d{1,2}-\d{1,2})(?:[Tt ](?P<time>\d{1,2}:\d{2})(?::(?P<second>\d{1,2})(?:[.,](?P<fraction>\d{1,9}))?)?"
    r"(?: ?(?P<zone>[Zz]|UTC|[+-]\d{2}(?::?\d{2})?))?)?$"
)
_BASIC: Final = (
    (r"^(\d{4})(\d{2})(\d{2})$", "${1}-${2}-${3}"),
    (r"^(\d{4})(\d{2})(\d{2})[Tt](\d{2})(\d{2})(\d{2})", "${1}-${2}-${3}T${4}:${5}:${6}"),
    (r"^(\d{4})(\d{2})(\d{2})[Tt](\d{2})(\d{2})", "${1}-${2}-${3}T${4}:${5}"),
)
"""ISO 8601's basic forms → the extended ones."""
_LOCALE: Final = r"^([a-z]{2,3})(?:-[a-z0-9]{2,8})+$"


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


@dataclass(frozen=True)
class Meaning:
    """The meaning of a source's own labels, languages and times; the defaults are those of `source.*`.

    Attributes:
        labels: label → 0 or 1; where it is not empty, no other label is read. Its case counts.
        label_bound: graded labels from this number on are 1, those below it 0; None: labels are not graded.
        languages: language, locale or market → language code; their case does not count.
        time_zone: IANA name of the zone of times without a zone.
    """

    labels: Mapping[str, int] = field(default_factory=dict)
    label_bound: float | None = None
    languages: Mapping[str, str] = field(default_factory=dict)
    time_zone: str = "UTC"

    @classmethod
    def of(cls, source: SourceSettings) -> Meaning:
        """Returns the part of the settings that `conform` needs."""
        return cls(source.labels, source.label_bound, source.languages, source.time_zone)


def conform(
    batch: Batch, *, task: str | None = None, undated: datetime | None = None, meaning: Meaning | None = None
) -> pl.DataFrame:
    """Returns the rows of a batch as pairs: COLUMNS, then those of PLACE that the batch has.

    A missing column is null throughout. Texts are normalised; a locale is its base language, lower case; task names are upper case.
    `target_id` is a digest of the normalised target where the source has none; `pair_id` takes an empty text for a null. Values
    that don't parse are null and listed in `unread` as `column=value`, after what the reader noted there. A row that could not be
    read (`row=`) has neither the task nor the time of the others.

    Args:
        batch: rows in the source's own columns.
        task: task of rows without one.
        undated: event time of rows that have neither an event time column nor a partition.
        meaning: of labels, languages and times; default: that of the settings' defaults.
    """
    meaning = meaning or Meaning()
    moment = datetime(batch.day.year, batch.day.month, batch.day.day, tzinfo=UTC) if batch.day else undated
    raw = _as_text(batch.frame)
    there = [name for name in PLACE if name in raw.columns]
    rows = _named(raw, task, moment, meaning).with_columns(
        normalise_expr("query"),
        normalise_expr("target"),
        normalise_expr("target_id"),
        pl.col("query").alias("query_original"),
        pl.col("target").alias("target_original"),
        pl.col("weight").fill_null(1.0),
        pl.lit("log").alias("origin"),
        pl.lit(None, pl.String).alias("origin_id"),
    )
    rows = rows.with_columns(_target_id()).with_columns(_pair_id())
    return rows.select(
        pl.col(name).cast(kind) for name, kind in (COLUMNS | {name: PLACE[name] for name in there}).items()
    ).collect()


def with_target_ids(frame: pl.DataFrame) -> pl.DataFrame:
    """Returns `frame` with each null or empty `target_id` replaced by a digest of the target."""
    return frame.with_columns(_target_id())


def _target_id() -> pl.Expr:
    given = pl.when(pl.col("target_id") != "").then(pl.col("target_id"))
    return pl.coalesce(given, pl.col("target").map_batches(target_digests, return_dtype=pl.String)).alias("target_id")


def _pair_id() -> pl.Expr:
    parts = pl.struct(pl.col("task", "language", "query", "target", "target_id").fill_null(""))
    return parts.map_batches(lambda rows: with_ids(rows.struct.unnest())["pair_id"], return_dtype=pl.String).alias("pair_id")


def _as_text(frame: pl.DataFrame) -> pl.DataFrame:
    """Returns known columns as text, times unchanged, and a row number that keeps the height of a frame without known columns."""
    known = [frame[name] for name in KNOWN if name in frame.columns]
    kept = [column if column.dtype.is_temporal() or column.dtype == pl.String else _text(column) for column in known]
    place = [frame[name] for name in (*PLACE, UNREAD) if name in frame.columns]
    return pl.DataFrame([pl.Series("row", range(frame.height), dtype=pl.Int64), *kept, *place])


def _text(column: pl.Series) -> pl.Series:
    if not column.dtype.is_nested():
        return column.cast(pl.String)
    # A list or an object is no text of a log: its printed form goes on, for people to see in the quarantine or the report.
    return pl.Series(column.name, [None if value is None else str(value) for value in column.to_list()], dtype=pl.String)


def _named(raw: pl.DataFrame, task: str | None, moment: datetime | None, meaning: Meaning) -> pl.LazyFrame:
    """Returns the source's columns under the pair's names, each of its type, with `unread`; texts are unchanged.

    moment: event time where the source has no column for it.
    """
    readable = ~pl.col(UNREAD).str.starts_with("row=").fill_null(False) if UNREAD in raw.columns else pl.lit(True)
    times = [name for name in ALIASES["event_time"] if name in raw.columns]
    of_row = pl.when(readable).then(pl.lit(task, pl.String))
    texts = raw.lazy().with_columns(
        _first(raw, "task").str.strip_chars().str.to_uppercase().fill_null(of_row).alias("_task"),
        _first(raw, "label").str.strip_chars().alias("_label"),
        _first(raw, "weight").str.strip_chars().alias("_weight"),
        *(_moment(name, raw.schema[name], meaning.time_zone).alias(f"_{name}") for name in times),
    )
    values = texts.select(
        pl.col("_task").alias("task"),
        _language(_first(raw, "language"), meaning.languages).alias("language"),
        _first(raw, "query").alias("query"),
        _first(raw, SOURCE_ID).alias(SOURCE_ID),
        *(_of_task(raw, name) for name in FOR_TASK),
        _label(pl.col("_label"), meaning).alias("label"),
        _weight(pl.col("_weight")).alias("weight"),
        _moments(times, pl.when(readable).then(pl.lit(moment, SCHEMA["event_time"]))).alias("event_time"),
        pl.col("_label", "_weight"),
        *(expression for name in times for expression in (pl.col(f"_{name}"), pl.col(name).alias(f"_text_{name}"))),
        *(pl.col(name) for name in (*PLACE, UNREAD) if name in raw.columns),
    )
    notes = [pl.col(UNREAD)] if UNREAD in raw.columns else []
    notes += [
        _note("label", pl.col("_label"), pl.col("label")),
        *_unread_times(times),
        _note("weight", pl.col("_weight"), pl.col("weight")),
    ]
    found = pl.concat_str(notes, separator="; ", ignore_nulls=True)
    return values.with_columns(pl.when(found != "").then(found).alias(UNREAD))


def _note(name: str, text: pl.Expr, value: pl.Expr) -> pl.Expr:
    """Writes `name=text`, the text's first 80 characters, for a text that was given and did not parse."""
    return pl.when((text != "") & value.is_null()).then(pl.lit(f"{name}=") + text.str.slice(0, _SHOWN))


def _unread_times(names: list[str]) -> list[pl.Expr]:
    """Notes a time that did not parse, unless a name before it gave the time."""
    notes = []
    for at, name in enumerate(names):
        before = pl.coalesce(f"_{other}" for other in names[: at + 1])
        notes.append(_note("event_time", pl.col(f"_text_{name}").cast(pl.String).str.strip_chars(), before))
    return notes


def _moments(names: list[str], otherwise: pl.Expr) -> pl.Expr:
    return pl.coalesce(f"_{name}" for name in names) if names else otherwise


def _names(frame: pl.DataFrame, names: tuple[str, ...]) -> pl.Expr:
    present = [pl.col(name).cast(pl.String) for name in names if name in frame.columns]
    return pl.coalesce(present) if present else pl.lit(None, pl.String)


def _first(frame: pl.DataFrame, name: str) -> pl.Expr:
    return _names(frame, ALIASES[name])


def _of_task(frame: pl.DataFrame, name: str) -> pl.Expr:
    """Reads the column `name` by each row's task; a row of an unknown task takes any name that holds a value."""
    chosen = _names(frame, ALIASES[name])
    for task in TASKS:
        chosen = pl.when(pl.col("_task") == task).then(_names(frame, FOR_TASK[name][task])).otherwise(chosen)
    return chosen.alias(name)


def _label(text: pl.Expr, meaning: Meaning) -> pl.Expr:
    """Parses a label by its meaning; without one, a whole number in a byte, or a truth value; null for anything else."""
    if meaning.labels:
        return text.replace_strict(dict(meaning.labels), default=None, return_dtype=pl.Int8)
    word = text.str.to_lowercase()
    number = pl.when(word == "true").then(1.0).when(word == "false").then(0.0).otherwise(word.cast(pl.Float64, strict=False))
    if meaning.label_bound is not None:
        return pl.when(number.is_finite()).then(number >= meaning.label_bound).cast(pl.Int8)
    return pl.when((number == number.floor()) & number.is_between(-128, 127)).then(number).cast(pl.Int8, strict=False)


def _weight(text: pl.Expr) -> pl.Expr:
    number = text.cast(pl.Float32, strict=False)
    return pl.when(number.is_finite() & (number >= 0)).then(number)


def _language(text: pl.Expr, own: Mapping[str, str]) -> pl.Expr:
    """Parses a language: by `own`, whole and then without region and script; a locale is its base language, others stay."""
    code = text.str.strip_chars().str.to_lowercase()
    locale = code.str.replace_all("_", "-", literal=True).str.replace(r"[.@].*$", "")
    base = pl.coalesce(locale.str.extract(_LOCALE), code)
    if not own:
        return base
    known = {_locale(name): value.strip().lower() for name, value in own.items()}
    of_whole, of_base = (given.replace_strict(known, default=None, return_dtype=pl.String) for given in (locale, base))
    return pl.coalesce(of_whole, of_base, base)


def _locale(name: str) -> str:
    return name.strip().lower().replace("_", "-")


def _moment(name: str, kind: pl.DataType, zone: str) -> pl.Expr:
    """Parses a moment in UTC; a date is the first moment of its day in UTC, whatever the zone of times."""
    column = pl.col(name)
    if isinstance(kind, pl.Datetime):
        return column.cast(SCHEMA["event_time"]) if kind.time_zone else _in_zone(column.cast(pl.Datetime("us")), zone)
    if kind == pl.Date:
        return column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    return column.cast(pl.String).map_batches(lambda texts: _times(texts, zone), return_dtype=SCHEMA["event_time"])


def _times(texts: pl.Series, zone: str) -> pl.Series:
    """Parses ISO 8601 to the microsecond: its extended and basic forms, from a day to nine digits of a second."""
    text = pl.lit(texts.alias("text")).str.strip_chars()
    for basic, extended in _BASIC:
        text = text.str.replace(basic, extended)
    parts = pl.select(text.str.extract_groups(_EXTENDED).alias("parts")).unnest("parts").lazy()
    offset = pl.col("zone").str.replace(":", "", literal=True).str.to_uppercase()
    clock = pl.concat_str(
        pl.col("day"),
        pl.lit("T"),
        pl.col("time").fill_null("0:00"),
        pl.lit(":"),
        pl.col("second").fill_null("0"),
        pl.lit("."),
        pl.col("fraction").fill_null("").str.pad_end(6, "0").str.slice(0, 6),
    )
    parts = parts.with_columns(
        offset,
        clock.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", strict=False, time_unit="us").alias("local"),
        offset.str.slice(1, 2).cast(pl.Int64, strict=False).alias("hours"),
        pl.when(offset.str.len_bytes() > 3)
        .then(offset.str.slice(3, 2))
        .otherwise(pl.lit("0"))
        .cast(pl.Int64, strict=False)
        .alias("minutes"),
    )
    utc = pl.col("local").dt.replace_time_zone("UTC")
    away = pl.duration(minutes=pl.col("hours") * 60 + pl.col("minutes"))
    moment = (
        pl.when(pl.col("time").is_null() | pl.col("zone").is_in(["Z", "UTC"]))
        .then(utc)
        .when(pl.col("zone").is_null())
        .then(_in_zone(pl.col("local"), zone))
        .when((pl.col("hours") < 16) & (pl.col("minutes") < 60))
        .then(pl.when(pl.col("zone").str.starts_with("-")).then(utc + away).otherwise(utc - away))
    )
    return parts.select(moment.alias("event_time")).collect()["event_time"]


def _in_zone(local: pl.Expr, zone: str) -> pl.Expr:
    """Returns a zone's local times in UTC; null for those that the zone's clocks skipped or showed twice."""
    return local.dt.replace_time_zone(zone, ambiguous="null", non_existent="null").dt.convert_time_zone("UTC")
