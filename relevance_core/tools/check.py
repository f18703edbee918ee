"""`relevance check`: all that a source holds and how it would be read, without a store and without a run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl

from relevance_core.config import Settings
from relevance_core.errors import DataError
from relevance_core.sources import UNPLACED, File, Source, open_source
from relevance_core.sources.ledger import FILE, ledger_of, own_columns, skipped_entry
from relevance_core.sources.names import ALIASES
from relevance_core.sources.reading import LINE, UNREAD
from relevance_core.stages.ingest.day import Day, DayRows, days_of, judged, read_day
from relevance_core.stages.ingest.stage import inside, latest

EXAMPLES: Final = 3
"""Rows that are shown of each rule."""


@dataclass
class _Found:
    days: list[DayRows] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    refused: list[dict[str, str]] = field(default_factory=list)


def check_source(settings: Settings) -> dict[str, Any]:
    """Reads a source as *ingest* would, and says of every file and every row what became of it.

    A file that can't be read is named with the error that would stop the run, and the others are read. Without a window every day
    of a place is read and all its rows are judged as fresh. Rules that compare days or labels are left to *validate*.

    Returns:
        `source`; `files`, the ledger's entries; `refused`, the names of the files that can't be read; `rows` (`read`, `valid`,
        `quarantined`); `counts` by task, language and label; `rules`, for each row rule that rows break their number and some
        `examples` (`file`, `line`, `why`, `query`); `stops`, for each thing at which a run stops `what`, `where`, `expected` and
        `do`; `ready`, true where there is none.

    Raises:
        SettingsError: the settings name no source, or a query without a window.
        NotFound: there are no logs.
    """
    source = open_source(settings, every_day=settings.window.end is None)
    found = _read(source, settings)
    rows = pl.concat([day.rows for day in found.days])
    fresh = _fresh(found.days, settings)
    ledgers = [*(day.ledger for day in found.days), ledger_of([skipped_entry(*file) for file in source.skipped])]
    ledger = pl.concat(ledgers).sort("file")
    stops = [*found.refused, *_unplaced(source), *_lacking(ledger, fresh), *_too_few(source, found, fresh, settings)]
    return {
        "source": source.name,
        "files": ledger.to_dicts(),
        "refused": found.unread,
        "rows": {"read": rows.height, "valid": rows["rule"].null_count(), "quarantined": rows["rule"].count()},
        "counts": _counts(rows),
        "rules": _rules(rows),
        "stops": stops,
        "ready": not stops,
    }


def verdict(checked: Mapping[str, Any]) -> DataError | None:
    """Returns the error with which a run of a checked source ends: the first thing at which it stops; None where it reads on."""
    if not checked["stops"]:
        return None
    first, others = checked["stops"][0], len(checked["stops"]) - 1
    more = f", and {others} more {'reason' if others == 1 else 'reasons'} above" if others else ""
    return DataError(
        f"a run stops at this source: {first['what']}{more}", **{key: first[key] for key in ("where", "expected", "do")}
    )


def _stop(what: str, *, where: str, expected: str, do: str) -> dict[str, str]:
    return {"what": what, "where": where, "expected": expected, "do": do}


def _fresh(days: Sequence[DayRows], settings: Settings) -> pl.DataFrame:
    """Returns the rows by which *validate* judges a batch; all rows where the settings name no window."""
    if settings.window.end is None:
        return pl.concat([day.rows for day in days])
    return latest(pl.concat([inside(day, settings) for day in days]))[0].filter("fresh")


def _unplaced(source: Source) -> Iterator[dict[str, str]]:
    for file, _, why in source.skipped:
        if why.startswith(UNPLACED):
            yield _stop(
                f"the file {file} has no day: {why.removeprefix(UNPLACED)}",
                where=source.name,
                expected="a partition dt=YYYY-MM-DD, or none at all",
                do="rename its partition, or move the file out of the source",
            )


def _lacking(ledger: pl.DataFrame, fresh: pl.DataFrame) -> Iterator[dict[str, str]]:
    lacking = ledger.drop_nulls("missing").filter(pl.col("file").is_in(fresh[FILE].unique().implode()))
    for file, missing, ignored in lacking.select("file", "missing", "ignored").iter_rows():
        names = missing.split(", ")
        yield _stop(
            f"the file has no column {missing}; it has {own_columns(ignored) or 'no other column'}",
            where=file,
            expected="; ".join(f"{name}: {' or '.join(ALIASES[name])}" for name in names) + ", in capitals or not",
            do=f"{_naming(names, ignored.split(', ') if ignored else [])}, or write the column into the file",
        )


def _naming(names: list[str], own: list[str]) -> str:
    """Returns the settings that give a file its missing columns. own: its columns that no name stands for."""
    wanted = [name for name in names if name != "task" or names == ["task"]]
    columns = {own[0] if len(own) == len(wanted) == 1 else f"ITS {name.upper()}": name for name in wanted}
    task = "source.task=QC (or QI), " if "task" in names else ""
    return f"set {task}{'or ' if wanted == ['task'] else ''}source.columns={json.dumps(columns, ensure_ascii=False)}"


def _too_few(source: Source, found: _Found, fresh: pl.DataFrame, settings: Settings) -> Iterator[dict[str, str]]:
    bounds, broken = settings.validation, fresh["rule"].count()
    if fresh.height < bounds.min_rows and not found.refused:
        yield _stop(
            f"there are {fresh.height} fresh rows",
            where=source.name,
            expected=f"validation.min_rows, {bounds.min_rows}, or more",
            do="check that the logs of the window have arrived, and that source.uri and the window are meant",
        )
    if fresh.height and broken / fresh.height > bounds.max_quarantine_share:
        yield _stop(
            f"{broken} of {fresh.height} fresh rows break a rule",
            where=source.name,
            expected=f"validation.max_quarantine_share, {bounds.max_quarantine_share:g}, or less",
            do="correct the rows that the table of broken rules shows, or what writes them",
        )


def _read(source: Source, settings: Settings) -> _Found:
    found = _Found()

    def refused(file: File, error: DataError) -> None:
        found.unread.append(file.key)
        found.refused.append(_stop(error.what, where=error.where, expected=error.expected, do=error.do))

    read = [read_day(day, settings, refused) for day in days_of(source, settings) or [Day(None)]]
    found.days = judged(read, settings)
    return found


def _counts(rows: pl.DataFrame) -> list[dict[str, Any]]:
    keys = ["task", "language"]
    label = pl.col("label")
    counts = rows.group_by(keys).agg(
        pl.len().alias("rows"),
        (label == 1).sum().alias("label_1"),
        (label == 0).sum().alias("label_0"),
        pl.col("rule").count().alias("quarantined"),
    )
    return counts.sort(keys, nulls_last=True).to_dicts()


def _rules(rows: pl.DataFrame) -> list[dict[str, Any]]:
    broken = rows.drop_nulls("rule").sort("rule", FILE, LINE)
    return [{"rule": group["rule"][0], "rows": group.height, "examples": list(_examples(group))} for group in _by_rule(broken)]


def _by_rule(broken: pl.DataFrame) -> list[pl.DataFrame]:
    return broken.partition_by("rule", maintain_order=True) if broken.height else []


def _examples(group: pl.DataFrame) -> Iterator[dict[str, Any]]:
    for row in group.head(EXAMPLES).iter_rows(named=True):
        yield {"file": row[FILE], "line": row[LINE], "why": row[UNREAD] or "", "query": row["query_original"]}
