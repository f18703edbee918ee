"""A reader that is told the truth: it shows that the judgement lets a right reader pass, and what it takes a wrong reader for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from tests.support.fuzzing.product import Got, Said
from tests.support.fuzzing.sources import KNOWN_AS, Source, Written, records

_KEYS = {name: key for key, names in KNOWN_AS.items() for name in names}


def honest(source: Source) -> Said:
    """Reads undamaged files by csv, json and pyarrow in their true form; of a damaged file it names every row that was touched."""
    said = Said(
        listed={*(file.path for file in source.files), *source.neighbours, *source.idle},
        skipped=dict.fromkeys((*source.neighbours, *source.idle), "no data"),
    )
    for file in source.files:
        said.rows += _damaged(file) if file.fault else _undamaged(source, file)
    return said


def _damaged(file: Written) -> list[Got]:
    nothing: dict[str, Any] = dict.fromkeys(("task", "language", "query", "target", "label", "event_time", "target_id"))
    return [
        Got(
            row.file,
            min(row.lines),
            None,
            nothing | ({} if row.touched else dict(row.values)),
            "row=no row" if row.touched else None,
        )
        for row in file.rows
    ]


def _undamaged(source: Source, file: Written) -> list[Got]:
    own = {name.casefold(): known for name, known in source.answers.get("source.columns", {}).items()}
    found = []
    for expected, record in zip(file.rows, records(file), strict=True):
        named = {_name(header, own): value for header, value in record.items()}
        found.append(Got(file.path, min(expected.lines), None, _values(named, file.path, source.answers)))
    return found


def _name(header: str, own: Mapping[str, str]) -> str:
    name = header.strip().casefold()
    name = own.get(name, name)
    return _KEYS.get(name, name)


def _values(named: Mapping[str, Any], path: str, answers: Mapping[str, Any]) -> dict[str, Any]:
    in_path = dict(re.findall(r"(\w+)=([^/]+)/", path))
    task = named.get("task") or in_path.get("task") or answers.get("source.task")
    target = named.get("target") if "target" in named else named.get("category_path" if task == "QC" else "item_title")
    label = str(named["label"]).lower()
    return {
        "task": task,
        "language": (named.get("language") or in_path["language"]).lower(),
        "query": named["query"],
        "target": target,
        "label": int(float({"true": "1", "false": "0"}.get(label, label))),
        "event_time": _moment(named.get("time")),
        "target_id": _id(named.get("target_id")),
    }


def _moment(value: Any) -> datetime | None:
    if value is None:
        return None
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    moment = datetime.fromisoformat(moment.isoformat())  # pandas' own kind of moment
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def _id(value: Any) -> str | None:
    return str(int(value)) if isinstance(value, float) else None if value is None else str(value)


def without(said: Said, at: int) -> Said:
    """Leaves a row out."""
    return replace(said, rows=said.rows[:at] + said.rows[at + 1 :])


def changed(said: Said, at: int, **values: Any) -> Said:
    """Says other values of a row."""
    row = said.rows[at]
    return replace(said, rows=[*said.rows[:at], replace(row, values={**row.values, **values}), *said.rows[at + 1 :]])
