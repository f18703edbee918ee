"""The ledger of a source: for every listed file, that it was read and how, or why it was not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Final

import polars as pl

from relevance_core.sources.columns import FILE
from relevance_core.sources.reading import LINE, UNREAD, Reading

LEDGER: Final[Mapping[str, pl.DataType]] = {
    "file": pl.String(),
    "day": pl.String(),
    "why": pl.String(),
    "format": pl.String(),
    "compression": pl.String(),
    "encoding": pl.String(),
    "delimiter": pl.String(),
    "escape": pl.String(),
    "rows": pl.Int64(),
    "unread": pl.Int64(),
    "quarantined": pl.Int64(),
    "missing": pl.String(),
    "ignored": pl.String(),
}
"""The columns of a ledger. `why`: the reason why a file was skipped; null for a file that was read. `rows`: all that are in it.
`unread`: rows with a value, or all of a line, that can't be read. `quarantined`: rows that break a row rule, those among them.
`missing`: required columns that it has under no name. `ignored`: its columns that no name stands for."""


def read_entry(file: str, day: str | None, reading: Reading, missing: Sequence[str]) -> dict[str, Any]:
    """Returns the entry of a file that was read. missing: required columns that it lacks."""
    form = reading.form
    return {
        "file": file,
        "day": day,
        "format": form.format,
        "compression": form.compression or None,
        "encoding": form.encoding or None,
        "delimiter": form.delimiter or None,
        "escape": form.escape or None,
        "rows": reading.rows.height,
        "unread": reading.rows[UNREAD].count(),
        "quarantined": 0,
        "missing": ", ".join(missing) or None,
        "ignored": ", ".join(reading.ignored) or None,
    }


def own_columns(ignored: str | None) -> str:
    """Returns the first few of a file's columns that no name stands for, as `ignored` lists them; "" for none."""
    names = ignored.split(", ") if ignored else []
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


_SHOWN: Final = 8


def skipped_entry(file: str, day: str | None, why: str) -> dict[str, Any]:
    """Returns the entry of a file that was not read."""
    return {"file": file, "day": day, "why": why, "rows": 0, "unread": 0, "quarantined": 0}


def fetched_name(day: date | None) -> str:
    """Returns the name under which a day's rows of a query stand beside the names of files. day: None for rows without a time."""
    return f"sql {day or 'without a day'}"


def fetched_entry(day: date | None, rows: pl.DataFrame) -> dict[str, Any]:
    """Returns the entry of a day's rows of a query."""
    name = day.isoformat() if day else None
    return {"file": fetched_name(day), "day": name, "format": "sql", "rows": rows.height, "unread": 0, "quarantined": 0}


def ledger_of(entries: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Returns the entries as a table (LEDGER) in the order of the files' names."""
    rows = [{name: entry.get(name) for name in LEDGER} for entry in entries]
    return pl.DataFrame(rows, schema=dict(LEDGER)).sort("file")


def with_counts(ledger: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Returns the ledger with `unread` and `quarantined` counted from judged rows (FILE, UNREAD, `rule`)."""
    counts = rows.group_by(FILE).agg(pl.col(UNREAD).count().alias("unread"), pl.col("rule").count().alias("quarantined"))
    joined = ledger.drop("unread", "quarantined").join(counts, left_on="file", right_on=FILE, how="left", maintain_order="left")
    return joined.with_columns(pl.col("unread", "quarantined").fill_null(0)).select(
        pl.col(name).cast(kind) for name, kind in LEDGER.items()
    )


__all__ = [
    "FILE",
    "LEDGER",
    "LINE",
    "fetched_entry",
    "fetched_name",
    "ledger_of",
    "own_columns",
    "read_entry",
    "skipped_entry",
    "with_counts",
]
