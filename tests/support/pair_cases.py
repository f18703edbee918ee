"""Small logs for the tests of sources, ingest, validate and split."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from relevance_core import config
from relevance_core.config import Settings
from relevance_core.runs.artifacts import Artifact, Report, open_artifact
from relevance_core.runs.stage import Inputs
from relevance_core.stages import ingest, validate
from relevance_core.store import Store

Row = Mapping[str, Any]
END = "2026-10-15"


def row(query: str = "red shoe", target: str = "shoes", label: Any = 1, **more: Any) -> dict[str, Any]:
    """One English QC row of 2026-10-14, the window's only day."""
    return {
        "task": "QC",
        "language": "en",
        "query": query,
        "target": target,
        "label": label,
        "event_time": "2026-10-14T09:00:00",
    } | more


def many(count: int, *, positives: float = 0.5, day: str = "2026-10-14", name: str = "query", **more: Any) -> list[dict[str, Any]]:
    """Rows with queries of their own, the first of them positive."""
    return [row(f"{name} {n}", label=int(n < positives * count), event_time=f"{day}T00:00:00") | more for n in range(count)]


def write_rows(path: Path, rows: Iterable[Row]) -> Path:
    """Writes rows as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def settings_for(source: Path | str, *more: str) -> Settings:
    """Settings of a run on a source whose window is 2026-10-14."""
    return config.load(None, [f"source.uri={source}", f"window.end={END}", *more])


def ingested(settings: Settings, store: Store) -> Artifact:
    """The output of *ingest*."""
    return output(ingest.run(settings, Inputs(), store), store)


def validated(settings: Settings, store: Store) -> Artifact:
    """The output of *validate* after *ingest*."""
    return output(validate.run(settings, Inputs({"rows": ingested(settings, store)}), store), store)


def output(report: Report, store: Store) -> Artifact:
    """The finished output that a report speaks of."""
    found = open_artifact(store, report.address)
    assert found is not None
    return found


def at(text: str) -> datetime:
    """A moment in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
