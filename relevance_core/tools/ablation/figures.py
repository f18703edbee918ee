"""The figures of an ablation: the quality of each row of its table, and its strategy's gain, with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import mean
from typing import Any, Final, Literal

import polars as pl

from relevance_core.metrics import Gain, Paired, gain_over_seeds, measure
from relevance_core.tools.ablation.ablation import Cell, Plan
from relevance_core.tools.ablation.strategies import Row

Figures = dict[str, Any]
Says = Literal["keep", "noise", "harm"]

RESAMPLES: Final = 1000
MEASURED: Final = ("f1", "macro_f1", "auc", "always_yes_f1", "false_positive_rate")
_PLAIN_THRESHOLD: Final = 0.5


def figures(plan: Plan, cells: Sequence[Cell]) -> Figures:
    """Computes all figures of an ablation as plain JSON values.

    Keys: `seeds`, `source`, `judge`, `sources` and, by task, `rows` and `gap`. `sources` is the gain that each source language gave
    each target. A row has the mean over the seeds, the smallest and the largest of MEASURED, over all languages and for each, and
    its `gain` in F1 over the row it is compared with. Raises DataError where no row judges.
    """
    tasks: Figures = {}
    for task in plan.settings.tasks:
        mine = [cell for cell in cells if cell.task == task]
        tasks[task] = {"rows": [_row(plan, row, mine) for row in plan.rows], "gap": _gaps(plan, mine)}
    return {
        "seeds": list(plan.seeds),
        "source": plan.settings.source.uri or "a query",
        "judge": plan.judge,
        "onboarded": list(plan.settings.onboard),
        "sources": _sources(plan, cells),
        "tasks": tasks,
    }


def says(gain: Gain) -> Says:
    """Reads the interval of a gain: keep the strategy, noise (no measurable effect), or harm."""
    if gain.low > 0:
        return "keep"
    return "harm" if gain.high < 0 else "noise"


def _row(plan: Plan, row: Row, cells: Sequence[Cell]) -> Figures:
    own = _of(row, cells)
    measured = [_measure(row, cell) for cell in own]
    languages = sorted({language for figures in measured for language in figures["per_language"]})
    found: Figures = {"name": row.name, "source": row.source, "rows": measured[0]["rows"]} | _spreads(measured)
    found["per_language"] = {
        language: _spreads([figures["per_language"][language] for figures in measured if language in figures["per_language"]])
        for language in languages
    }
    found["gain"] = None
    if row.beside is not None:
        beside = next(other for other in plan.rows if other.name == row.beside)
        gain = _gain(row, beside, cells, plan.settings.seed)
        found["gain"] = gain.as_json() | {"beside": row.beside, "says": says(gain)}
        for language, of_language in found["per_language"].items():
            only = _gain(row, beside, cells, plan.settings.seed, language)
            of_language["gain"] = only.as_json() | {"says": says(only)}
    return found


def _of(row: Row, cells: Sequence[Cell]) -> list[Cell]:
    return [cell for cell in cells if cell.row == row.name]


def _threshold(row: Row, cell: Cell) -> float:
    return cell.threshold if row.calibrated else _PLAIN_THRESHOLD


def _measure(row: Row, cell: Cell) -> Figures:
    rows = cell.answers
    return measure(rows["p"].to_numpy(), rows["label"].to_numpy() == 1, rows["language"].to_list(), _threshold(row, cell))


def _spreads(measured: Sequence[Figures]) -> Figures:
    """Returns each of MEASURED as mean, smallest and largest over the seeds; None where only one class occurs."""
    spreads: Figures = {}
    for name in MEASURED:
        values = [figures[name] for figures in measured if figures[name] is not None]
        spreads[name] = {"mean": mean(values), "smallest": min(values), "largest": max(values)} if values else None
    return spreads


def _gain(row: Row, beside: Row, cells: Sequence[Cell], seed: int, language: str | None = None) -> Gain:
    """Measures the gain in F1 of one row over another, over the seeds.

    Args:
        row: the new row.
        beside: the row to compare it with.
        cells: of all rows.
        seed: of the bootstrap.
        language: whose rows alone count; None for all.
    """
    pairs = []
    for new, old in _paired(row, beside, cells):
        rows, others = (cell.answers if language is None else cell.answers.filter(language=language) for cell in (new, old))
        pairs.append(_pair(rows, others, _threshold(row, new), _threshold(beside, old)))
    return gain_over_seeds(pairs, RESAMPLES, seed)


def _pair(new: pl.DataFrame, old: pl.DataFrame, threshold: float, threshold_of_old: float) -> Paired:
    """Pairs the decisions of two cells on the rows that both answered.

    Args:
        new: answers of the new cell.
        old: answers of the other.
        threshold: of the new cell.
        threshold_of_old: of the other.
    """
    rows = new.join(old.select("pair_id", old="p"), on="pair_id", how="inner", maintain_order="left")
    a, b = rows["p"].to_numpy() >= threshold, rows["old"].to_numpy() >= threshold_of_old
    return Paired(rows["label"].to_numpy() == 1, a, b, rows["group"].to_list())


def _calibrated(new: Cell, old: Cell, language: str) -> Paired:
    """Pairs the decisions of two cells on the calibration rows of a language, at p(yes) = 0.5."""
    rows, others = (cell.calibration.filter(language=language) for cell in (new, old))
    return _pair(rows, others, _PLAIN_THRESHOLD, _PLAIN_THRESHOLD)


def _sources(plan: Plan, cells: Sequence[Cell]) -> Figures:
    """Returns onboarded language → source language → the gain in F1 over no translation, with its interval.

    On the calibration rows: the gains shape later trainings, which the judgement rows judge. Over all tasks and seeds, decided at
    p(yes) = 0.5. A language without such rows has no gains.
    """
    found: Figures = {}
    for row in plan.rows:
        if row.source is None:
            continue
        beside = next(other for other in plan.rows if other.name == row.beside)
        for language in plan.settings.onboard:
            parts = [_calibrated(new, old, language) for new, old in _paired(row, beside, cells)]
            gains = found.setdefault(language, {})
            if any(len(part.groups) for part in parts):
                gain = gain_over_seeds(parts, RESAMPLES, plan.settings.seed)
                gains[row.source] = gain.as_json() | {"says": says(gain)}
    return found


def _paired(row: Row, beside: Row, cells: Sequence[Cell]) -> Iterator[tuple[Cell, Cell]]:
    """Yields the cells of two rows, of each task seed by seed."""
    others = {(cell.task, cell.seed): cell for cell in _of(beside, cells)}
    for cell in _of(row, cells):
        yield cell, others[cell.task, cell.seed]


def _gaps(plan: Plan, cells: Sequence[Cell]) -> Figures:
    """Returns, for each onboarded language, the share of its gap to the trained languages that translation closes, in F1 and AUC.

    The gap is that of the row before the translation: the mean of the languages that are not onboarded minus the language's own
    figure. Mean, smallest and largest over the seeds; None where there is no gap, or no row with translation.
    """
    row = next((row for row in plan.rows if row.adds == "translation"), None)
    if row is None or not plan.settings.onboard:
        return {}
    before = next(other for other in plan.rows if other.name == row.beside)
    found: Figures = {}
    for language in plan.settings.onboard:
        shares: dict[str, list[float]] = {"f1": [], "auc": []}
        for new, old in _paired(row, before, cells):
            with_it, without = _measure(row, new)["per_language"], _measure(before, old)["per_language"]
            for name, values in shares.items():
                values += _closed(with_it, without, language, plan.settings.onboard, name)
        found[language] = {
            name: {"mean": mean(values), "smallest": min(values), "largest": max(values)} if values else None
            for name, values in shares.items()
        }
    return found


def _closed(
    with_it: Mapping[str, Any], without: Mapping[str, Any], language: str, onboarded: Sequence[str], name: str
) -> list[float]:
    """Returns one seed's share of the gap, in a list; empty where the language has no such figure or no gap.

    Args:
        with_it: figures by language, with translation.
        without: figures by language, without.
        language: the onboarded language.
        onboarded: all onboarded languages.
        name: of the figure.
    """
    trained = [figures[name] for other, figures in without.items() if other not in onboarded and figures[name] is not None]
    if not trained or language not in without or without[language][name] is None or with_it[language][name] is None:
        return []
    distance = mean(trained) - without[language][name]
    return [(with_it[language][name] - without[language][name]) / distance] if distance > 0 else []
