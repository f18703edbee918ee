"""Runs whose filter has listed rows for review, made by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from relevance_core import pairs
from relevance_core.pairs import Task
from relevance_core.stages.denoise.stage import LEDGER, REASON
from relevance_core.store import Store
from tests.support.pair_cases import settings_for
from tests.support.stage_cases import artifact

TRAIN = [query for query in (f"query {n}" for n in range(40)) if pairs.side_of(pairs.query_group(query)) == "train"]
"""Queries on the train side."""

DEV = next(query for query in (f"query {n}" for n in range(40)) if pairs.side_of(pairs.query_group(query)) == "dev")


def listed(query: str, score: float, label: int = 1, **more: Any) -> dict[str, Any]:
    """A row of the ledger that waits for review."""
    row = {"query": query, "target": "shoes", "language": "en", "label": label, "score": score}
    row |= {"reason": REASON, "action": "review", "model": "fold-0:0123"} | more
    return {"pair_id": pairs.pair_id("QC", row["language"], query, row["target"], ""), **row}


def finished(store: Store, run_id: str, rows: Sequence[dict[str, Any]], task: Task = "QC") -> list[str]:
    """A run whose *denoise* has listed `rows`; returns their ids."""
    ledger = artifact(store, f"denoise-{task.lower()}", {"ledger": pl.DataFrame(rows, schema=LEDGER)})
    store.write(f"runs/{run_id}/denoise-{task.lower()}.json", json.dumps({"address": ledger.address}).encode())
    record = {"settings": settings_for(Path("logs")).model_dump(mode="json")}
    store.write(f"runs/{run_id}/run.json", json.dumps(record).encode())
    return [row["pair_id"] for row in rows]
