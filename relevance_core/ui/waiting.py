"""The work that waits for people: verdicts without an answer, and labels without a decision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

import polars as pl

from relevance_core.errors import NotFound, StoreError
from relevance_core.pairs import Task
from relevance_core.runs import review
from relevance_core.runs.approval import waits
from relevance_core.runs.artifacts import open_artifact
from relevance_core.runs.folder import StageFile, stage_record
from relevance_core.store import Entry, Store
from relevance_core.ui.history import Kept, Reader, RunRecord, Version

_REQUIRED: Final = "/dags/{}/runs/{}/required_actions?response_received=false"
"""Airflow's page of a DAG run's questions to people."""
_QUEUES: Final = Kept(64)
"""A cache of the lengths of review queues."""


@dataclass(frozen=True)
class Waiting:
    """A task for a person. to: the link's address, below the root of these pages or, if `airflow`, of Airflow's."""

    text: str
    link: str
    to: str
    airflow: bool = False


def approvals(runs: Sequence[RunRecord], serving: Mapping[Task, Version], dag_id: str) -> Iterator[Waiting]:
    """Yields the verdicts that need a person: asked in Airflow, or left behind by a run from the command line.

    Args:
        runs: newest first.
        serving: task → champion.
        dag_id: the DAG of the loop.
    """
    judged: set[Task] = set()
    for run in runs:
        for task, outcome in run.outcomes.items():
            version = _version_of(run, task)
            if run.waits(task) and run.about.dag_run:
                to = _REQUIRED.format(quote(dag_id, safe=""), quote(run.about.dag_run, safe=""))
                yield Waiting(f"{task} {version} waits for an approval: {outcome.text}", "Decide in Airflow", to, airflow=True)
            elif task not in judged and _left(run, task) and not _serves(serving.get(task), version):
                text = f"{task} {version} serves only if somebody says so: relevance registry promote {task}={version} --why …"
                yield Waiting(text, "See the run", f"/run/{quote(run.run_id, safe='')}")
            judged |= {task} if run.of("gate", task) else set()


def _version_of(run: RunRecord, task: Task) -> str:
    publish = run.of("publish", task)
    return str(publish.figures.get("version", "")) if publish else ""


def _left(run: RunRecord, task: Task) -> bool:
    """Tells whether the run ended with a version that needs an approval, without asking anybody."""
    gate = run.of("gate", task)
    return gate is not None and run.ended and waits(gate.figures.get("verdict"), "", run.answers.get(task))


def _serves(serving: Version | None, version: str) -> bool:
    return serving is not None and serving.manifest.version == version


def reviews(reader: Reader, runs: Sequence[RunRecord], tasks: Sequence[Task]) -> Iterator[Waiting]:
    """Yields the rows that the newest filtered run lists for review, without the decided ones.

    Args:
        reader: reads the runs' records.
        runs: newest first.
        tasks: to look at.
    """
    listing = {task: entries for task in tasks if (entries := _listing(reader, runs, task))}
    if not listing:
        return
    decided = review.names(reader.store)
    # Objects with decisions are only added, never rewritten: their number and the last name change with every new one.
    state = (str(len(decided)), decided[-1] if decided else "")
    rows = {task: count for task, entries in listing.items() if (count := _queued(reader, task, entries, state))}
    if rows:
        told = ", ".join(f"{task} {count:,}" for task, count in rows.items())
        yield Waiting(f"{sum(rows.values()):,} labels are doubted and wait for a look ({told})", "Review them", "/review")


def _listing(reader: Reader, runs: Sequence[RunRecord], task: Task) -> dict[str, Entry]:
    """Returns the records, by stage, of the newest run with a finished filter that list rows for review."""
    run = next((run for run in runs if stage_record("denoise", task) in run.entries), None)
    if run is None:
        return {}
    entries = {stage: entry for stage in review.TABLES if (entry := run.entries.get(stage_record(stage, task)))}
    records = reader.read(list(entries.values()), StageFile.parse)
    return {
        stage: entry for stage, entry in entries.items() if entry.key in records and review.asks(stage, records[entry.key].figures)
    }


def _queued(reader: Reader, task: Task, entries: Mapping[str, Entry], decided: tuple[str, str]) -> int:
    state = (reader.store.uri, *(part for entry in entries.values() for part in (entry.key, entry.tag)), *decided)
    rows = _QUEUES.get(state)
    if rows is None:
        records = reader.read(list(entries.values()), StageFile.parse)
        try:
            rows = sum(_undecided(reader.store, task, stage, records[entry.key]) for stage, entry in entries.items())
        except (NotFound, StoreError, pl.exceptions.PolarsError) as error:
            reader.damaged.append(f"the review queue of {task}: {error}")
            return 0
        _QUEUES.put(state, rows)
    return int(rows)


def _undecided(store: Store, task: Task, stage: str, record: StageFile) -> int:
    """Counts the rows that a stage listed for review and that are not decided; opens its table only if any row was decided.

    Args:
        store: holds the table and the decisions.
        task: QC or QI.
        stage: that listed the rows.
        record: of the stage.
    """
    decided = review.decisions(store).filter(task=task).lazy().select("pair_id")
    found = open_artifact(store, record.address, verify=False) if decided.collect().height else None
    if found is None:
        return review.asks(stage, record.figures)
    listed = pl.scan_parquet(found.path(review.TABLES[stage])).filter(pl.col("action") == review.ACTION).select("pair_id")
    return int(listed.join(decided, on="pair_id", how="anti").select(pl.len()).collect().item())
