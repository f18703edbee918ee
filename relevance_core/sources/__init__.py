"""Sources of labelled logs: files on disk or in an object store, a SQL query, or single files to evaluate or score."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from relevance_core.config import Settings
from relevance_core.errors import DataError, SettingsError
from relevance_core.pairs import ORIGINALS, SCHEMA, TASKS, Task, digest
from relevance_core.sources import files, sql
from relevance_core.sources.columns import ALIASES, SOURCE_ID, UNREAD, Batch, conform, target_digests, with_target_ids
from relevance_core.sources.files import File

__all__ = [
    "ALIASES",
    "Batch",
    "File",
    "Source",
    "conform",
    "open_source",
    "read_labelled",
    "target_digests",
    "with_target_ids",
]


@dataclass(frozen=True)
class Source:
    """The input of a run: the labelled logs of its window and history, and the companion files found beside them."""

    name: str
    logs: tuple[File, ...] = ()
    query: sql.Query | None = None
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

    def batches(self) -> Iterator[Batch]:
        """Yields the labelled rows, one file or query at a time."""
        if self.query:
            yield self.query.fetch()
        for file in self.logs:
            yield file.batch()


def open_source(settings: Settings) -> Source:
    """Opens the source that the settings describe; only listings are read.

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
    start, end = settings.window.history_start(), settings.window.bounds()[1]
    place = files.open_place(wanted.uri) if wanted.uri else None
    return Source(
        wanted.uri or "a SQL query",
        logs=files.between(place.logs, start, end) if place else (),
        query=None if place else sql.Query(wanted.sql, wanted.connection.get_secret_value(), start, end),
        clicks=files.between(_clicks(wanted.clicks, place), end - timedelta(days=settings.base.click_days), end),
        catalogue=_companion(wanted.catalogue, "catalogue", place),
        categories=_companion("auto", "categories", place) if wanted.catalogue == "auto" else None,
        terms=_companion(settings.translate.glossary, "terms", place),
        brands=_companion(settings.translate.brands, "brands", place),
    )


def read_labelled(uri: str, *, task: Task | None = None, labels: bool = True) -> pl.DataFrame:
    """Reads every row of a file, or of a folder's files, in their order: pairs.SCHEMA and ORIGINALS, then `source_id`.

    No row is left out: a null query or target becomes an empty text; an event time is null where the file has none.

    Args:
        uri: a path, file:// or s3:// address.
        task: task of rows without one.
        labels: require a label of 0 or 1 in every row; without it a missing label is null.

    Returns:
        The rows; `source_id` is the file's own `id`, or the row's number from 1.

    Raises:
        NotFound: nothing is at the address.
        DataError: a column is missing or a value can't be used; names the first such row.
    """
    frames = []
    for file in files.open_place(uri).logs:
        batch = file.batch()
        missing = [name for name in batch.missing(task) if labels or name != "label"]
        if missing:
            raise DataError(
                f"the file has no column {', '.join(missing)}",
                where=file.address,
                expected="; ".join(f"{name}: {' or '.join(ALIASES[name])}" for name in missing),
                do="rename or add the column; docs/data.md lists every name that is read",
            )
        frame = conform(batch, task=task)
        number = pl.int_range(1, pl.len() + 1).cast(pl.String)
        frame = frame.with_columns(pl.col("query", "target").fill_null(""), pl.col(SOURCE_ID).fill_null(number))
        _check_rows(frame, file.address, labels)
        frames.append(frame.select(*SCHEMA, *ORIGINALS, SOURCE_ID))
    return pl.concat(frames)


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
    found = frame.select(pl.int_range(1, pl.len() + 1).alias("row"), wrong.alias("wrong")).drop_nulls("wrong")
    if found.height:
        raise DataError(
            f"{found.height} of {frame.height} rows can't be used, the first is row {found['row'][0]}: {found['wrong'][0]}",
            where=where,
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
