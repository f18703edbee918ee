"""The review queue: rows whose labels the filter doubts but leaves to people, and people's decisions about them.

The queue is the ledger of *denoise* with `denoise.action = "review"`, and the table `review` that *mine* left in runs of version
0.1.0. A decision is a line of an immutable object
`review/decisions/<time>-<digest>.jsonl`; of several on a pair the latest counts and the others stay as its history. A run pins the
objects that exist when it begins: *ingest* gives decided pairs their labels, *denoise* does not ask about them again.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, cast

import polars as pl

from relevance_core.errors import DataError, NotFound, SettingsError
from relevance_core.pairs import TASKS, Task, query_group, side_of
from relevance_core.runs import folder
from relevance_core.runs.artifacts import open_artifact
from relevance_core.store import Store

ACTION: Final = "review"
"""The action in the ledger that puts a row into the queue."""

WORDS: Final[Mapping[str, int | None]] = {"yes": 1, "no": 0, "keep": None}
"""A person's answer → the label that it means; keep: the label stays as it is."""

QUEUE: Final[Mapping[str, Any]] = {
    "pair_id": pl.String(),
    "task": pl.String(),
    "language": pl.String(),
    "query": pl.String(),
    "target": pl.String(),
    "label": pl.Int8(),
    "score": pl.Float64(),
    "reason": pl.String(),
    "run_id": pl.String(),
}
"""The columns of the queue: `label` is the row's current label, `score` p(yes)."""

DECIDED: Final[Mapping[str, Any]] = {
    "pair_id": pl.String(),
    "task": pl.String(),
    "language": pl.String(),
    "query": pl.String(),
    "target": pl.String(),
    "was": pl.Int8(),
    "label": pl.Int8(),
    "who": pl.String(),
    "at": pl.String(),
    "why": pl.String(),
}
"""The columns of decisions: the fields of `Decision`."""

TABLES: Final[Mapping[str, str]] = {"denoise": "ledger.parquet", "mine": "review.parquet"}
"""Stage → the table that lists its rows for review; *mine* had one in version 0.1.0 alone."""

_FOLDER: Final = "review/decisions/"
_PAIR: Final = ("pair_id", "task", "language", "query", "target", "label")
_RUNS_BACK: Final = 14
_READERS: Final = 16
_JSON: Final = {pl.Int8(): pl.Int64()}
_read: dict[tuple[str, str], bytes] = {}


@dataclass(frozen=True)
class Decision:
    """A person's decision about a pair.

    Attributes:
        was: the label before the decision.
        label: the decided label; None to leave it as it is.
        at: ISO 8601 with a zone.
    """

    pair_id: str
    task: str
    language: str
    query: str
    target: str
    was: int
    label: int | None
    who: str
    at: str
    why: str = ""


def asks(stage: str, figures: Mapping[str, Any]) -> int:
    """Returns the number of rows that a stage's output lists for review, from its figures."""
    listed = figures.get("doubted") if stage == "mine" else figures.get("acted") if figures.get("action") == ACTION else 0
    return listed if isinstance(listed, int) else 0


def queue(store: Store, task: Task) -> pl.DataFrame:
    """Returns the rows (QUEUE) that await a decision in the newest run with a finished filter, most doubtful first."""
    runs = _runs(store, task)
    if not runs:
        return pl.DataFrame(schema=QUEUE)
    decided = decisions(store).filter(task=task)
    return _listed(store, task, runs[0]).filter(~pl.col("pair_id").is_in(decided["pair_id"].implode()))


def decide(store: Store, given: Sequence[Decision]) -> None:
    """Records decisions in one object, all or none.

    Raises SettingsError for an invalid task, label, name or time and for a pair on the dev side, NotFound for a pair that was never
    in the queue, DataError for a decision whose texts differ from its pair's.
    """
    if not given:
        return
    checked = [_checked(decision) for decision in given]
    for task in dict.fromkeys(decision.task for decision in checked):
        _require_asked(store, cast(Task, task), [decision for decision in checked if decision.task == task])
    lines = [json.dumps(asdict(decision), ensure_ascii=False, sort_keys=True) + "\n" for decision in checked]
    data = "".join(lines).encode()
    moment = datetime.fromisoformat(max(decision.at for decision in checked))
    store.create(f"{_FOLDER}{moment:%Y%m%dT%H%M%S%fZ}-{hashlib.sha256(data).hexdigest()[:16]}.jsonl", data)


def answer(store: Store, words: Mapping[Task, Mapping[str, str]], who: str, why: str = "") -> None:
    """Records the answers that `who` gives now, all or none.

    Args:
        store: holds the queue and the decisions.
        words: task → pair id → yes, no or keep.
        who: name of the person who answers.
        why: their reason.

    Raises:
        SettingsError: another word, or what `decide` raises it for.
        NotFound: a pair was never in the queue.
        DataError: a pair's texts have changed.
    """
    if wrong := sorted({word for of_task in words.values() for word in of_task.values()} - set(WORDS)):
        raise SettingsError(f"{wrong[0]!r} is no decision", expected=", ".join(WORDS))
    at = datetime.now(UTC).isoformat()
    given = []
    for task, of_task in words.items():
        rows = asked(store, task, of_task)
        if missing := sorted(set(of_task) - set(rows["pair_id"])):
            raise _not_asked(missing)
        for pair, _, language, query, target, label in rows.iter_rows():
            given.append(Decision(pair, task, language, query, target, label, WORDS[of_task[pair]], who, at, why))
    decide(store, given)


def names(store: Store) -> list[str]:
    """Returns the names of the objects that hold decisions, oldest first; a run pins this list."""
    return [entry.key.removeprefix(_FOLDER) for entry in store.list(_FOLDER)]


def history(store: Store, names_: Iterable[str] | None = None) -> pl.DataFrame:
    """Returns every decision (DECIDED) in the named objects (default: all), oldest first; equal times by the object's name."""
    wanted = sorted(names(store) if names_ is None else names_)
    _fetch(store, [name for name in wanted if (store.uri, name) not in _read])
    lines = b"".join(_read[store.uri, name] for name in wanted)
    if not lines:
        return pl.DataFrame(schema=DECIDED)
    read = pl.read_ndjson(io.BytesIO(lines), schema={name: _JSON.get(kind, kind) for name, kind in DECIDED.items()})
    return read.cast(pl.Schema(DECIDED)).sort("at", maintain_order=True)


def decisions(store: Store, names_: Iterable[str] | None = None) -> pl.DataFrame:
    """Returns the decision (DECIDED) in force for each task and pair: the latest in the named objects (default: all)."""
    return history(store, names_).unique(["task", "pair_id"], keep="last", maintain_order=True)


def labelled(rows: pl.DataFrame, decided: pl.DataFrame) -> pl.DataFrame:
    """Returns `rows` (with pair_id and label) with the decided labels."""
    new = decided.filter(pl.col("label").is_not_null()).select("pair_id", decided_label=pl.col("label").cast(rows.schema["label"]))
    if new.is_empty():
        return rows
    joined = rows.join(new, on="pair_id", how="left", maintain_order="left", validate="m:1")
    return joined.with_columns(label=pl.coalesce("decided_label", "label")).drop("decided_label")


def asked(store: Store, task: Task, pair_ids: Iterable[str | None]) -> pl.DataFrame:
    """Returns those of `pair_ids` that were in the queue: pair_id, task, language, query, target, label, unique by pair_id.

    The newest run's queue, the decided pairs, then the queues of some earlier runs are searched, so that a list exported yesterday
    can be imported today.
    """
    missing = set(pair_ids) - {None}  # an empty cell of a spreadsheet
    found = [pl.DataFrame(schema={name: QUEUE[name] for name in _PAIR})]
    for rows in _sources(store, task):
        wanted = pl.col("pair_id").is_in(pl.Series(sorted(missing), dtype=pl.String).implode())
        found.append(rows.filter(wanted).select(_PAIR))
        missing -= set(found[-1]["pair_id"])
        if not missing:
            break
    return pl.concat(found)


def _sources(store: Store, task: Task) -> Iterator[pl.DataFrame]:
    runs = _runs(store, task)[:_RUNS_BACK]
    for run_id in runs[:1]:
        yield _listed(store, task, run_id)
    yield decisions(store).filter(task=task).drop("label").rename({"was": "label"})
    for run_id in runs[1:]:
        yield _listed(store, task, run_id)


def _runs(store: Store, task: Task) -> list[str]:
    """Returns the ids of runs with a finished filter for the task, newest first."""
    found = folder.having(store, folder.stage_record("denoise", task))
    return folder.newest_first({run_id: entry.modified for run_id, entry in found.items()})


def _listed(store: Store, task: Task, run_id: str) -> pl.DataFrame:
    """Returns the rows (QUEUE) that a run lists for review, decided ones included, most doubtful first."""
    records = {stage: folder.stage_record(stage, task) for stage in TABLES}
    there = {stage: record for stage, record in records.items() if folder.has(store, run_id, record)}
    addresses = ((stage, folder.read(store, run_id, record)["address"]) for stage, record in there.items())
    return _ordered(store, task, run_id, tuple(addresses))


@functools.lru_cache(maxsize=2 * len(TASKS))
def _ordered(store: Store, task: Task, run_id: str, outputs: tuple[tuple[str, str], ...]) -> pl.DataFrame:
    """Returns `_listed` from finished outputs (stage, address), cached: they never change, and many pages show them."""
    asked = [_asked_by(store, stage, address) for stage, address in outputs]
    rows = pl.concat(
        table.filter(pl.col("action") == ACTION)
        .with_columns(task=pl.lit(task), run_id=pl.lit(run_id))
        .select(pl.col(name).cast(kind) for name, kind in QUEUE.items())
        for table in asked
        if table is not None
    )
    # The doubt is p of the other label, as in *denoise*.
    return rows.sort((pl.col("score") - pl.col("label")).abs().neg(), "pair_id").collect()


def _asked_by(store: Store, stage: str, address: str) -> pl.LazyFrame | None:
    """Returns the table of a stage's output that lists rows for review; None where it lists none."""
    found = open_artifact(store, address)
    if found is None:
        raise NotFound(
            f"the output of {stage} is damaged or gone",
            where=store.uri_of(address),
            do=f"run `relevance stage {stage}` of its run again",
        )
    return pl.scan_parquet(found.path(TABLES[stage])) if TABLES[stage] in found.files else None


def _fetch(store: Store, missing: Sequence[str]) -> None:
    """Reads objects that this process has not read yet into its cache; they never change."""
    with ThreadPoolExecutor(_READERS) as readers:
        for name, data in zip(missing, readers.map(lambda name: store.read(_FOLDER + name), missing), strict=True):
            _read[store.uri, name] = data


def _checked(decision: Decision) -> Decision:
    """Returns the decision with its time in UTC at a fixed length, so that times sort as text. Raises SettingsError."""
    if decision.task not in TASKS:
        raise SettingsError(f"no task {decision.task!r}", expected=", ".join(TASKS))
    if decision.label not in (0, 1, None):
        raise SettingsError(f"the label {decision.label!r} can't be decided", where=decision.pair_id, expected="0, 1 or None")
    if not decision.who.strip():
        raise SettingsError("a decision needs a name", where=decision.pair_id, expected="who decides")
    at = datetime.fromisoformat(decision.at)
    if at.tzinfo is None:
        raise SettingsError(f"the time {decision.at!r} has no zone", where=decision.pair_id, expected="ISO 8601 with a zone")
    return replace(decision, who=decision.who.strip(), at=at.astimezone(UTC).isoformat(timespec="microseconds"))


def _require_asked(store: Store, task: Task, given: Sequence[Decision]) -> None:
    rows = asked(store, task, {decision.pair_id for decision in given})
    texts = {pair: (language, query, target) for pair, _, language, query, target, _ in rows.iter_rows()}
    if missing := sorted({decision.pair_id for decision in given} - set(texts)):
        raise _not_asked(missing)
    judges = _judges(store, task)
    for decision in given:
        if texts[decision.pair_id] != (decision.language, decision.query, decision.target):
            raise DataError(
                "the decision's texts are not those of its pair", where=decision.pair_id, expected=repr(texts[decision.pair_id])
            )
        if judges(decision.query):
            raise SettingsError(
                "the query is on the dev side: rows that judge are not reviewed", where=decision.pair_id, expected="a training pair"
            )


def _not_asked(missing: Sequence[str]) -> NotFound:
    shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
    return NotFound(
        f"nobody was asked about {shown}", where="the review queue", do="`relevance review export` writes what is asked now"
    )


def _judges(store: Store, task: Task) -> Callable[[str], bool]:
    """Returns a test whether a query is on the newest run's dev side; always False where categories are split or no run is left."""
    runs = _runs(store, task)
    split = folder.read_run(store, runs[0])["settings"]["split"] if runs else None
    if split is None or (task == "QC" and split["qc_group"] != "query"):
        return lambda query: False
    return lambda query: side_of(query_group(query), float(split["dev_share"])) == "dev"
