"""All that the fuzzing knows of the product: how a source is opened, and what came of each row.

`in_process` and `by_command` are the two ways to ask. Where the product changes, `_batches` and `_tables` change with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import polars as pl

from relevance_core import config
from relevance_core.errors import RelevanceError
from relevance_core.sources import Source, open_source
from relevance_core.stages.ingest.day import days_of, read_day
from tests.support.fuzzing.rows import DAY

SECONDS: Final = 10.0
"""How long the product may take for a file."""

WIDE: Final[Mapping[str, Any]] = {
    "validation.max_quarantine_share": 1,
    "validation.min_rows": 0,
    "validation.min_rows_of_mean": 0,
    "validation.min_positive_rate": 0,
    "validation.max_positive_rate": 1,
    "validation.max_language_drift": 1,
    "validation.max_contradicting_share": 1,
    "validation.max_query_chars": 1_000_000,
    "validation.max_target_chars": 1_000_000,
}
"""Bounds that let every batch pass: a batch rule says nothing of how a file was read."""

_SPAN = re.compile(r"lines? (\d[\d,]*)(?:(?: to |-|–| and )(\d[\d,]*))?")


@dataclass(frozen=True)
class Got:
    """A row that the product read, or names as unread.

    Attributes:
        file: as the product names it; "" where it doesn't.
        line: where the row begins; None where the product doesn't say.
        last: the last line that an unread row stands for.
        values: task, language, query, target, label, event_time, target_id.
        unread: what could not be read; None for a row without fault.
    """

    file: str
    line: int | None
    last: int | None
    values: Mapping[str, Any]
    unread: str | None = None


@dataclass
class Said:
    """What the product says of a source.

    Attributes:
        rows: kept and quarantined ones.
        error: the message with which it stopped, "" where it didn't.
        crash: a traceback, or `hang`.
        missing: file → required columns that it lacks.
        ignored: file → columns that no name stands for.
        listed: files that the ledger holds; None where there is no ledger.
        skipped: those of them that were not read → why.
        accounts: of the stages: rows in, kept, quarantined and dropped, as they report them.
        seconds: of all that was asked.
    """

    rows: list[Got] = field(default_factory=list)
    error: str = ""
    crash: str = ""
    missing: dict[str, list[str]] = field(default_factory=dict)
    ignored: dict[str, list[str]] = field(default_factory=dict)
    listed: set[str] | None = None
    skipped: dict[str, str] = field(default_factory=dict)
    accounts: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0


Ask = Callable[[str, Mapping[str, Any], int], Said]
"""Address, settings and number of files → what the product says."""


class _Hang(BaseException):
    """The time is up."""


@contextlib.contextmanager
def _limit(seconds: float) -> Iterator[None]:
    def end(*_: object) -> None:
        raise _Hang

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def in_process(address: str, settings: Mapping[str, Any], files: int) -> Said:
    """Opens the source and reads its rows in this process, as *ingest* does."""
    said, started = Said(), time.monotonic()
    given = {"source.uri": address, "window.end": "2026-10-15"} | dict(settings)
    try:
        with _limit(SECONDS * files):
            options = config.load(None, [f"{name}={json.dumps(value)}" for name, value in given.items()])
            _batches(open_source(options), options, said)
    except RelevanceError as error:
        said.error = str(error)
    except KeyboardInterrupt:
        raise
    except _Hang:
        said.crash = "hang"
    except BaseException:  # a panic of polars is no Exception
        said.crash = traceback.format_exc(limit=-4)[-2000:]
    said.seconds = time.monotonic() - started
    if not said.crash and said.seconds > SECONDS * files:
        said.crash = "hang"
    return said


def _batches(source: Source, settings: config.Settings, said: Said) -> None:
    """Fills in what the days of the source hold, before any rule has judged them."""
    said.listed = set()
    for day in days_of(source, settings):
        read = read_day(day, settings)
        _ledger(read.ledger, said)
        said.rows += _got(read.rows.with_columns(pl.when("undated").then(pl.lit(DAY)).otherwise("event_time").alias("event_time")))
    for file, _, why in source.skipped:
        said.listed.add(file)
        said.skipped[file] = why


def _ledger(ledger: pl.DataFrame, said: Said) -> None:
    said.listed = said.listed or set()
    for entry in ledger.iter_rows(named=True):
        said.listed.add(entry["file"])
        if entry["missing"]:
            said.missing[entry["file"]] = entry["missing"].split(", ")
        if entry["ignored"]:
            said.ignored[entry["file"]] = entry["ignored"].split(", ")
        if entry["why"]:
            said.skipped[entry["file"]] = entry["why"]


def _got(frame: pl.DataFrame) -> list[Got]:
    found = []
    for row in frame.iter_rows(named=True):
        values = {name: row[name] for name in ("task", "language", "label", "event_time", "target_id")}
        values |= {"query": row["query_original"], "target": row["target_original"]}
        line, unread = row.get("line"), row.get("unread")
        span = _SPAN.search(unread) if unread else None
        last = int(span[2].replace(",", "")) if span and span[2] else line
        found.append(Got(row.get("file") or "", line, last, values, unread))
    return found


def by_command(address: str, settings: Mapping[str, Any], files: int) -> Said:
    """Runs `relevance stage` begin, ingest and validate on the source, and reads the tables that they leave."""
    said, started = Said(), time.monotonic()
    given = {"source.uri": address, "window.end": "2026-10-15"} | dict(WIDE) | dict(settings)
    with tempfile.TemporaryDirectory(prefix="relevance-fuzz-") as store:
        first = [word for name, value in given.items() for word in ("--set", f"{name}={json.dumps(value)}")]
        for words in (["begin", *first], ["ingest"], ["validate"]):
            command = [sys.executable, "-m", "relevance_core", "stage", *words, "--run", "fuzz", "--store", store, "--json"]
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, timeout=60 + SECONDS * files, env=os.environ, check=False
                )
            except subprocess.TimeoutExpired:
                said.crash = "hang"
                break
            if done.returncode:
                said.error = next((line for line in reversed(done.stderr.splitlines()) if line), f"status {done.returncode}")
                said.crash = done.stderr[-2000:] if "Traceback" in done.stderr or "panicked" in done.stderr else ""
                break
            if words[0] != "begin":
                said.accounts.append(json.loads(done.stdout.splitlines()[-1])["rows"])
        if not said.error and not said.crash:
            _tables(Path(store), said)
    said.seconds = time.monotonic() - started
    return said


def _tables(store: Path, said: Said) -> None:
    """Fills in what *ingest* left: *validate* puts the rows with a rule into quarantine, and counts them."""
    for path in store.glob("stages/ingest/*/pairs.parquet"):
        said.rows += _got(pl.read_parquet(path))
        _ledger(pl.read_parquet(path.with_name("ledger.parquet")), said)
