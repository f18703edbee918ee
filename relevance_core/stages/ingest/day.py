"""A day of labelled logs, read and checked once: its rows, the rows in quarantine, the ledger of its files, its counts.

A day is an output of its own under `stages/day/`, keyed by the content of its files and by the settings that read and judge them. A
late or corrected file makes the key of its day alone another; the other days are found. Rules that compare rows of several days are
none of its business.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final

import polars as pl
from pydantic import BaseModel

from relevance_core.config import Settings, value_at
from relevance_core.errors import DataError
from relevance_core.pairs import TEXT_RULE, with_groups
from relevance_core.processes import open_progress
from relevance_core.rules import ROW_RULES, broken_rules, check
from relevance_core.runs.artifacts import Output, Report, Rows, finish, folder_of, open_artifact
from relevance_core.runs.stage import alone
from relevance_core.sources import Batch, File, Meaning, Options, Source, batches, conform
from relevance_core.sources.columns import PLACE
from relevance_core.sources.ledger import FILE, fetched_entry, fetched_name, ledger_of, with_counts
from relevance_core.sources.reading import LINE
from relevance_core.store import Store

VERSION: Final = 1
"""Raised whenever the code makes other rows of the same files."""

USES: Final = (
    "source.task",
    "source.columns",
    "source.labels",
    "source.label_bound",
    "source.languages",
    "source.time_zone",
    "source.encoding",
    "source.csv",
    "source.bad_rows",
    "validation.languages",
    "validation.max_query_chars",
    "validation.max_target_chars",
)
"""The settings by which a day's files are read and its rows judged."""

UNDATED: Final = datetime(1, 1, 1, tzinfo=UTC)
"""The time of a row whose file has neither a column of times nor a partition, until a window dates it."""

CHUNK: Final = 250_000
"""Rows that are checked at once: Great Expectations takes its second a call, however few the rows are."""


@dataclass(frozen=True)
class Day:
    """The files of one day (None: those outside any partition), or the day's rows of a query."""

    day: date | None
    files: tuple[File, ...] = ()
    fetched: pl.DataFrame | None = None

    @property
    def name(self) -> str:
        """The day as a person writes it."""
        return self.day.isoformat() if self.day else "files without a day"


@dataclass(frozen=True)
class DayRows:
    """A day as it was read.

    Attributes:
        rows: `columns.COLUMNS`, then `group` (of the query, which decides its side), `undated` (its file has neither a column of
            times nor a partition), `rule` (the first row rule that it breaks, null for a valid row) and `broken` (all of them).
        ledger: one row a file (`sources.ledger.LEDGER`).
    """

    day: date | None
    rows: pl.DataFrame
    ledger: pl.DataFrame

    def profile(self) -> list[dict[str, Any]]:
        """Counts the rows by task, language and label, valid ones and those in quarantine."""
        keys = ["task", "language", "label"]
        counts = self.rows.group_by(keys).agg(
            pl.col("rule").is_null().sum().alias("valid"), pl.col("rule").is_not_null().sum().alias("quarantined")
        )
        return counts.sort(keys, nulls_last=True).to_dicts()


def days_of(source: Source, settings: Settings) -> list[Day]:
    """Returns the days of a source with what lies in them, the oldest first; the rows of a query are fetched and split by time."""
    if source.query is not None:
        return _fetched_days(source.query.fetch(), settings)
    by_day: dict[date | None, list[File]] = {}
    for file in source.logs:
        by_day.setdefault(file.day, []).append(file)
    return [Day(day, tuple(by_day[day])) for day in sorted(by_day, key=lambda day: (day is not None, day or date.min))]


def _fetched_days(batch: Batch, settings: Settings) -> list[Day]:
    """Splits the rows of a query. A row's place is its number among the rows of its day, so that no other day changes it."""
    event = pl.col("event_time")
    rows = _conformed(batch, settings).sort(LINE, maintain_order=True)
    days = rows.select(pl.when(event != UNDATED).then(event.dt.date()))["event_time"]
    split = [(day, rows.filter(days.eq_missing(day))) for day in days.unique().sort(nulls_last=False).to_list()]
    number = pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias(LINE)
    return [Day(day, fetched=part.with_columns(number, pl.lit(fetched_name(day)).alias(FILE))) for day, part in split]


def kept_days(days: Sequence[Day], settings: Settings, store: Store) -> Iterator[DayRows]:
    """Yields every day's rows in the days' order: the finished output where there is one, else read, checked and kept now."""
    missing: list[tuple[Day, str]] = []
    for day in days:
        address = address_of(day, settings)
        if (found := _opened(store, address, day)) is None:
            missing.append((day, address))
            continue
        yield from _made(missing, settings, store)
        missing.clear()
        yield found
    yield from _made(missing, settings, store)


def address_of(day: Day, settings: Settings) -> str:
    """Returns the address of a day's output: a digest of its content and of the settings in USES."""
    used = {name: _plain(value_at(settings, name)) for name in USES}
    parts = {"version": VERSION, "text_rule": TEXT_RULE, "day": day.name, "settings": used, "content": _content(day)}
    return folder_of("day", None) + hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:20]


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def _content(day: Day) -> list[str]:
    if day.fetched is None:
        return sorted(file.stamp() for file in day.files)
    stream = io.BytesIO()
    day.fetched.write_ipc(stream)
    return [hashlib.sha256(stream.getvalue()).hexdigest()]


def _opened(store: Store, address: str, day: Day) -> DayRows | None:
    found = open_artifact(store, address)
    if found is None:
        return None
    rows = pl.concat([found.table("pairs"), found.table("quarantine")])
    return DayRows(day.day, rows, found.table("ledger"))


def _made(days: Sequence[tuple[Day, str]], settings: Settings, store: Store) -> Iterator[DayRows]:
    """Reads days and keeps each at its address, some at a time, so that one call of Great Expectations judges them all."""
    waiting: list[tuple[str, DayRows]] = []
    with open_progress("days", len(days) or 1) as progress:
        for number, (day, address) in enumerate(days, 1):
            waiting.append((address, read_day(day, settings)))
            rows = sum(read.rows.height for _, read in waiting)
            progress.at(number, f"{day.name}, {rows} rows to check")
            if rows >= CHUNK or number == len(days):
                for (kept, _), done in zip(waiting, judged([read for _, read in waiting], settings), strict=True):
                    keep(done, kept, store)
                    yield done
                waiting.clear()


def read_day(day: Day, settings: Settings, refused: Callable[[File, DataError], None] | None = None) -> DayRows:
    """Reads a day's rows; no rule has judged them yet.

    refused: is told of a file that can't be read for certain, which is then passed over; default, its DataError is raised.
    """
    if day.fetched is not None:
        return DayRows(day.day, _with_groups(day.fetched), ledger_of([fetched_entry(day.day, day.fetched)]))
    frames, entries = [], []
    for batch, read in batches(day.files, Options.of(settings.source), settings.source.task, refused):
        frames.append(_conformed(batch, settings))
        entries += read
    rows = pl.concat(frames) if frames else _conformed(Batch("", pl.DataFrame()), settings)
    return DayRows(day.day, _with_groups(rows), ledger_of(entries))


def judged(days: Sequence[DayRows], settings: Settings) -> list[DayRows]:
    """Returns the days with what the row rules say of each row."""
    rows = pl.concat([day.rows for day in days])
    checked = check(ROW_RULES, rows.select(*dict.fromkeys(rule.column for rule in ROW_RULES)), settings, "rows")
    with_rules = rows.with_columns(broken_rules(ROW_RULES, checked, rows.height))
    ends = list(itertools.accumulate(day.rows.height for day in days))
    parts = [with_rules.slice(end - day.rows.height, day.rows.height) for day, end in zip(days, ends, strict=True)]
    return [DayRows(day.day, part, with_counts(day.ledger, part)) for day, part in zip(days, parts, strict=True)]


def keep(day: DayRows, address: str, store: Store) -> None:
    """Writes a judged day as a finished output, unless a whole one is there by now."""
    with alone(address):
        if open_artifact(store, address) is not None:
            return
        out = Output(store, address)
        valid = pl.col("rule").is_null()
        out.table("pairs", day.rows.filter(valid))
        out.table("quarantine", day.rows.filter(~valid))
        out.table("ledger", day.ledger)
        out.json("profile", day.profile())
        quarantined = day.rows["rule"].drop_nulls()
        reasons = {f"quarantined: {rule}": rows for rule, rows in quarantined.value_counts().sort("rule").iter_rows()}
        kept = day.rows.height - quarantined.len()
        counts = Rows(incoming=day.rows.height, kept=kept, quarantined=quarantined.len(), reasons=reasons)
        finish(out, Report(counts, {"day": day.day.isoformat() if day.day else None, "files": day.ledger.height}), "day", None)


def _conformed(batch: Batch, settings: Settings) -> pl.DataFrame:
    places = [pl.lit(None, kind).alias(name) for name, kind in PLACE.items() if name not in batch.frame.columns]
    placed = Batch(batch.name, batch.frame.with_columns(places) if batch.frame.height else pl.DataFrame(schema=PLACE), batch.day)
    meaning = Meaning.of(settings.source)
    return conform(placed, meaning=meaning, task=settings.source.task, undated=UNDATED).drop("source_id")


def _with_groups(rows: pl.DataFrame) -> pl.DataFrame:
    """Adds `group` and `undated`; a row without a query has no group, one without a time of its own has no time."""
    undated = pl.col("event_time") == UNDATED
    return with_groups(rows).with_columns(undated.fill_null(False).alias("undated"))
