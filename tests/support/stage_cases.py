"""Split pairs and finished outputs for the tests of single stages."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import UTC, datetime

import polars as pl

from relevance_core import config, pairs
from relevance_core.runs.artifacts import Artifact, Output, Report, Rows, open_artifact
from relevance_core.runs.stage import Inputs, stage
from relevance_core.runs.steps import step_of
from relevance_core.store import Store

_COUNT = itertools.count()


def log(*rows: tuple[str, str, str, int], task: str = "QC") -> pl.DataFrame:
    """Training rows of (language, query, target, label)."""
    frame = pl.DataFrame(
        [
            {
                "pair_id": "", "task": task, "language": language, "query": query, "target": target, "target_id": "",
                "label": label, "event_time": datetime(2026, 10, 1, tzinfo=UTC), "origin": "log", "origin_id": None, "weight": 1.0,
            }
            for language, query, target, label in rows
        ],
        schema=pairs.SCHEMA,
    )  # fmt: skip
    return pairs.with_groups(pairs.with_ids(frame))


def artifact(
    store: Store,
    name: str,
    tables: Mapping[str, pl.DataFrame],
    files: Mapping[str, bytes] | None = None,
    figures: Mapping[str, object] | None = None,
) -> Artifact:
    """A finished output of a stage that holds just this."""

    @stage(name, uses=(), fingerprint=lambda _: f"{next(_COUNT)}")
    def body(settings: config.Settings, inputs: Inputs, out: Output) -> Report:
        for table, frame in tables.items():
            out.table(table, frame)
        for file, data in (files or {}).items():
            out.bytes(file, data)
        return Report(Rows(), figures or {})

    found = open_artifact(store, body(config.Settings(), Inputs(), store).address)
    assert found is not None
    return found


def by_role(stage: str, outputs: Mapping[str, Artifact]) -> dict[str, Artifact]:
    """Outputs, given by the stage that made them, under the roles in which `stage` asks for them."""
    step = step_of(stage)
    roles = dict(step.needs) | {role: need for more in step.with_setting.values() for role, need in more.items()}
    return {role: outputs[need] for role, need in roles.items() if need in outputs}
