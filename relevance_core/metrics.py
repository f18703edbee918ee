"""The metrics of a scorer: F1 with its companions, the threshold, and the paired bootstrap.

A decision is yes where p(yes) >= threshold. The competition's metric is the F1 of the positive class. It barely separates scorers
where most pairs are relevant, so every report shows `macro_f1`, `auc` and the F1 of answering always yes with it. An F1 without a
true positive is 0, as in scikit-learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from relevance_core.errors import DataError

Scores = NDArray[np.float64]
Labels = NDArray[np.bool_]
Groups = Sequence[str]

THRESHOLDS: Final[Scores] = np.arange(1, 1000) / 1000
"""The thresholds that a sweep tries: 0.001, 0.002, … 0.999. Scorer and server agree to 1e-3, so finer steps would mean nothing."""

INTERVAL: Final = (2.5, 97.5)
"""Percentiles of the bootstrap draws that bound an interval."""


@dataclass(frozen=True)
class Gain:
    """The paired bootstrap's result for a candidate against a champion, as differences of F1 between -1 and 1.

    Attributes:
        gain: mean over the draws.
        low: lower percentile of INTERVAL.
        high: upper percentile of INTERVAL.
        better: share of draws in which the candidate's F1 is strictly higher; two equal answers give 0.
    """

    gain: float
    low: float
    high: float
    better: float

    def as_json(self) -> dict[str, float]:
        """Returns the four values by name."""
        return asdict(self)


def measure(scores: Scores, labels: Labels, languages: Sequence[str], threshold: float) -> dict[str, Any]:
    """Returns the metrics of one scorer on labelled rows, overall and by language.

    Each result holds threshold, f1, precision, recall, auc (None with one class only), macro_f1, always_yes_f1, false_positive_rate
    (None without negatives), rows and positives.

    Args:
        scores: p(yes), shape (rows,).
        labels: 0 or 1, shape (rows,).
        languages: code of each row, length rows.
        threshold: the lowest p(yes) that counts as yes.

    Raises:
        DataError: there are no rows.
    """
    if len(scores) == 0:
        raise DataError("there are no rows to measure on", expected="at least one labelled row", do="look at the split's dev side")
    named = np.asarray(languages, dtype=object)
    figures = {"threshold": threshold} | _figures(scores, labels, threshold)
    per_language = {}
    for language in sorted(set(languages)):
        rows = named == language
        per_language[language] = _figures(scores[rows], labels[rows], threshold)
    return figures | {"per_language": per_language}


def _figures(scores: Scores, labels: Labels, threshold: float) -> dict[str, Any]:
    tp, fp, fn, tn = (int(count) for count in _counts(labels, scores >= threshold).sum(axis=0))
    f1 = float(f1_of(tp, fp, fn))
    return {
        "f1": f1,
        "precision": tp / (tp + fp) if tp + fp else 0.0,
        "recall": tp / (tp + fn) if tp + fn else 0.0,
        "auc": auc(scores, labels),
        "macro_f1": (f1 + float(f1_of(tn, fn, fp))) / 2,
        "always_yes_f1": always_yes_f1(labels),
        "false_positive_rate": fp / (fp + tn) if fp + tn else None,
        "rows": len(labels),
        "positives": tp + fn,
    }


def f1_of(tp: Any, fp: Any, fn: Any) -> Any:
    """Returns F1 = 2·tp / (2·tp + fp + fn) of counts or of arrays of counts; 0 without positive labels and positive decisions."""
    tp, fp, fn = (np.asarray(count, dtype=np.float64) for count in (tp, fp, fn))
    bottom = 2 * tp + fp + fn
    return np.divide(2 * tp, bottom, out=np.zeros_like(bottom), where=bottom > 0)


def always_yes_f1(labels: Labels) -> float:
    """Returns the F1 of answering yes to every row: 2·r / (1 + r) for a positive rate r."""
    positives = int(labels.sum())
    return float(f1_of(positives, len(labels) - positives, 0))


def auc(scores: Scores, labels: Labels) -> float | None:
    """Returns the area under the ROC curve; None where only one class occurs."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, scores)) if 0 < labels.sum() < len(labels) else None


def best_threshold(scores: Scores, labels: Labels) -> float:
    """Returns the threshold of THRESHOLDS with the highest F1; of equals the closest to 0.5, then the lower.

    Equation 3 of arXiv 2510.21671 (a threshold per task, chosen on development rows). Pass calibration rows only: rows that judge a
    model must not choose its threshold. Raises DataError without rows.
    """
    if len(scores) == 0:
        raise DataError("there are no calibration rows", expected="dev rows that calibrate", do="raise split.calibration_share")
    f1 = f1_of(*_counts_at(scores, labels, THRESHOLDS))
    best = np.flatnonzero(f1 == f1.max())
    return float(THRESHOLDS[best[np.argmin(np.abs(best - 499))]])  # in steps of the grid, where 0.5 is number 499


def threshold_curve(scores: Scores, labels: Labels, points: int = 99) -> dict[str, list[float]]:
    """Returns F1, precision and recall at evenly spaced thresholds between 0 and 1, as lists by name, for a plot."""
    thresholds = np.arange(1, points + 1) / (points + 1)
    tp, fp, fn = _counts_at(scores, labels, thresholds)
    precision = np.divide(tp, tp + fp, out=np.zeros(points), where=tp + fp > 0)
    recall = np.divide(tp, tp + fn, out=np.zeros(points), where=tp + fn > 0)
    curves = {"threshold": thresholds, "f1": f1_of(tp, fp, fn), "precision": precision, "recall": recall}
    return {name: np.round(curve, 6).tolist() for name, curve in curves.items()}


def pr_curve(scores: Scores, labels: Labels, points: int = 200) -> dict[str, list[float]]:
    """Returns the precision–recall curve, thinned to at most `points`, as lists by name; both empty where no row is positive."""
    from sklearn.metrics import precision_recall_curve

    if not labels.any():
        return {"recall": [], "precision": []}
    precision, recall, _ = precision_recall_curve(labels, scores)
    kept = np.unique(np.linspace(0, len(recall) - 1, min(points, len(recall))).round().astype(int))
    return {"recall": np.round(recall[kept], 6).tolist(), "precision": np.round(precision[kept], 6).tolist()}


def paired_bootstrap(labels: Labels, a: Labels, b: Labels, groups: Groups, resamples: int, seed: int) -> Gain:
    """Measures the F1 gain of the decisions `a` over `b` on the same rows, with whole groups (queries) drawn with replacement.

    Rows of one query are not independent, so queries are drawn (a cluster bootstrap; Efron and Tibshirani 1993, chapter 8); both
    answers are judged on the same draw (paired; Koehn, EMNLP 2004).

    Args:
        labels: 0 or 1, shape (rows,).
        a: decisions of the candidate, shape (rows,).
        b: decisions of the champion, shape (rows,).
        groups: the query of each row, shape (rows,).
        resamples: number of draws.
        seed: of the draws.
    """
    draws = _draws(np.hstack([_counts(labels, a)[:, :3], _counts(labels, b)[:, :3]]), groups, resamples, seed)
    gains = f1_of(*draws[:, :3].T) - f1_of(*draws[:, 3:].T)
    low, high = np.percentile(gains, INTERVAL)
    return Gain(float(gains.mean()), float(low), float(high), float((gains > 0).mean()))


@dataclass(frozen=True)
class Paired:
    """Two answers, `a` and `b`, to the same rows; all of shape (rows,). groups: the query of each row."""

    labels: Labels
    a: Labels
    b: Labels
    groups: Groups


def gain_over_seeds(pairs: Sequence[Paired], resamples: int, seed: int) -> Gain:
    """Measures the mean F1 gain of `a` over `b` across trainings that differ by their seed.

    A draw takes queries with replacement, the same for every seed, and then as many seeds as there are, with replacement too. The
    interval therefore covers the variation from other queries and from other seeds (the pigeonhole bootstrap; Owen, Annals of
    Applied Statistics 2007). With one seed it equals `paired_bootstrap` and does not cover seeds.

    Args:
        pairs: the two answers of each seed.
        resamples: number of draws.
        seed: of the draws.

    Raises:
        DataError: there are no rows.
    """
    if not any(len(pair.groups) for pair in pairs):
        raise DataError("there are no rows to compare on", expected="at least one judgement row")
    random = np.random.default_rng(seed)
    named = [np.asarray(pair.groups, dtype=np.str_) for pair in pairs]
    names, codes = np.unique(np.concatenate(named), return_inverse=True)
    weights = random.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples).astype(np.float64)
    ends = np.cumsum([len(groups) for groups in named])[:-1]
    gains = []
    for pair, code in zip(pairs, np.split(codes, ends), strict=True):
        sums = np.zeros((len(names), 6))
        np.add.at(sums, code, np.hstack([_counts(pair.labels, pair.a)[:, :3], _counts(pair.labels, pair.b)[:, :3]]))
        drawn = weights @ sums
        gains.append(f1_of(*drawn[:, :3].T) - f1_of(*drawn[:, 3:].T))
    chosen = random.integers(len(pairs), size=(len(pairs), resamples))
    draws = np.take_along_axis(np.stack(gains), chosen, axis=0).mean(axis=0)
    low, high = np.percentile(draws, INTERVAL)
    return Gain(float(np.mean(gains)), float(low), float(high), float((draws > 0).mean()))


def f1_interval(labels: Labels, decisions: Labels, groups: Groups, resamples: int, seed: int) -> tuple[float, float]:
    """Returns the bootstrap interval (percentiles of INTERVAL) of the F1 of `decisions`, with whole groups drawn.

    Args:
        labels: 0 or 1, shape (rows,).
        decisions: 0 or 1, shape (rows,).
        groups: the query of each row, shape (rows,).
        resamples: number of draws.
        seed: of the draws.
    """
    draws = _draws(_counts(labels, decisions)[:, :3], groups, resamples, seed)
    low, high = np.percentile(f1_of(*draws.T), INTERVAL)
    return float(low), float(high)


def _counts(labels: Labels, decisions: Labels) -> NDArray[np.int64]:
    """Returns (rows, 4): 1 where a row is a true positive, false positive, false negative, true negative."""
    return np.stack([labels & decisions, ~labels & decisions, labels & ~decisions, ~labels & ~decisions], axis=1).astype(np.int64)


def _counts_at(scores: Scores, labels: Labels, thresholds: Scores) -> tuple[Scores, Scores, Scores]:
    """Returns (tp, fp, fn) at each threshold."""
    yes = np.sort(scores[labels])
    no = np.sort(scores[~labels])
    tp = (len(yes) - np.searchsorted(yes, thresholds, side="left")).astype(np.float64)
    fp = (len(no) - np.searchsorted(no, thresholds, side="left")).astype(np.float64)
    return tp, fp, len(yes) - tp


def _draws(counts: NDArray[np.int64], groups: Groups, resamples: int, seed: int) -> NDArray[np.int64]:
    """Returns (resamples, columns): the sums of `counts` (rows, columns) over as many groups as there are, drawn with replacement.

    Groups with equal sums are interchangeable, and there are few distinct sums. Drawing the count of each distinct sum (a
    multinomial) has the same distribution as drawing the groups one by one, and takes a single small matrix product.
    """
    _, codes = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
    sums = np.zeros((codes.max() + 1, counts.shape[1]), dtype=np.int64)
    np.add.at(sums, codes, counts)
    kinds, sizes = np.unique(sums, axis=0, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(sums), sizes / len(sums), size=resamples)
    return np.asarray(drawn @ kinds)
