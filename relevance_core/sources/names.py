"""The names of columns: which column of a log means what. `ALIASES` alone defines it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

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


def known_as(column: str, own: Mapping[str, str]) -> str:
    """Returns the known name that a source's column is read as, "" for a column that is not read.

    Args:
        column: the name in the file; its case and white space around it make no difference.
        own: the source's own names → known names (`source.columns`); they come first, and "" leaves a column out.
    """
    name = column.strip().casefold()
    mapped = {key.strip().casefold(): value for key, value in own.items()}
    return mapped.get(name, name if name in KNOWN else "")
