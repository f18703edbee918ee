"""A run's plan for the languages that it onboards, made and logged when the run begins.

A plan is plain JSON: `from` (the earlier run whose rows it was estimated with; empty without one), `translator` (`name`, `version`;
None without a glossary or an earlier run), `languages` and `text` (the same for people, one line each). `languages` has, by
language and task, `why`, `rows` (to translate; an upper bound without an earlier run), and, None where not known yet, `sources`
(rows to translate by source language), `texts` (distinct texts among them), `remembered` (texts already in the translation memory,
which cost nothing), `judgement_rows` (in the language) and `asks` (whether the gate will ask a person because these are too few).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, cast

import polars as pl

from relevance_core.config import Settings
from relevance_core.errors import RelevanceError, SettingsError
from relevance_core.languages import LANGUAGES
from relevance_core.pairs import Task
from relevance_core.registry import Registry
from relevance_core.runs import folder
from relevance_core.runs.artifacts import Artifact
from relevance_core.runs.run import Run
from relevance_core.sources import Source
from relevance_core.stages.gate import evidence
from relevance_core.stages.translate.stage import ONBOARDED, Want, require_translations, samples, translator_beside, wants
from relevance_core.translators import Translator, count_remembered

log = logging.getLogger(__name__)

NOTHING: Final = "no language comes in, and none has fewer rows than the quota: nothing is translated for new rows"
UNTRANSLATED: Final = "translate.enabled is off: no rows are made for any language"


_UNREADABLE: Final = (RelevanceError, ValueError, EOFError, OSError, KeyError, pl.exceptions.PolarsError)
"""Errors of reading a glossary or an earlier run. *ingest* or *translate* raises them again, with a report for people."""


def check_onboarded(settings: Settings, source: Source | None) -> Translator | None:
    """Refuses at once a language that is unknown, and an onboarded language that can't be translated into.

    Returns the run's translator where the check opened it. Raises SettingsError.
    """
    if odd := sorted(set(settings.validation.languages or ()) - set(LANGUAGES)):
        raise SettingsError(
            f"unknown language: {', '.join(odd)}",
            where="validation.languages",
            expected=", ".join(sorted(LANGUAGES)),
            do="correct the code (docs/languages.md lists them), or leave it out",
        )
    known = set(settings.validation.languages or LANGUAGES)
    if unknown := sorted(set(settings.onboard) - known):
        raise SettingsError(
            f"unknown language to onboard: {', '.join(unknown)}",
            where="onboard",
            expected=", ".join(sorted(known)),
            do="correct the code (docs/languages.md lists them), or leave it out",
        )
    if source is None or not settings.onboard or not settings.translate.enabled:
        return None
    try:
        translator = translator_beside(settings, source)
    except _UNREADABLE:
        return None
    require_translations(settings, translator, known, settings.onboard)
    return translator


def make(run: Run, source: Source | None, translator: Translator | None = None) -> dict[str, Any]:
    """Makes the plan of a run, or finds the one that it made when it began, and logs it line by line.

    translator: the run's own where it has been opened.
    """
    if not folder.has(run.store, run.run_id, folder.PLAN):
        estimated = None if source is None else _from_earlier(run, source, translator)
        folder.create(run.store, run.run_id, folder.PLAN, estimated or unknown(run.settings, run.onboarded))
    plan = folder.read(run.store, run.run_id, folder.PLAN)
    for line in plan["text"]:
        log.info("plan: %s", line)
    return plan


def _from_earlier(run: Run, source: Source, translator: Translator | None) -> dict[str, Any] | None:
    """Returns the plan by the newest other run that has split its rows; None without such a run, or where it can't be read."""
    told = "the earlier runs"
    try:
        for run_id in _earlier(run):
            told = f"run {run_id}"
            if split := replace(run, run_id=run_id).found("split"):
                translator = translator or translator_beside(run.settings, source)
                return forecast(run.settings, run.onboarded, _served(run), run_id, split, translator)
    except _UNREADABLE as error:  # a forecast must not fail a run
        log.warning("plan: %s can't be used for a forecast: %s: %s", told, type(error).__name__, error)
    return None


def _earlier(run: Run) -> list[str]:
    """Returns the ids of the other runs that have split their rows, newest first."""
    others = folder.having(run.store, folder.stage_record("split"))
    others.pop(run.run_id, None)
    return folder.newest_first({run_id: entry.modified for run_id, entry in others.items()})


def _served(run: Run) -> dict[Task, tuple[str, ...]]:
    """Returns task → the languages that its champion was trained on."""
    registry = Registry(run.store)
    found = {cast(Task, task): version for task, version in run.champion.items()}
    return {task: registry.resolve(task, version).languages for task, version in found.items()}


def forecast(
    settings: Settings,
    onboarded: tuple[str, ...],
    served: Mapping[Task, tuple[str, ...]],
    run_id: str,
    split: Artifact,
    translator: Translator | None,
) -> dict[str, Any]:
    """Estimates the plan from an earlier run's rows and the run's own translator, choosing texts with *translate*'s own functions.

    The earlier run lacks this run's fresh rows, so its counts are close to the run's but not equal.

    Args:
        settings: the run's.
        onboarded: the languages that come in.
        served: task → the languages that its champion was trained on.
        run_id: the earlier run.
        split: its output of *split*.
        translator: the run's own; None where it has none.
    """
    train, dev = split.table("train"), split.table("dev")
    languages: dict[str, Any] = {}
    wanted = wants(settings, train, onboarded)
    for want, sample in samples(settings, wanted, train, translator):
        about = {"why": want.why, "rows": 0 if sample is None else len(sample)}
        about |= _cost(want, sample, translator, split) | _evidence(settings, want, dev, served.get(want.task, ()))
        languages.setdefault(want.language, {})[want.task] = about
    named = {"name": translator.name, "version": translator.version} if translator else None
    text = [_line(language, task, about) for language, tasks in languages.items() for task, about in tasks.items()]
    by = f"; the translator is {translator.name} {translator.version}" if translator else "; there is no glossary to translate with"
    return _plan(settings, run_id, named, languages, [f"estimated from the rows of run {run_id}{by}", *text] if text else [])


def unknown(settings: Settings, onboarded: tuple[str, ...]) -> dict[str, Any]:
    """Returns the plan where no earlier run has split its rows: upper bounds, and the time when more is known."""
    languages: dict[str, Any] = {}
    nothing = dict.fromkeys(("sources", "texts", "remembered", "judgement_rows", "asks"))
    for language in onboarded if settings.translate.enabled else ():
        for task in settings.tasks:
            most = settings.translate.rows.get(task, 0)
            languages.setdefault(language, {})[task] = {"why": ONBOARDED, "rows": most} | nothing
    sources = ", ".join(settings.translate.sources) or "every trained language"
    told = [
        f"{language} {task}: at most {about['rows']} rows from {sources}"
        for language, tasks in languages.items()
        for task, about in tasks.items()
    ]
    later = "there is no earlier run to estimate from: rows, sources and cost are known after *split*, and *translate* says them"
    return _plan(settings, "", None, languages, [later, *told] if settings.translate.enabled else [])


def _plan(
    settings: Settings, run_id: str, translator: Mapping[str, str] | None, languages: Mapping[str, Any], text: list[str]
) -> dict[str, Any]:
    nothing = NOTHING if settings.translate.enabled else UNTRANSLATED
    return {"from": run_id, "translator": translator, "languages": languages, "text": text or [nothing]}


def _cost(want: Want, sample: pl.DataFrame | None, translator: Translator | None, split: Artifact) -> dict[str, Any]:
    """Returns the rows to translate by source language, and the number of texts to translate for them."""
    if translator is None or sample is None:
        return {"sources": {}, "texts": 0, "remembered": 0}
    sources = dict(sample.group_by("language").len().sort("language").iter_rows())
    counts = [
        count_remembered(translator, split.store, sample.filter(language=source)["query"], source, want.language)
        for source in sources
    ]
    return {"sources": sources, "texts": sum(texts for texts, _ in counts), "remembered": sum(known for _, known in counts)}


def _evidence(settings: Settings, want: Want, dev: pl.DataFrame, served: tuple[str, ...]) -> dict[str, Any]:
    """Returns the language's judgement rows, and whether the gate's rule finds them enough."""
    rows = dev.filter(task=want.task, language=want.language, part="judgement")
    found = {"per_language": {want.language: {"rows": len(rows), "positives": int(rows["label"].sum())}}}
    comes_in = want.why == ONBOARDED and want.language not in served and want.task in settings.tasks
    missing = [reason for reason in evidence(found, [want.language], settings.gate) if not reason.passed]
    return {"judgement_rows": len(rows), "asks": comes_in and bool(missing)}


def _line(language: str, task: str, about: Mapping[str, Any]) -> str:
    if not about["sources"]:
        return f"{language} {task} ({about['why']}): no rows, since nothing can be translated into it"
    sources = ", ".join(f"{source} {rows}" for source, rows in about["sources"].items())
    cost = f"{about['texts']} texts, {about['remembered']} of them in the translation memory"
    judged = f"{about['judgement_rows']} judgement rows{', too few: a person will be asked' if about['asks'] else ''}"
    return f"{language} {task} ({about['why']}): {about['rows']} rows from {sources}; {cost}; {judged}"
