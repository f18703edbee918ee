"""Partitions in a path: folders named `name=value`, as Hive, Spark, Polars and DuckDB write them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final
from urllib.parse import unquote

NULL: Final = "__HIVE_DEFAULT_PARTITION__"
"""The value of a partition that stands for null."""

_DAYS: Final = ("dt", "date", "ds", "day")
"""Names of a partition that holds a whole date."""

_DATE: Final = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})(?:[ T]00:00(?::00(?:\.0+)?)?)?|([0-9]{4})([0-9]{2})([0-9]{2})")
_IN_THREE: Final = {"year": re.compile(r"[0-9]{4}"), "month": re.compile(r"[0-9]{1,2}"), "day": re.compile(r"[0-9]{1,2}")}
"""Names of three partitions that hold a date together → form of their value."""


@dataclass(frozen=True)
class Partitions:
    """The partitions of a path.

    Attributes:
        day: the date that they name; None where none names one.
        columns: the others, name → value, None for null.
        problem: why the path can't be placed; "" where it can.
    """

    day: date | None = None
    columns: Mapping[str, str | None] = field(default_factory=dict)
    problem: str = ""


def is_partition(part: str) -> bool:
    """Tells whether a folder's name is `name=value`."""
    return part.find("=") > 0


def partitions(parts: Sequence[str]) -> Partitions:
    """Returns the partitions among the folders of a path; folders of other names say nothing."""
    named: dict[str, tuple[str, str]] = {}
    for part in filter(is_partition, parts):
        name, _, value = part.partition("=")
        name, value = _decoded(name), _decoded(value)
        before = named.setdefault(name.casefold(), (name, value))[1]
        if before != value:
            return Partitions(problem=f"{shown(name)} is {shown(before)} and {shown(value)}")
    day, used, problem = _day({name: value for name, (_, value) in named.items()})
    columns = {own: None if value == NULL else value for name, (own, value) in named.items() if name not in used}
    return Partitions(day, columns, problem)


def _decoded(text: str) -> str:
    """Decodes %XX, as writers put what a path can't hold; what is no UTF-8 stays as it is."""
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        return text


def _day(values: Mapping[str, str]) -> tuple[date | None, set[str], str]:
    """Returns the day, the names that hold it, and why there is none although there should be."""
    whole = {name: day for name in _DAYS if name in values and (day := _whole(values[name]))}
    if len(set(whole.values())) > 1:
        return None, set(), "it names two days: " + ", ".join(f"{name}={day}" for name, day in whole.items())
    if whole:
        return next(iter(whole.values())), set(whole), ""
    three = [name for name, form in _IN_THREE.items() if name in values and (name != "day" or form.fullmatch(values[name]))]
    wrong = [name for name in _DAYS if name in values and name not in three]
    if wrong:
        return None, set(), f"{wrong[0]}={shown(values[wrong[0]])} is no day"
    if not three:
        return None, set(), ""
    day = _of_three(values) if len(three) == len(_IN_THREE) else None
    return day, set(three), "" if day else "/".join(f"{name}={shown(values[name])}" for name in three) + " is no day"


def _whole(text: str) -> date | None:
    found = _DATE.fullmatch(text)
    return _date(*(part for part in found.groups() if part)) if found else None


def _of_three(values: Mapping[str, str]) -> date | None:
    if not all(form.fullmatch(values[name]) for name, form in _IN_THREE.items()):
        return None
    return _date(*(values[name] for name in _IN_THREE))


def _date(*parts: str) -> date | None:
    try:
        return date(*map(int, parts))
    except ValueError:
        return None


def shown(text: str, most: int = 60) -> str:
    """Returns a name for a message: on one line, at most `most` characters."""
    text = text if text.isprintable() else ascii(text)[1:-1]
    return text if len(text) <= most else text[: most - 1] + "…"
