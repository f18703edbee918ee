"""The readiness of each language: its rows by origin, and the evidence on which it serves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from relevance_core.languages import named
from relevance_core.pairs import Task
from relevance_core.reporting.blocks import Cell
from relevance_core.runs.folder import StageFile
from relevance_core.ui import history
from relevance_core.ui.history import LanguageFigures, Reader, RunRecord, Version


@dataclass(frozen=True)
class Ready:
    """A language of a task. tone and state: whether it serves, and on how much evidence; cells: its numbers."""

    language: str
    tone: str
    state: str
    cells: Sequence[Cell]


HEADINGS: Final = ("F1", "AUC", "judged", "dev", "from the log", "translated", "negatives", "untranslated")


def ready(
    reader: Reader, runs: Sequence[RunRecord], tasks: Sequence[Task], serving: Mapping[Task, Version]
) -> dict[Task, list[Ready]]:
    """Returns the languages of each task, by the rows of the newest run that has split them and the champion's figures.

    Args:
        reader: reads the runs' records.
        runs: newest first.
        tasks: to show.
        serving: task → champion.
    """
    run = next((run for run in runs if "split" in run.entries), None)
    if run is None:
        return {}
    records = history.whole(reader, run)
    found = {}
    for task in tasks:
        version = serving.get(task)
        figures = version.figures if version else history.judged(reader, records, run, task)
        rows = _rows(records, task)
        judged = figures.per_language if figures else {}
        served = version.manifest.languages if version else ()
        names = sorted({*rows, *judged, *served}, key=lambda name: (-sum(rows.get(name, {}).values()), name))
        wanted = run.about.settings.gate.min_evidence_rows
        found[task] = [
            _language(name, rows.get(name, {}), judged.get(name), name in served, wanted, _untranslated(records, name))
            for name in names
        ]
    return found


def _rows(records: Mapping[str, StageFile], task: Task) -> dict[str, dict[str, int]]:
    """Returns language → rows by origin and purpose, as the stages counted them."""

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
    """Describes a language of a task.

    Args:
        language: its code.
        rows: by origin and purpose.
        judged: its figures, or None.
        served: True where the champion serves it.
        wanted: number of judged rows that make it ready.
        share: of its translated words that were left untranslated, or None.
    """
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
    counts = [rows.get(name, 0) for name in HEADINGS[3:7]]
    return Ready(named(language), tone, state, [*scores, seen, *counts, None if share is None else f"{share:.1%}"])


def _untranslated(records: Mapping[str, StageFile], language: str) -> float | None:
    """Returns the share of a language's words that the translator did not know; None where nothing was translated."""
    languages = records["translate"].figures.get("languages") if "translate" in records else None
    about = languages.get(language) if isinstance(languages, dict) else None
    share = about.get("untranslated_share") if isinstance(about, dict) else None
    return share if isinstance(share, float) else None
