"""The numbers that judge a scorer, against numbers worked out by hand."""

import numpy as np
import pytest

from relevance_core import metrics
from relevance_core.errors import DataError

SCORES = np.array([0.9, 0.8, 0.3, 0.6, 0.2])
LABELS = np.array([True, True, True, False, False])


def test_measure_gives_the_hand_worked_figures() -> None:
    """At 0.5 there are 2 true and 1 false positive, 1 false and 1 true negative: F1 2/3, of the negatives 1/2, AUC 5 pairs of 6."""
    figures = metrics.measure(SCORES, LABELS, ["en"] * 5, 0.5)
    assert figures["f1"] == pytest.approx(2 / 3)
    assert figures["precision"] == pytest.approx(2 / 3)
    assert figures["recall"] == pytest.approx(2 / 3)
    assert figures["macro_f1"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert figures["auc"] == pytest.approx(5 / 6)
    assert figures["always_yes_f1"] == pytest.approx(3 / 4)
    assert figures["false_positive_rate"] == pytest.approx(1 / 2)
    assert (figures["rows"], figures["positives"], figures["threshold"]) == (5, 3, 0.5)


def test_measure_splits_by_language_and_leaves_out_what_one_class_cannot_say() -> None:
    """A language with positives only has no AUC and no false positive rate; its figures are those of its own rows."""
    figures = metrics.measure(SCORES, LABELS, ["de", "de", "de", "en", "en"], 0.5)
    german, english = figures["per_language"]["de"], figures["per_language"]["en"]
    assert list(figures["per_language"]) == ["de", "en"]
    assert (german["f1"], german["auc"], german["false_positive_rate"]) == (pytest.approx(4 / 5), None, None)
    assert (english["f1"], english["always_yes_f1"], english["false_positive_rate"]) == (0.0, 0.0, 0.5)
    assert german["rows"] + english["rows"] == figures["rows"]


def test_a_score_at_the_threshold_is_a_yes() -> None:
    """p = threshold decides yes."""
    assert metrics.measure(np.array([0.5]), np.array([True]), ["en"], 0.5)["recall"] == 1.0


def test_no_rows_is_an_error_and_no_figure() -> None:
    """Nothing is measured, and no threshold chosen, on no rows."""
    nothing, no_labels = np.array([]), np.array([], dtype=bool)
    with pytest.raises(DataError, match="no rows to measure"):
        metrics.measure(nothing, no_labels, [], 0.5)
    with pytest.raises(DataError, match="no calibration rows"):
        metrics.best_threshold(nothing, no_labels)


def test_always_yes_is_a_function_of_the_positive_rate() -> None:
    """With 69 % positives always-yes scores 2·0.69 / 1.69 = 0.8166, the competition's 0.816; without positives it scores 0."""
    assert metrics.always_yes_f1(np.arange(100) < 69) == pytest.approx(0.81657, abs=1e-5)
    assert metrics.always_yes_f1(np.zeros(3, dtype=bool)) == 0.0


def test_the_threshold_has_the_highest_f1() -> None:
    """Yes at 0.2 and 0.4 and no at 0.1 and 0.3: everything from 0.2 up gives 2·2/(4+1) = 0.8, the best there is."""
    scores, labels = np.array([0.2, 0.4, 0.1, 0.3]), np.array([True, True, False, False])
    assert metrics.best_threshold(scores, labels) == 0.2


def test_a_tie_takes_the_threshold_closest_to_one_half() -> None:
    """Between a no at 0.6 and a yes at 0.9 every threshold is perfect: 0.601 is closest to 0.5; between 0.1 and 0.3 it is 0.3."""
    labels = np.array([True, False])
    assert metrics.best_threshold(np.array([0.9, 0.6]), labels) == 0.601
    assert metrics.best_threshold(np.array([0.3, 0.1]), labels) == 0.3
    assert metrics.best_threshold(np.array([0.8, 0.1]), labels) == 0.5


def test_of_two_thresholds_as_close_the_lower_wins() -> None:
    """F1 is 2/3 up to 0.4 (all four yes) and from 0.6 on (one true positive): 0.4 and 0.6 are as close, so it is 0.4."""
    scores, labels = np.array([0.9, 0.4, 0.5995, 0.5995]), np.array([True, True, False, False])
    f1 = {t: metrics.measure(scores, labels, ["en"] * 4, t)["f1"] for t in (0.4, 0.5, 0.6)}
    assert f1 == {0.4: pytest.approx(2 / 3), 0.5: pytest.approx(0.4), 0.6: pytest.approx(2 / 3)}
    assert metrics.best_threshold(scores, labels) == 0.4


def test_the_sweep_agrees_with_measuring_every_threshold() -> None:
    """The counts of the sweep are those of `measure`, on 300 random rows."""
    random = np.random.default_rng(3)
    scores, labels = random.random(300), random.random(300) < 0.6
    curve = metrics.threshold_curve(scores, labels, points=9)
    for threshold, f1, precision, recall in zip(*curve.values(), strict=True):
        figures = metrics.measure(scores, labels, ["en"] * 300, threshold)
        assert [figures["f1"], figures["precision"], figures["recall"]] == pytest.approx([f1, precision, recall], abs=1e-6)


def test_the_pr_curve_is_thinned_but_keeps_its_ends() -> None:
    """From recall 1 down to 0, at most the asked number of points; nothing without positives."""
    random = np.random.default_rng(3)
    curve = metrics.pr_curve(random.random(5000), random.random(5000) < 0.5, points=50)
    assert len(curve["recall"]) == len(curve["precision"]) == 50
    assert (curve["recall"][0], curve["recall"][-1]) == (1.0, 0.0)
    assert metrics.pr_curve(SCORES, np.zeros(5, dtype=bool)) == {"recall": [], "precision": []}


def test_bootstrap_over_two_queries_meets_its_four_equally_likely_draws() -> None:
    """One query that only a gets right, one that both do: gains 1, 1/3, 1/3, 0, so 5/12 on average and better in 3 draws of 4."""
    yes = np.array([True, True])
    found = metrics.paired_bootstrap(yes, yes, np.array([False, True]), ["q1", "q2"], 20_000, seed=1)
    assert found.gain == pytest.approx(5 / 12, abs=0.01)
    assert found.better == pytest.approx(3 / 4, abs=0.01)
    assert (found.low, found.high) == (0.0, 1.0)


def test_bootstrap_draws_queries_and_not_rows() -> None:
    """One hundred rows of a single query are one observation: every draw is the same, and the interval a point."""
    labels = np.ones(100, dtype=bool)
    half = np.arange(100) < 50
    found = metrics.paired_bootstrap(labels, labels, half, ["q"] * 100, 200, seed=1)
    assert (found.low, found.gain, found.high, found.better) == (pytest.approx(1 / 3),) * 3 + (1.0,)
    by_row = metrics.paired_bootstrap(labels, labels, half, [str(i) for i in range(100)], 200, seed=1)
    assert by_row.high - by_row.low > 0.1


def test_bootstrap_of_equal_answers_is_never_better() -> None:
    """A tie has gain 0 in every draw and share 0: it can't pass for an improvement."""
    found = metrics.paired_bootstrap(LABELS, SCORES > 0.5, SCORES > 0.5, list("abcab"), 100, seed=1)
    assert found == metrics.Gain(0.0, 0.0, 0.0, 0.0)


def test_bootstrap_is_a_function_of_its_seed() -> None:
    """The same seed gives the same numbers, another seed others."""
    random = np.random.default_rng(3)
    labels, a, b = (random.random(200) < 0.5 for _ in range(3))
    groups = [str(i % 40) for i in range(200)]
    one, again, other = (metrics.paired_bootstrap(labels, a, b, groups, 200, seed) for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_f1_interval_brackets_the_f1() -> None:
    """Two queries, one right and one wrong: the F1 of a draw is 0, 2/3 or 1."""
    labels = np.array([True, True])
    assert metrics.f1_interval(labels, np.array([True, False]), ["a", "b"], 2000, seed=1) == (0.0, 1.0)
