"""The first page: the champions, the outcomes of the last runs, the work that waits for people, and each language's readiness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from relevance_core.languages import named
from relevance_core.pairs import TASK_NAMES, TASKS, Task
from relevance_core.registry import Release
from relevance_core.reporting import plots
from relevance_core.reporting.blocks import Plot
from relevance_core.runs.folder import stage_record
from relevance_core.store import Store
from relevance_core.ui import history, languages, waiting
from relevance_core.ui.history import Figures, Outcome, Reader, RunRecord, Version
from relevance_core.ui.site import Site

SHOWN: Final = 30
"""Runs on the strip."""
_TOLD: Final = {
    "Published": "a better {} went out",
    "Held": "{} kept its champion",
    "Needs approval": "{} waits for an approval",
    "Not approved": "{} was not approved",
    "Rejected": "{} was rejected",
    "No answer": "nobody answered about {}",
    "Waits": "{} passed and waits",
    "No model": "nothing was trained for {}",
}
_SEEN: Final = 0.0005
"""The smallest change of F1 that three digits show."""
_SIGNS: Final = {"good": "✓", "wait": "–", "ask": "?", "bad": "✕", "none": "·"}


@dataclass(frozen=True)
class Champion:
    """The version that serves a task. since: the release that promoted it. languages: (name, True for an onboarded one)."""

    version: Version
    since: Release
    languages: Sequence[tuple[str, bool]]

    @property
    def figures(self) -> list[tuple[str, str]]:
        """Its main numbers, by name."""
        figures = self.version.figures
        shown = [("F1", f"{figures.f1:.3f}"), ("always yes", f"{figures.always_yes_f1:.3f}")] if figures else []
        return [*shown, ("threshold", f"{self.version.manifest.threshold:.3f}")]

    @property
    def tone(self) -> str:
        """ "good" when it is better than answering always yes."""
        figures = self.version.figures
        return "good" if figures and figures.f1 > figures.always_yes_f1 else "wait"


@dataclass(frozen=True)
class Square:
    """A task's place on the strip of runs."""

    run_id: str
    sign: str
    outcome: Outcome
    text: str


@dataclass(frozen=True)
class Latest:
    """The newest run. came, made: rows from the logs, and rows that stages made; lost: (stage and reason, fate, rows)."""

    run: RunRecord
    changes: Mapping[Task, Sequence[tuple[str, str, str]]]
    came: int
    made: int
    trained: Mapping[Task, int]
    lost: Sequence[tuple[str, str, int]]

    @property
    def thrown(self) -> int:
        """The number of rows that were quarantined or dropped."""
        return sum(rows for _, _, rows in self.lost)


def routes(site: Site) -> APIRouter:
    """Routes `/`."""
    router = APIRouter()

    @router.get("/")
    def overview(request: Request) -> Response:
        """Shows the page; the page of an empty store explains how to begin."""
        values = view(site.store, site.dag_id)
        return site.page(request, "overview.html", place="overview", **values)

    return router


def view(store: Store, dag_id: str) -> dict[str, Any]:
    """Returns the template's values for a store; damaged records are in `damaged`.

    Raises StoreError for a store that can't be read.
    """
    reader = Reader(store)
    with ThreadPoolExecutor(2) as pool:
        listed, manifests = pool.submit(history.recent, reader, SHOWN), pool.submit(history.versions, reader)
        log, runs, published = history.releases(reader), listed.result(), manifests.result()
    named = {*published, *(task for run in runs for task in run.about.settings.tasks)}
    tasks = [task for task in TASKS if task in named]
    champions = {task: found for task in tasks if (found := _champion(published.get(task, []), log, task))}
    serving = {task: champion.version for task, champion in champions.items()}
    latest = _latest(reader, runs[0]) if runs else None
    return {
        "title": headline(runs[0]) if runs else "Nothing has run yet",
        "latest": latest,
        "waiting": [*waiting.approvals(runs, serving, dag_id), *waiting.reviews(reader, runs, tasks)],
        "tasks": {task: TASK_NAMES[task] for task in tasks},
        "champions": champions,
        "strips": {task: _strip(runs, task) for task in tasks} if runs else {},
        "trends": [_trend(task, published[task], log) for task in tasks if task in published],
        "ready": languages.ready(reader, runs, tasks, serving),
        "ready_headings": languages.HEADINGS,
        "damaged": sorted(set(reader.damaged)),
    }


def headline(run: RunRecord) -> str:
    """Sums up the newest run in a sentence."""
    words = {task: outcome.word for task, outcome in run.outcomes.items()}
    if len(set(words.values())) == 1 and (word := next(iter(words.values()))) not in _TOLD:
        return f"The newest run {'is ' if word.startswith('At ') else ''}{word.lower()}"
    told = [_TOLD.get(word, "{}: " + word.lower()).format(task) for task, word in words.items()]
    text = "; ".join(told)
    return text[:1].upper() + text[1:]


def _champion(versions: Sequence[Version], log: Sequence[Release], task: Task) -> Champion | None:
    """Returns the version that serves a task; None where nothing serves or its record is damaged."""
    serving = [release for release in log if task in release.versions]
    if not serving:
        return None
    since = serving[-1]
    for release in reversed(serving):
        if release.versions[task] != since.versions[task]:
            break
        since = release
    for version in versions:
        if version.manifest.version == since.versions[task]:
            onboarded = version.manifest.onboarded
            served = [(named(language), language in onboarded) for language in version.manifest.languages]
            return Champion(version, since, sorted(served))
    return None


def _latest(reader: Reader, run: RunRecord) -> Latest:
    records = history.whole(reader, run)
    changes = {task: _changes(run, figures) for task in run.outcomes if (figures := history.judged(reader, records, run, task))}
    came = records["ingest"].rows if "ingest" in records else None
    trained = {task: record.rows.kept for task in run.outcomes if (record := records.get(stage_record("denoise", task)))}
    lost = [
        (f"{name.replace('-qc', ' QC').replace('-qi', ' QI')} · {reason.partition(': ')[2]}", reason.partition(": ")[0], rows)
        for name, record in records.items()
        if name != "base"
        for reason, rows in record.rows.reasons.items()
    ]
    lost.sort(key=lambda row: (-row[2], row[0]))
    made = sum(record.rows.made for name, record in records.items() if name != "base")
    return Latest(run, changes, came.kept + came.quarantined + came.dropped if came else 0, made, trained, lost)


def _changes(run: RunRecord, figures: Figures) -> list[tuple[str, str, str]]:
    """Returns (language, change of F1 against the champion or a word instead, tone) of each language, the largest change first."""
    champion = figures.champion
    if champion is None:
        return [(named(name), f"{of.f1:.3f}", "none") for name, of in sorted(figures.per_language.items())]
    found = []
    for name, of in figures.per_language.items():
        old = champion.per_language.get(name)
        change = of.f1 - old.f1 if old else 0.0
        new = " new" if name in run.about.onboarded and name not in champion.languages else ""
        tone = "good" if change >= _SEEN else "bad" if change <= -_SEEN else "none"
        found.append((-abs(change), (named(name) + new, f"{change:+.3f}" if tone != "none" else "0.000", tone)))
    return [shown for _, shown in sorted(found)]


def _strip(runs: Sequence[RunRecord], task: Task) -> list[Square | None]:
    """Returns the runs of a task, oldest first; None for a run without it."""
    return [_square(run, task) for run in reversed(runs)]


def _square(run: RunRecord, task: Task) -> Square | None:
    outcome = run.outcomes.get(task)
    if outcome is None:
        return None
    begun = datetime.fromtimestamp(run.begun, UTC)
    text = f"{outcome.word}: {task}, run {run.run_id}, begun {begun:%Y-%m-%d %H:%M} UTC. {outcome.text}"
    return Square(run.run_id, _SIGNS[outcome.tone], outcome, text)


def _trend(task: Task, versions: Sequence[Version], log: Sequence[Release]) -> Plot:
    """Plots F1 of a task over its versions, overall and by language, with marks for those that served."""
    numbers: dict[str, list[int]] = {}
    for release in log:
        if task in release.versions:
            numbers.setdefault(release.versions[task], []).append(release.number)
    judged = [version for version in versions if version.figures]
    counts: dict[str, int] = {}
    for version in judged:
        for language in version.figures.per_language if version.figures else ():
            counts[language] = counts.get(language, 0) + 1
    languages = sorted(counts, key=lambda language: (-counts[language], language))
    lines: dict[str, list[float | None]] = {"all languages": [version.figures.f1 for version in judged if version.figures]}
    for language in languages:
        of_language = [version.figures.per_language.get(language) for version in judged if version.figures]
        lines[named(language)] = [of.f1 if of else None for of in of_language]
    labels = [f"{version.manifest.created[:10]} · {version.manifest.version[:8]}" for version in judged]
    served = [version.manifest.version in numbers for version in judged]
    counted = "1 version" if len(versions) == 1 else f"{len(versions)} versions"
    return Plot(
        f"{task} · {TASK_NAMES[task]}",
        f"{counted}, oldest first; a filled dot served. Each F1 is on the judgement rows of its own night.",
        plots.over_versions(labels, lines, served),
        ["version", "served since release", *lines],
        [
            [label, _first(numbers, version), *(values[n] for values in lines.values())]
            for n, (label, version) in enumerate(zip(labels, judged, strict=True))
        ][::-1],
    )


def _first(numbers: Mapping[str, Sequence[int]], version: Version) -> int | None:
    return min(numbers.get(version.manifest.version, ()), default=None)
