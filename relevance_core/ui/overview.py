"""The first page: what serves, what the last runs came to, what waits for a person, and how ready each language is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

import polars as pl
from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import ValidationError

from relevance_core import review
from relevance_core.approval import NEEDED
from relevance_core.errors import NotFound, StoreError
from relevance_core.languages import LANGUAGES
from relevance_core.pairs import TASK_NAMES, TASKS, Task
from relevance_core.reporting import plots
from relevance_core.reporting.blocks import Cell, Plot
from relevance_core.stages.base import open_artifact
from relevance_core.store import Entry, Release, Store
from relevance_core.ui import history
from relevance_core.ui.history import Figures, Kept, LanguageFigures, Outcome, Reader, RunRecord, StageFile, Version
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
_REQUIRED: Final = "/dags/{}/runs/{}/required_actions?response_received=false"
"""Airflow's page of what a DAG run asks people."""
_QUEUES: Final = Kept(64)
"""The lengths of review queues."""
_SEEN: Final = 0.0005
"""The smallest change of F1 that three digits show."""
_SIGNS: Final = {"good": "✓", "wait": "–", "ask": "?", "bad": "✕", "none": "·"}


@dataclass(frozen=True)
class Waiting:
    """Something that a person has to do. to: where its link leads, below the root of these pages or, if `airflow`, of Airflow's."""

    text: str
    link: str
    to: str
    airflow: bool = False


@dataclass(frozen=True)
class Champion:
    """What serves a task. since: the release that brought it. languages: (name, whether it was onboarded)."""

    version: Version
    since: Release
    languages: Sequence[tuple[str, bool]]

    @property
    def figures(self) -> list[tuple[str, str]]:
        """The few numbers that matter."""
        figures = self.version.figures
        shown = [("F1", f"{figures.f1:.3f}"), ("always yes", f"{figures.always_yes_f1:.3f}")] if figures else []
        return [*shown, ("threshold", f"{self.version.manifest.threshold:.3f}")]

    @property
    def tone(self) -> str:
        """Good when it is better than answering always yes."""
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
class Ready:
    """A language of a task. tone and state: whether it serves, and on how much evidence; cells: its numbers."""

    language: str
    tone: str
    state: str
    cells: Sequence[Cell]


READY_HEADINGS: Final = ("F1", "AUC", "judged", "dev", "from the log", "translated", "negatives", "untranslated")


@dataclass(frozen=True)
class Latest:
    """The newest run. came, made: rows that the logs had, and that stages made; lost: (stage and reason, what happened, rows)."""

    run: RunRecord
    changes: Mapping[Task, Sequence[tuple[str, str, str]]]
    came: int
    made: int
    trained: Mapping[Task, int]
    lost: Sequence[tuple[str, str, int]]

    @property
    def thrown(self) -> int:
        """Rows that were quarantined or dropped."""
        return sum(rows for _, _, rows in self.lost)


def routes(site: Site) -> APIRouter:
    """`/`."""
    router = APIRouter()

    @router.get("/")
    def overview(request: Request) -> Response:
        """The page; one for an empty store says how to begin."""
        values = view(site.store, site.dag_id)
        return site.page(request, "overview.html", place="overview", **values)

    return router


def view(store: Store, dag_id: str) -> dict[str, Any]:
    """What the template shows of a store. Raises StoreError for a store that can't be read; damaged records are in `damaged`."""
    reader = Reader(store)
    with ThreadPoolExecutor(2) as pool:
        listed, manifests = pool.submit(history.recent, reader, SHOWN), pool.submit(history.versions, reader)
        log, runs, published = history.releases(reader), listed.result(), manifests.result()
    named = {*published, *(task for run in runs for task in run.about.settings.tasks)}
    tasks = [task for task in TASKS if task in named]
    champions = {task: found for task in tasks if (found := _champion(published.get(task, []), log, task))}
    latest = _latest(reader, runs[0]) if runs else None
    return {
        "title": headline(runs[0]) if runs else "Nothing has run yet",
        "latest": latest,
        "waiting": [*_approvals(runs, champions, dag_id), *_reviews(reader, runs, tasks)],
        "tasks": {task: TASK_NAMES[task] for task in tasks},
        "champions": champions,
        "strips": {task: _strip(runs, task) for task in tasks} if runs else {},
        "trends": [_trend(task, published[task], log) for task in tasks if task in published],
        "ready": _ready(reader, runs, tasks, champions),
        "ready_headings": READY_HEADINGS,
        "damaged": sorted(set(reader.damaged)),
    }


def headline(run: RunRecord) -> str:
    """What the newest run came to, in a sentence."""
    words = {task: outcome.word for task, outcome in run.outcomes.items()}
    if len(set(words.values())) == 1 and (word := next(iter(words.values()))) not in _TOLD:
        return f"The newest run {'is ' if word.startswith('At ') else ''}{word.lower()}"
    told = [_TOLD.get(word, "{}: " + word.lower()).format(task) for task, word in words.items()]
    text = "; ".join(told)
    return text[:1].upper() + text[1:]


def _champion(versions: Sequence[Version], log: Sequence[Release], task: Task) -> Champion | None:
    """What serves a task, or None: nothing does, or its record is damaged."""
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
            languages = [(_named(language), language in onboarded) for language in version.manifest.languages]
            return Champion(version, since, sorted(languages))
    return None


def _named(language: str) -> str:
    return LANGUAGES.get(language, language)


def _approvals(runs: Sequence[RunRecord], champions: Mapping[Task, Champion], dag_id: str) -> Iterator[Waiting]:
    """Verdicts that only a person can turn into a release: asked in Airflow, or left behind by a run from the command line."""
    judged: set[Task] = set()
    for run in runs:
        for task, outcome in run.outcomes.items():
            version = _version_of(run, task)
            if run.waits(task) and run.about.dag_run:
                to = _REQUIRED.format(quote(dag_id, safe=""), quote(run.about.dag_run, safe=""))
                yield Waiting(f"{task} {version} waits for an approval: {outcome.text}", "Decide in Airflow", to, airflow=True)
            elif task not in judged and _left(run, task) and not _serves(champions.get(task), version):
                text = f"{task} {version} serves only if somebody says so: relevance registry promote {task}={version} --why …"
                yield Waiting(text, "See the run", f"/run/{quote(run.run_id, safe='')}")
            judged |= {task} if run.of("gate", task) else set()


def _version_of(run: RunRecord, task: Task) -> str:
    publish = run.of("publish", task)
    return str(publish.figures.get("version", "")) if publish else ""


def _left(run: RunRecord, task: Task) -> bool:
    """Whether the run left a version that needs an approval, and ended without anybody's answer: nobody was asked."""
    gate = run.of("gate", task)
    asked = gate is not None and gate.figures.get("verdict") == NEEDED
    return asked and run.ended and task not in run.answers


def _serves(champion: Champion | None, version: str) -> bool:
    return champion is not None and champion.version.manifest.version == version


def _reviews(reader: Reader, runs: Sequence[RunRecord], tasks: Sequence[Task]) -> Iterator[Waiting]:
    """The rows that the newest filter lists for review, without the decided ones."""
    listing = {task: entry for task in tasks if (entry := _listing(reader, runs, task))}
    if not listing:
        return
    decided = reader.store.list("review/decisions/")
    # Objects with decisions only come, and are never written again: their number and the last one tell whether there are others.
    state = (str(len(decided)), decided[-1].key if decided else "")
    rows = {task: count for task, entry in listing.items() if (count := _queued(reader, task, entry, state))}
    if rows:
        told = ", ".join(f"{task} {count:,}" for task, count in rows.items())
        yield Waiting(f"{sum(rows.values()):,} labels are doubted and wait for a look ({told})", "Review them", "/review")


def _listing(reader: Reader, runs: Sequence[RunRecord], task: Task) -> Entry | None:
    """The newest filter's record, if the filter lists rows for review."""
    name = f"denoise-{task.lower()}"
    newest = next((run.entries[name] for run in runs if name in run.entries), None)
    record = reader.read([newest], StageFile.parse).get(newest.key) if newest else None
    return newest if record is not None and record.figures.get("action") == review.ACTION else None


def _queued(reader: Reader, task: Task, denoise: Entry, decided: tuple[str, str]) -> int:
    state = (reader.store.uri, denoise.key, denoise.tag, *decided)
    rows = _QUEUES.get(state)
    if rows is None:
        record = reader.read([denoise], StageFile.parse)[denoise.key]
        try:
            rows = _undecided(reader.store, task, record)
        except (NotFound, StoreError, pl.exceptions.PolarsError) as error:
            reader.damaged.append(f"the review queue of {task}: {error}")
            return 0
        _QUEUES.put(state, rows)
    return int(rows)


def _undecided(store: Store, task: Task, denoise: StageFile) -> int:
    """The rows that a filter listed for review, without those that were decided since; its ledger is opened only if some were."""
    acted = denoise.figures.get("acted")
    decided = review.decisions(store).filter(task=task).lazy().select("pair_id")
    ledger = open_artifact(store, denoise.address, verify=False) if decided.collect().height else None
    if ledger is None:
        return acted if isinstance(acted, int) else 0
    listed = pl.scan_parquet(ledger.path("ledger.parquet")).filter(pl.col("action") == review.ACTION).select("pair_id")
    return int(listed.join(decided, on="pair_id", how="anti").select(pl.len()).collect().item())


def _latest(reader: Reader, run: RunRecord) -> Latest:
    records = history.whole(reader, run)
    changes = {task: _changes(run, figures) for task in run.outcomes if (figures := _judged(reader, records, run, task))}
    came = records["ingest"].rows if "ingest" in records else None
    trained = {task: record.rows.kept for task in run.outcomes if (record := records.get(f"denoise-{task.lower()}"))}
    lost = [
        (f"{name.replace('-qc', ' QC').replace('-qi', ' QI')} · {reason.partition(': ')[2]}", reason.partition(": ")[0], rows)
        for name, record in records.items()
        if name != "base"
        for reason, rows in record.rows.reasons.items()
    ]
    lost.sort(key=lambda row: (-row[2], row[0]))
    made = sum(record.rows.made for name, record in records.items() if name != "base")
    return Latest(run, changes, came.kept + came.quarantined + came.dropped if came else 0, made, trained, lost)


def _judged(reader: Reader, records: Mapping[str, StageFile], run: RunRecord, task: Task) -> Figures | None:
    """The figures that *evaluate* recorded in a run."""
    name = f"evaluate-{task.lower()}"
    if name not in records:
        return None
    try:
        return Figures.model_validate(records[name].figures)
    except ValidationError as error:
        reader.damaged.append(f"{run.entries[name].key}: {error.error_count()} figures are missing or no numbers")
        return None


def _changes(run: RunRecord, figures: Figures) -> list[tuple[str, str, str]]:
    """(language, change of F1 against the champion or what it is, tone) of each language, the largest change first."""
    champion = figures.champion
    if champion is None:
        return [(_named(name), f"{of.f1:.3f}", "none") for name, of in sorted(figures.per_language.items())]
    found = []
    for name, of in figures.per_language.items():
        old = champion.per_language.get(name)
        change = of.f1 - old.f1 if old else 0.0
        new = " new" if name in run.about.onboarded and name not in champion.languages else ""
        tone = "good" if change >= _SEEN else "bad" if change <= -_SEEN else "none"
        found.append((-abs(change), (_named(name) + new, f"{change:+.3f}" if tone != "none" else "0.000", tone)))
    return [shown for _, shown in sorted(found)]


def _strip(runs: Sequence[RunRecord], task: Task) -> list[Square | None]:
    """The runs of a task, oldest first; None for a run without it."""
    return [_square(run, task) for run in reversed(runs)]


def _square(run: RunRecord, task: Task) -> Square | None:
    outcome = run.outcomes.get(task)
    if outcome is None:
        return None
    begun = datetime.fromtimestamp(run.begun, UTC)
    text = f"{outcome.word}: {task}, run {run.run_id}, begun {begun:%Y-%m-%d %H:%M} UTC. {outcome.text}"
    return Square(run.run_id, _SIGNS[outcome.tone], outcome, text)


def _trend(task: Task, versions: Sequence[Version], log: Sequence[Release]) -> Plot:
    """F1 of a task over its versions, overall and by language, with marks for those that served."""
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
        lines[_named(language)] = [of.f1 if of else None for of in of_language]
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


def _ready(
    reader: Reader, runs: Sequence[RunRecord], tasks: Sequence[Task], champions: Mapping[Task, Champion]
) -> dict[Task, list[Ready]]:
    """The languages of each task, by the rows of the newest run that has split them and the figures of what serves."""
    run = next((run for run in runs if "split" in run.entries), None)
    if run is None:
        return {}
    records = history.whole(reader, run)
    found = {}
    for task in tasks:
        champion = champions.get(task)
        figures = champion.version.figures if champion else _judged(reader, records, run, task)
        rows = _rows(records, task)
        judged = figures.per_language if figures else {}
        served = champion.version.manifest.languages if champion else ()
        names = sorted({*rows, *judged, *served}, key=lambda name: (-sum(rows.get(name, {}).values()), name))
        wanted = run.about.settings.gate.min_evidence_rows
        found[task] = [
            _language(name, rows.get(name, {}), judged.get(name), name in served, wanted, _untranslated(records, name))
            for name in names
        ]
    return found


def _rows(records: Mapping[str, StageFile], task: Task) -> dict[str, dict[str, int]]:
    """Language → rows by where they come from and what they are for, as the stages counted them."""

    def counted(stage: str, *path: str) -> Mapping[str, Any]:
        value: Any = records[stage].figures if stage in records else {}
        for step in path:
            value = value.get(step) if isinstance(value, dict) else None
        return value if isinstance(value, dict) else {}

    made = {language: counted("translate", "languages", language, "made_by_task") for language in counted("translate", "languages")}
    sources: dict[str, Mapping[str, Any]] = {
        "from the log": counted("split", "train", task),
        "translated": {language: of.get(task, 0) for language, of in made.items()},
        "negatives": counted(f"mine-{task.lower()}", "added_by_language"),
        "dev": counted("split", "dev", task),
    }
    found: dict[str, dict[str, int]] = {}
    for name, by_language in sources.items():
        for language, rows in by_language.items():
            if isinstance(rows, int):
                found.setdefault(language, {})[name] = rows
    return found


def _language(
    language: str, rows: Mapping[str, int], judged: LanguageFigures | None, served: bool, wanted: int, share: float | None
) -> Ready:
    """A language of a task. wanted: judged rows that make it ready; share: of its translated words that were left as they are."""
    enough = judged is not None and judged.rows >= wanted and 0 < judged.positives < judged.rows
    seen = judged.rows if judged else 0
    trained = any(rows.get(name) for name in ("from the log", "translated", "negatives"))
    if served:
        evidence = f"judged on {seen} of {wanted} rows" if seen < wanted else "judged rows of one label only"
        tone, state = ("good", "ready") if enough else ("wait", evidence)
    else:
        tone, state = ("none", "does not serve yet") if trained else ("wait", "no training rows")
    numbers = (judged.f1, judged.auc) if judged else (None, None)
    scores: list[Cell] = [None if number is None else f"{number:.3f}" for number in numbers]
    counts = [rows.get(name, 0) for name in READY_HEADINGS[3:7]]
    return Ready(_named(language), tone, state, [*scores, seen, *counts, None if share is None else f"{share:.1%}"])


def _untranslated(records: Mapping[str, StageFile], language: str) -> float | None:
    """The share of a language's words that the translator did not know; None where nothing was translated."""
    languages = records["translate"].figures.get("languages") if "translate" in records else None
    about = languages.get(language) if isinstance(languages, dict) else None
    share = about.get("untranslated_share") if isinstance(about, dict) else None
    return share if isinstance(share, float) else None
