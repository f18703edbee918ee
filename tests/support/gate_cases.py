"""Runs whose records and outputs are written by hand, as if their stages had run."""

from __future__ import annotations

import json
from typing import Any

from relevance_core.config import build
from relevance_core.pairs import Task
from relevance_core.runs.approval import Approval
from relevance_core.runs.artifacts import Artifact
from relevance_core.runs.run import Run, pin
from relevance_core.store import Store
from tests.support.stage_cases import artifact


def refer(store: Store, run_id: str, stage: str, artifact: Artifact) -> None:
    """Records an output in a run, as the pipeline does."""
    store.write(f"runs/{run_id}/{stage}.json", json.dumps({"address": artifact.address}).encode())


YES = Approval("QC", "0a1b2c3d", True, "ada", "2026-11-20T20:30:00+00:00", "seen by hand")

VERDICT = {
    "verdict": "needs-approval",
    "reasons": [
        {"rule": "floor", "passed": True, "figure": 0.91234, "bound": 0.6, "text": "F1 0.9123, at least 0.6000 wanted"},
        {
            "rule": "evidence in de",
            "passed": False,
            "figure": 3,
            "bound": 30,
            "text": "de comes in | with <b>3</b> rows\n# 30 wanted",
        },
    ],
}

METRICS: dict[str, Any] = {
    "per_language": {"en": {"f1": 0.93, "rows": 100}, "de": {"f1": 0.8, "rows": 3}},
    "champion": {"per_language": {"en": {"f1": 0.9, "rows": 100}}},
}


def judged(store: Store, task: Task, verdict: str, run_id: str = "run") -> Run:
    """A run whose task has been evaluated, judged and published."""
    run = pin(build({"window": {"end": "2026-10-08"}}), store, run_id)
    files = {
        "evaluate": {"metrics.json": METRICS},
        "gate": {"verdict.json": VERDICT | {"verdict": verdict}},
        "publish": {"version.json": {"version": YES.version}},
    }
    for stage, contents in files.items():
        made = artifact(store, stage, {}, {name: json.dumps(value).encode() for name, value in contents.items()})
        refer(store, run.run_id, f"{stage}-{task.lower()}", made)
    return run
