"""The gate's rules, each on numbers made by hand; no model is needed for a verdict."""

from typing import Any

import polars as pl
import pytest

from relevance_core.config import GateSettings
from relevance_core.metrics import Gain
from relevance_core.stages.gate import Verdict, compare, decide

SETTINGS = GateSettings(min_f1=0.6, min_over_always_yes=0.01, confidence=0.95, max_language_loss=0.02, min_language_rows=100)
BETTER = Gain(gain=0.03, low=0.01, high=0.05, better=0.99)


def figures(f1: float = 0.9, always_yes: float = 0.8, **languages: tuple[float, int]) -> dict[str, Any]:
    """Figures as `metrics.measure` gives them, as far as the gate reads them; a language is (f1, rows), half of them relevant."""
    per_language = {name: {"f1": score, "rows": rows, "positives": rows // 2} for name, (score, rows) in languages.items()}
    return {"f1": f1, "always_yes_f1": always_yes, "rows": 1000, "per_language": per_language}


def failed(verdict: Verdict) -> list[str]:
    return [reason.rule for reason in verdict.reasons if not reason.passed]


def test_the_first_version_needs_the_floor_and_the_margin_only() -> None:
    """Without a champion there is nothing to be better than, however small a language."""
    verdict = decide(figures(en=(0.1, 5)), None, None, [], SETTINGS)
    assert verdict.verdict == "publish"
    assert [reason.rule for reason in verdict.reasons] == ["floor", "over always-yes"]


@pytest.mark.parametrize(
    ("f1", "always_yes", "rule"),
    [(0.59, 0.4, "floor"), (0.805, 0.8, "over always-yes"), (0.79, 0.8, "over always-yes")],
)
def test_a_first_version_below_a_bound_is_held(f1: float, always_yes: float, rule: str) -> None:
    """Below 0.6, or less than a point above always-yes, nothing is published; the reason carries figure and bound."""
    verdict = decide(figures(f1, always_yes), None, None, [], SETTINGS)
    assert (verdict.verdict, failed(verdict)) == ("hold", [rule])
    reason = next(reason for reason in verdict.reasons if not reason.passed)
    assert f"{f1:.4f}" in reason.text
    assert reason.figure < reason.bound


def test_a_bound_that_is_just_met_is_met() -> None:
    """0.94 is one point above 0.93 and 0.88 two below 0.90, though their differences as floats fall short."""
    assert 0.94 - 0.93 < 0.01
    assert 0.88 - 0.90 < -0.02
    assert decide(figures(0.94, 0.93), None, None, [], SETTINGS).verdict == "publish"
    champion = figures(0.86, en=(0.90, 100))
    assert decide(figures(0.89, en=(0.88, 100)), champion, BETTER, [], SETTINGS).verdict == "publish"


def test_a_better_candidate_is_published_with_every_number() -> None:
    """Every rule passes, and each one's figure and bound stand in the verdict."""
    verdict = decide(figures(0.93, en=(0.95, 500), de=(0.9, 40)), figures(0.9, en=(0.94, 500), de=(0.95, 40)), BETTER, [], SETTINGS)
    assert verdict.verdict == "publish"
    numbers = {reason.rule: (round(reason.figure, 4), reason.bound) for reason in verdict.reasons}
    assert numbers == {
        "floor": (0.93, 0.6),
        "over always-yes": (0.13, 0.01),
        "better than the champion": (0.99, 0.95),
        "gain": (0.03, 0.0),
        "loss in de": (-0.05, -0.02),
        "loss in en": (0.01, -0.02),
    }


@pytest.mark.parametrize(
    ("gain", "rules"),
    [
        (Gain(0.03, -0.01, 0.07, 0.94), ["better than the champion"]),
        (Gain(-0.01, -0.03, 0.01, 0.2), ["better than the champion", "gain"]),
        (Gain(0.0, 0.0, 0.0, 0.0), ["better than the champion", "gain"]),
    ],
)
def test_a_doubtful_or_worse_candidate_and_a_tie_keep_the_champion(gain: Gain, rules: list[str]) -> None:
    """Better in fewer than 95 % of the draws, worse, or the same: the champion stays."""
    verdict = decide(figures(), figures(), gain, [], SETTINGS)
    assert (verdict.verdict, failed(verdict)) == ("hold", rules)


def test_a_tie_keeps_the_champion_whatever_the_settings_ask() -> None:
    """Not even a gate that wants no confidence and no gain lets the same answers in."""
    anything = GateSettings(confidence=0.0, min_gain=-1.0)
    assert decide(figures(), figures(), Gain(0.0, 0.0, 0.0, 0.0), [], anything).verdict == "hold"


def test_a_gain_below_the_wanted_one_is_held() -> None:
    """Surely better by 0.03 is not enough where 0.04 is asked."""
    verdict = decide(figures(), figures(), BETTER, [], SETTINGS.model_copy(update={"min_gain": 0.04}))
    assert (verdict.verdict, failed(verdict)) == ("hold", ["gain"])


@pytest.mark.parametrize(("rows", "expected"), [(100, "hold"), (99, "publish")])
def test_one_language_may_not_pay_for_the_others(rows: int, expected: str) -> None:
    """A loss of 0.03 in a language with at least 100 rows holds a candidate that is better overall; below that it says nothing."""
    verdict = decide(figures(0.93, de=(0.87, rows)), figures(0.9, de=(0.9, rows)), BETTER, [], SETTINGS)
    assert verdict.verdict == expected


@pytest.mark.parametrize(
    ("languages", "expected"),
    [({}, "needs-approval"), ({"de": (0.9, 29)}, "needs-approval"), ({"de": (0.9, 30)}, "publish")],
)
def test_a_language_without_evidence_needs_a_person(languages: dict[str, tuple[float, int]], expected: str) -> None:
    """A language that comes in with fewer than 30 judgement rows is published by a person or not at all, first version or not."""
    candidate = figures(0.93, **languages)
    assert decide(candidate, figures(0.9, **languages), BETTER, ["de"], SETTINGS).verdict == expected
    assert decide(candidate, None, None, ["de"], SETTINGS).verdict == expected


def test_rows_of_one_label_are_no_evidence() -> None:
    """Fifty rows that are all relevant say nothing of what a scorer would let through."""
    candidate = figures(de=(1.0, 50))
    candidate["per_language"]["de"]["positives"] = 50
    assert decide(candidate, None, None, ["de"], SETTINGS).verdict == "needs-approval"


def test_a_hold_stays_a_hold_without_evidence_too() -> None:
    """Nobody is asked about a candidate that is worse."""
    worse = Gain(-0.01, -0.02, 0.0, 0.1)
    verdict = decide(figures(), figures(), worse, ["de"], SETTINGS)
    assert verdict.verdict == "hold"
    assert "evidence in de" in failed(verdict)


def test_each_scorer_decides_at_its_own_threshold() -> None:
    """The candidate is right at 0.5 and the champion at 0.2; each at its own they tie, and at 0.5 the champion loses."""
    judged = pl.DataFrame(
        {"label": [1, 0], "p": [0.9, 0.1], "champion_p": [0.3, 0.1], "group": ["a", "b"]}, schema_overrides={"label": pl.Int8}
    )
    assert compare(judged, 0.5, 0.2, 100, seed=1) == Gain(0.0, 0.0, 0.0, 0.0)
    assert compare(judged, 0.5, 0.5, 100, seed=1).better > 0.5
