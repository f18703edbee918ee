"""Sources of labelled logs: files on disk or in an object store, a SQL query, or single files to evaluate or score."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl

from relevance_core.config import Settings
from relevance_core.config.data import SourceSettings
from relevance_core.errors import DataError, SettingsError
from relevance_core.pairs import ORIGINALS, SCHEMA, TASKS, Task, digest
from relevance_core.sources import files, sql
from relevance_core.sources.columns import SOURCE_ID, Batch, Meaning, conform, target_digests, with_target_ids
from relevance_core.sources.files import File, batches
from relevance_core.sources.lake import TableQuery
from relevance_core.sources.ledger import FILE
from relevance_core.sources.listing import UNPLACED
from relevance_core.sources.names import ALIASES
from relevance_core.sources.reading import LINE, UNREAD, Options

__all__ = [
    "ALIASES",
    "UNPLACED",
    "Batch",
    "File",
    "Meaning",
    "Options",
    "Source",
    "batches",
    "conform",
    "open_source",
    "read_labelled",
    "target_digests",
    "with_target_ids",
]

OUTSIDE = "its day lies outside the window and its history"
"""The reason why a file of another day is skipped."""


@dataclass(frozen=True)
class Source:
    """The input of a run: the labelled logs of its window and history, and the companion files found beside them.

    Attributes:
        name: its address, or that it is a SQL query.
        logs: the files to read.
        query: the query to run instead, or the table of a lake to read.
        skipped: for every other listed file its name, its day if it has one, and the reason.
        clicks: click logs.
        catalogue: every target.
        categories: every QC target.
        terms: the glossary.
        brands: brand names.
    """

    name: str
    logs: tuple[File, ...] = ()
    query: sql.Query | TableQuery | None = None
    skipped: tuple[tuple[str, str | None, str], ...] = ()
    clicks: tuple[File, ...] = ()
    catalogue: File | None = None
    categories: File | None = None
    terms: File | None = None
    brands: File | None = None

    def fingerprint(self) -> str:
        """Returns a digest of the content (names and bytes of the files, rows of the query), independent of their order."""
        rows = sql.stamp(self.query.fetch()) if self.query else ""
        found = [file for file in (self.catalogue, self.categories, self.terms, self.brands) if file]
        return digest(rows, *files.stamps([*self.logs, *self.clicks, *found]), size=32)


def open_source(settings: Settings, *, every_day: bool = False) -> Source:
    """Opens the source that the settings describe; only listings are read.

    every_day: takes the files of all days; the settings then need no window unless the source is a query.

    Raises SettingsError for settings that name no source or two, NotFound for an address without logs.
    """
    wanted = settings.source
    if bool(wanted.uri) == bool(wanted.sql):
        raise SettingsError(
            "no source is given" if not wanted.uri else "two sources are given",
            where="source.uri, source.sql",
            expected="one of them",
            do="give --source URI, or set source.sql and source.connection",
        )
    start, end = _bounds(settings) if wanted.sql or not every_day else _EVER
    place = files.open_place(wanted.uri) if wanted.uri else None
    logs = files.between(place.logs, start, end) if place else ()
    inside = {file.key for file in logs}
    others = [file for file in place.logs if file.key not in inside] if place else []
    passed = [(file.key, file.day.isoformat(), OUTSIDE) for file in others if file.day]
    return Source(
        wanted.uri or "a SQL query",
        logs=logs,
        query=_query(wanted, place, start, end),
        skipped=(*(place.skipped if place else ()), *passed),
        clicks=files.between(_clicks(wanted.clicks, place), max(start, end - timedelta(days=settings.base.click_days)), end),
        catalogue=_companion(wanted.catalogue, "catalogue", place),
        categories=_companion("auto", "categories", place) if wanted.catalogue == "auto" else None,
        terms=_companion(settings.translate.glossary, "terms", place),
        brands=_companion(settings.translate.brands, "brands", place),
    )


def _query(wanted: SourceSettings, place: files.Place | None, start: datetime, end: datetime) -> sql.Query | TableQuery | None:
    if place is None:
        return sql.Query(wanted.sql, wanted.connection.get_secret_value(), start, end, Options.of(wanted), wanted.task)
    return TableQuery(place.table, place.address, start, end, wanted.columns) if place.table else None


_EVER = (datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC))


def _bounds(settings: Settings) -> tuple[datetime, datetime]:
    return settings.window.history_start(), settings.window.bounds()[1]


def read_labelled(
    uri: str, *, task: Task | None = None, labels: bool = True, reading: Options | None = None, meaning: Meaning | None = None
) -> pl.DataFrame:
    """Reads every row of a file, or of a folder's files, in their order: pairs.SCHEMA and ORIGINALS, then `source_id`.

    No row is left out: a null query or target becomes an empty text; an event time is null where the file has none.

    Args:
        uri: a path, file:// or s3:// address.
        task: task of rows without one.
        labels: require a label of 0 or 1 in every row; without it a missing label is null.
        reading: settings by which the files are read; default: those of `source`.
        meaning: settings by which labels, languages and times are understood; likewise.

    Returns:
        The rows; `source_id` is the file's own `id`, or the row's number from 1.

    Raises:
        NotFound: nothing is at the address.
        DataError: a column is missing or a value can't be used; names the first such row.
    """
    frames = []
    options, meaning = reading or Options(), meaning or Meaning()
    logs = files.open_place(uri, where="--data, --input").logs
    for batch, entries in batches(logs, options, task):
        missing = [name for name in batch.missing(task) if labels or name != "label"]
        if missing:
            raise DataError(
                f"the file has no column {', '.join(missing)}",
                where=", ".join(entry["file"] for entry in entries[:3]),
                expected="; ".join(f"{name}: {' or '.join(ALIASES[name])}" for name in missing),
                do="rename or add the column, or name it in source.columns; docs/data.md lists every name that is read",
            )
        frames.append(conform(batch, meaning=meaning, task=task))
    order = {file.key: place for place, file in enumerate(logs)}
    frame = pl.concat(frames).sort(pl.col(FILE).replace_strict(order, return_dtype=pl.Int64), LINE, maintain_order=True)
    number = pl.int_range(1, pl.len() + 1).over(FILE).cast(pl.String)
    frame = frame.with_columns(pl.col("query", "target").fill_null(""), pl.col(SOURCE_ID).fill_null(number))
    _check_rows(frame, uri, labels)
    return frame.select(*SCHEMA, *ORIGINALS, SOURCE_ID)


def _check_rows(frame: pl.DataFrame, where: str, labels: bool) -> None:
    """Raises DataError that names the first row whose task, label or text evaluation and scoring can't use."""
    wrong = (
        pl.when(pl.col(UNREAD).is_not_null())
        .then(pl.col(UNREAD))
        .when(~pl.col("task").is_in(TASKS).fill_null(False))
        .then(pl.lit("no task of QC, QI"))
        .when(pl.col("language").fill_null("") == "")
        .then(pl.lit("no language"))
        .when(labels & ~pl.col("label").is_in([0, 1]).fill_null(False))
        .then(pl.lit("no label of 0, 1"))
    )
    found = frame.select(FILE, LINE, wrong.alias("wrong")).drop_nulls("wrong")
    if found.height:
        file, line, why = found.row(0)
        raise DataError(
            f"{found.height} of {frame.height} rows can't be used, the first in line {line}: {why}",
            where=where if where.endswith(file) else f"{where}: {file}",
            expected="task QC or QI, a language" + (", label 0 or 1" if labels else ""),
            do="correct these rows, or take them out",
        )


def _clicks(wanted: str, place: files.Place | None) -> tuple[File, ...]:
    if wanted == "auto":
        return place.clicks() if place else ()
    return files.open_files(wanted) if wanted else ()


def _companion(wanted: str, what: str, place: files.Place | None) -> File | None:
    if wanted == "auto":
        return place.beside(what) if place else None
    return files.open_file(wanted) if wanted else None
