"""Stage *ingest*: merges the days of window and history into one table of labelled pairs."""

from __future__ import annotations

import gzip
import logging
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final

import polars as pl

from relevance_core.config import Settings
from relevance_core.pairs import ORIGINALS, matched
from relevance_core.processes import PartLogger
from relevance_core.rules import BROKEN
from relevance_core.runs import review
from relevance_core.runs.artifacts import Output, Report, Rows
from relevance_core.runs.stage import Inputs, stage
from relevance_core.sources import UNPLACED, Batch, Meaning, Options, Source, batches, conform, open_source, target_digests
from relevance_core.sources.files import read_catalogue, read_tsv
from relevance_core.sources.ledger import FILE, ledger_of, skipped_entry
from relevance_core.sources.reading import LINE, UNREAD
from relevance_core.stages.ingest import day as days
from relevance_core.stages.ingest.day import DayRows
from relevance_core.translators import read_terms

log = PartLogger(logging.getLogger(__name__))

COMPLETE: Final = ("task", "language", "query", "target", "label", "event_time")
"""Columns that identify a row: a row with a null among them is never taken for a duplicate."""

USES: Final = (
    "window",
    *days.USES,
    "source.uri",
    "source.sql",
    "source.clicks",
    "source.catalogue",
    "translate.glossary",
    "translate.brands",
    "base.click_days",
)
"""The settings that this stage's output depends on."""

REVIEWED: Final[dict[str, Any]] = {
    "pair_id": pl.String(),
    "task": pl.String(),
    "was": pl.Int8(),
    "label": pl.Int8(),
    "who": pl.String(),
    "at": pl.String(),
}
"""The columns of `reviewed`."""

_CLICKS: Final = ("task", "language", "query", "target", "target_id")
_CATALOGUE: Final = ("task", "target_id", "target")
_ORDER: Final = ("event_time", "pair_id", "label", *ORIGINALS, UNREAD, "weight", FILE, LINE)


def fingerprint(settings: Settings) -> str:
    """Returns a digest of the source's content for this window: the part of this stage's key that lies outside the store."""
    return open_source(settings).fingerprint()


@stage(
    "ingest",
    uses=USES,
    machine=("source.connection",),
    version=2,
    fingerprint=fingerprint,
    pinned=("decisions",),
)
def run(settings: Settings, inputs: Inputs, out: Output) -> Report:
    """Reads the window and its history, and everything beside the logs that later stages need.

    Each day of logs is read and its rows are judged once (`day`); a night reads the days that are new or whose files have changed,
    and merges all of window and history. Rows outside [history start, window end) are dropped. Then rows of the same pair and label
    become one, the latest. Both labels of a pair stay: *validate* decides. Of a pair whose label people decided
    (relevance_core.runs.review) one row stays, the latest, with that label. Rows of [start, end) are `fresh`; a row that arrived in
    a later partition than its event belongs to the window of its event. The watermark is the window, never the clock.

    Leaves the tables `pairs` (SCHEMA, ORIGINALS, `unread`, `file` and `line`, `group`, `fresh`, and `rule` and `broken`, the row
    rules that a row breaks), `ledger` (a row for every listed file), `clicks`, `catalogue` (without one: the distinct targets of
    the pairs), `window.json` (the counts that *validate* compares the batch with), where the source has them, `terms.tsv.gz` and
    `brands.txt`, and, where people have decided anything, `reviewed` (REVIEWED): the pairs of this run that they decided, by whom
    and when.

    It takes no row out for what is in it: *validate* puts those that break a rule into quarantine. A row that arrives after the
    window's end is not read by runs whose window ended before; later runs read it as history. All rows of window and history are
    held in memory at once.
    """
    source = open_source(settings)
    log.info("%s%s", f"{len(source.logs)} files of " if source.logs else "", source.name)
    intake = _read(source, settings, out)
    pairs, repeats = latest(pl.concat(intake.frames))
    reviewed = None
    if inputs.decisions:
        height = pairs.height
        pairs, reviewed = settle(pairs, review.decisions(out.store, inputs.decisions))
        repeats |= {"settled by review": height - pairs.height}
        out.table("reviewed", reviewed)
    out.table("pairs", pairs.sort(_ORDER, nulls_last=True))
    own_ids = _tasks_without_ids(pairs)
    clicks = _clicks(source, settings, own_ids)
    out.table("clicks", clicks)
    catalogue = _catalogue(source, settings, pairs, own_ids)
    out.table("catalogue", catalogue)
    window = _window(settings, source, intake)
    out.json("window", window)
    ledger = pl.concat([*intake.ledgers, ledger_of([skipped_entry(*file) for file in source.skipped])]).sort("file")
    out.table("ledger", ledger)
    reasons = {f"dropped: {why}": rows for why, rows in (intake.dropped | repeats).items() if rows}
    dropped = sum(reasons.values())
    return Report(
        Rows(incoming=pairs.height + dropped, kept=pairs.height, dropped=dropped, reasons=reasons),
        {
            "source": source.name,
            **_files(ledger),
            **window,
            "unread": pairs[UNREAD].count(),
            "clicks": clicks.height,
            "catalogue": dict(sorted(Counter(catalogue["task"].to_list()).items())),
            "beside": _copy_companions(source, out),
            **_reviewed_figures(reviewed),
        },
    )


@dataclass
class _Intake:
    """Rows read so far, and the counts made on the way."""

    frames: list[pl.DataFrame] = field(default_factory=list)
    ledgers: list[pl.DataFrame] = field(default_factory=list)
    days: Counter[str] = field(default_factory=Counter)
    languages: dict[str, Counter[str]] = field(default_factory=lambda: {"fresh": Counter(), "history": Counter()})
    dropped: Counter[str] = field(default_factory=Counter)
    missing: dict[str, list[str]] = field(default_factory=dict)
    fresh: int = 0
    history: int = 0
    late: int = 0
    first: datetime | None = None


def _read(source: Source, settings: Settings, out: Output) -> _Intake:
    intake = _Intake(frames=[_no_rows(settings)])
    for read in days.kept_days(days.days_of(source, settings), settings, out.store):
        _take(intake, read, settings)
    log.info("%d rows inside the window and its history", intake.fresh + intake.history)
    return intake


def inside(read: DayRows, settings: Settings) -> pl.DataFrame:
    """Returns a day's rows of window and history, with `fresh`. A row with an unreadable time is fresh if its partition is."""
    start, end = settings.window.bounds()
    event = pl.col("event_time")
    rows = read.rows.with_columns(pl.when("undated").then(pl.lit(start)).otherwise(event).alias("event_time")).drop("undated")
    frame = rows.filter(event.is_between(settings.window.history_start(), end, closed="left").fill_null(True))
    undated = read.day is None or start <= datetime.combine(read.day, time.max, UTC)
    return frame.with_columns((event >= start).fill_null(undated).alias("fresh"))


def _take(intake: _Intake, read: DayRows, settings: Settings) -> None:
    """Adds a day's rows of window and history."""
    event, day = pl.col("event_time"), pl.lit(read.day)
    frame = inside(read, settings)
    intake.dropped["outside the window"] += read.rows.height - frame.height
    intake.late += frame.select((event.dt.date() < day).sum()).item() if read.day else 0
    fresh = int(frame["fresh"].sum())
    intake.fresh += fresh
    intake.history += frame.height - fresh
    _take_missing(intake, read.ledger, frame)
    by_day = frame.drop_nulls("event_time").group_by(event.dt.date().cast(pl.String).alias("day")).len()
    intake.days.update(dict(by_day.iter_rows()))
    for language, is_fresh, count in frame.drop_nulls("language").group_by("language", "fresh").len().iter_rows():
        intake.languages["fresh" if is_fresh else "history"][language] += count
    times: list[Any] = [moment for moment in (intake.first, frame["event_time"].min()) if moment]
    intake.first = min(times, default=None)
    intake.frames.append(frame)
    intake.ledgers.append(read.ledger)


def _take_missing(intake: _Intake, ledger: pl.DataFrame, frame: pl.DataFrame) -> None:
    """Notes the files with fresh rows that lack a required column."""
    fresh = frame.filter("fresh")[FILE].unique()
    lacking = ledger.filter(pl.col("missing").is_not_null() & pl.col("file").is_in(fresh.implode()))
    for file, missing in lacking.select("file", "missing").iter_rows():
        for name in missing.split(", "):
            intake.missing.setdefault(name, []).append(file)


def _files(ledger: pl.DataFrame) -> dict[str, Any]:
    """Counts the listed files: those read, and those skipped by reason."""
    skipped = ledger["why"].drop_nulls()
    return {
        "files": ledger.height - skipped.len(),
        "files_skipped": dict(skipped.value_counts().sort("why").iter_rows()),
    }


def latest(rows: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """Keeps the latest row of each pair and label, and counts the others: `duplicate` (same time too) and `repeated`.

    Ties in time go to the first in the order of the original texts. Rows that lack a value of COMPLETE, and rows with a
    value that can't be read, all stay: none of them takes the place of a sound row.
    """
    whole = pl.all_horizontal(pl.col(COMPLETE).is_not_null()) & pl.col(UNREAD).is_null()
    complete = rows.filter(whole).sort(
        ["event_time", *ORIGINALS, "weight", FILE, LINE], descending=[True, *[False] * 5], nulls_last=True
    )
    events = complete.select("pair_id", "label", "event_time").n_unique() if complete.height else 0
    kept = complete.unique(["pair_id", "label"], keep="first", maintain_order=True)
    return pl.concat([kept, rows.filter(~whole)]), {"duplicate": complete.height - events, "repeated": events - kept.height}


def settle(pairs: pl.DataFrame, decided: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Applies people's decisions to `pairs`; also returns the table `reviewed` (REVIEWED) of the decided pairs among them.

    `was` is the latest row's label; `label` is null where a person left it as it is. A row without a label of 0 or 1 or without a
    time is broken, whatever people decided: it stays for *validate*. A decision that was stored under an id of an
    earlier text rule is that of its pair.
    """
    sound = pl.col("label").is_in([0, 1]) & pl.col("event_time").is_not_null()
    decided = matched(decided, pairs)
    of_decided = pairs.filter(sound & pl.col("pair_id").is_in(decided["pair_id"].implode()))
    newest = of_decided.sort(
        ["event_time", "label", *ORIGINALS, "weight", FILE, LINE], descending=[True, *[False] * 6], nulls_last=True
    ).unique("pair_id", keep="first", maintain_order=True)
    people = decided.select("pair_id", "label", "who", "at")
    reviewed = newest.select("pair_id", "task", was="label").join(people, on="pair_id", validate="1:1")
    fixed = reviewed.drop_nulls("label")["pair_id"].implode()
    settled = review.labelled(newest.filter(pl.col("pair_id").is_in(fixed)), decided)
    kept = pl.concat([pairs.filter(~(sound & pl.col("pair_id").is_in(fixed)).fill_null(False)), settled])
    return kept, reviewed.select(pl.col(name).cast(kind) for name, kind in REVIEWED.items()).sort("pair_id")


def _reviewed_figures(reviewed: pl.DataFrame | None) -> dict[str, Any]:
    """Counts the pairs of this run that people decided, and the labels that this changed; empty where nobody decided anything."""
    if reviewed is None:
        return {}
    return {"reviewed": {"pairs": reviewed.height, "changed": int((reviewed["label"] != reviewed["was"]).sum())}}


def _window(settings: Settings, source: Source, intake: _Intake) -> dict[str, Any]:
    """Returns the window and its counts of arrived rows, before duplicates were removed."""
    start, end = settings.window.bounds()
    days = -((intake.first - start) // timedelta(days=1)) if intake.first else 0
    return {
        "window": {
            "start": start.isoformat(),
            "end": end.isoformat(),
            "days": (end - start) / timedelta(days=1),
            "history_start": settings.window.history_start().isoformat(),
        },
        "rows_by_day": dict(sorted(intake.days.items())),
        "rows_by_language": {name: dict(sorted(counts.items())) for name, counts in intake.languages.items()},
        "fresh_rows": intake.fresh,
        "history_rows": intake.history,
        "history_days": max(days, 0),
        "late_rows": intake.late,
        "missing_columns": {name: sorted(files) for name, files in sorted(intake.missing.items())},
        "files_without_day": [file for file, _, why in source.skipped if why.startswith(UNPLACED)],
    }


def _no_rows(settings: Settings) -> pl.DataFrame:
    """Returns the merged table without a row."""
    judged = [pl.lit(None, kind).alias(name) for name, kind in BROKEN.items()]
    empty = days.read_day(days.Day(None), settings).rows.with_columns(judged)
    return empty.drop("undated").with_columns(pl.lit(None, pl.Boolean).alias("fresh"))


def _tasks_without_ids(pairs: pl.DataFrame) -> list[str]:
    """Lists the tasks whose logs carry no target ids: their clicks and catalogue take digests too, so that a target has one id."""
    known = (
        pairs.filter(pl.col("task").is_not_null() & pl.col("target").is_not_null()).select("task", "target", "target_id").unique()
    )
    digested = known.with_columns(target_digests(known["target"]))
    given = digested.group_by("task").agg((pl.col("target_id") != pl.col("digest")).any().alias("given"))
    return sorted(given.filter(~pl.col("given"))["task"].to_list())


def _same_ids(frame: pl.DataFrame, tasks: list[str]) -> pl.DataFrame:
    """Replaces the target ids of `tasks` in `frame` by digests."""
    own = pl.when(pl.col("task").is_in(tasks)).then(target_digests(frame["target"]))
    return frame.with_columns(own.otherwise(pl.col("target_id")).alias("target_id"))


def _clicks(source: Source, settings: Settings, own_ids: list[str]) -> pl.DataFrame:
    """Returns the clicks of the last base.click_days days, one row a click, without rows that lack a text."""
    end = settings.window.bounds()[1]
    start = end - timedelta(days=settings.base.click_days)
    read = batches(source.clicks, Options.of(settings.source), settings.source.task)
    meaning = Meaning.of(settings.source)
    frames = [conform(batch, meaning=meaning, task=settings.source.task, undated=start) for batch, _ in read]
    inside = pl.col("event_time").is_between(start, end, closed="left")
    frames = [frame.filter(inside).select(_CLICKS).drop_nulls() for frame in frames]
    clicks = pl.concat(frames) if frames else pl.DataFrame(schema=dict.fromkeys(_CLICKS, pl.String()))
    return _same_ids(clicks.filter((pl.col("query") != "") & (pl.col("target") != "")), own_ids).sort(_CLICKS)


def _catalogue(source: Source, settings: Settings, pairs: pl.DataFrame, own_ids: list[str]) -> pl.DataFrame:
    """Returns the distinct targets by task: from the catalogue's files, or from the pairs for a task that no file covers."""
    options = Options.of(settings.source)
    frames = [conform(read_catalogue(source.catalogue, options))] if source.catalogue else []
    frames += [conform(Batch("categories", read_tsv(source.categories)), task="QC")] if source.categories else []
    listed = (
        pl.concat([frame.select(_CATALOGUE) for frame in frames])
        if frames
        else pl.DataFrame(schema=dict.fromkeys(_CATALOGUE, pl.String()))
    )
    used = pairs.select(_CATALOGUE).filter(~pl.col("task").is_in(listed["task"].unique().to_list()))
    together = _same_ids(pl.concat([listed, used]).drop_nulls().filter(pl.col("target") != ""), own_ids)
    return together.unique().sort(_CATALOGUE)


def _copy_companions(source: Source, out: Output) -> list[str]:
    """Copies the text of terms and brands in UTF-8; returns the names of the files found beside the logs.

    Both are parsed first, so that a run whose glossary can't be read ends here. Raises DataError.
    """
    if source.terms:
        read_terms(source.terms.read(), source.terms.address)
        # A fixed time in the gzip header: the same terms give the same bytes.
        out.bytes("terms.tsv.gz", gzip.compress(source.terms.text(), mtime=0))
    if source.brands:
        out.bytes("brands.txt", source.brands.text())
    files = (source.catalogue, source.categories, source.terms, source.brands)
    beside = [file.key for file in files if file] + (["clicks/"] if source.clicks else [])
    if beside:
        log.info("used too: %s", ", ".join(beside))
    return beside
