"""*gate*: decides on the new adapter. A verdict is a value, with every reason and number in it (contract 7)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import polars as pl

from relevance_core.config import GateSettings, Settings
from relevance_core.metrics import Gain, paired_bootstrap
from relevance_core.processes import PartLogger
from relevance_core.runs.artifacts import Output, Report, Rows
from relevance_core.runs.stage import Inputs, stage

log = PartLogger(logging.getLogger(__name__))

Decision = Literal["publish", "hold", "needs-approval"]
Figures = Mapping[str, Any]
"""The figures that `metrics.measure` returns."""

_EVIDENCE = "evidence in "


@dataclass(frozen=True)
class Reason:
    """The outcome of one rule: the figure, the bound that it was held against, and both in a sentence."""

    rule: str
    passed: bool
    figure: float
    bound: float
    text: str


@dataclass(frozen=True)
class Verdict:
    """The gate's decision on a candidate, with the outcome of every rule, failed or passed."""

    verdict: Decision
    reasons: tuple[Reason, ...]

    def as_json(self) -> dict[str, Any]:
        """The verdict as plain JSON values."""
        return {"verdict": self.verdict, "reasons": [asdict(reason) for reason in self.reasons]}


@stage("gate", uses=("gate", "seed"), pinned=("onboarded",))
def run(settings: Settings, inputs: Inputs, out: Output) -> Report:
    """Holds the figures of *evaluate* against the rules of `settings.gate` and leaves `verdict.json`.

    How: `decide`, on judgement rows only; candidate and champion answer the same rows, each at its own threshold. The rows of
    languages that are onboarded now are among them, since the candidate is meant to gain there.
    What it does not do: publish, ask a person, look at the rows themselves.
    Known limits: dev labels are as noisy as the logs; the loss of a language is held against a fixed bound, without an interval.
    """
    evaluation = inputs["evaluation"]
    metrics = evaluation.json("metrics")
    champion = metrics["champion"]
    gain = None
    if champion is not None:
        columns = ["part", "label", "p", "champion_p", "group"]
        judged = evaluation.table("scores", columns).filter(pl.col("part") == "judgement")
        gain = compare(judged, metrics["threshold"], champion["threshold"], settings.gate.resamples, settings.seed)
    served = champion["languages"] if champion else []
    verdict = decide(metrics, champion, gain, sorted(set(inputs.onboarded) - set(served)), settings.gate)
    for reason in verdict.reasons:
        log.info("%s %s: %s", "passed" if reason.passed else "FAILED", reason.rule, reason.text)
    log.info("%s", verdict.verdict)
    out.json("verdict", verdict.as_json() | {"gain": gain.as_json() if gain else None})
    failed = [reason.rule for reason in verdict.reasons if not reason.passed]
    return Report(Rows(), {"verdict": verdict.verdict, "failed": failed, "gain": gain.as_json() if gain else None})


def compare(judged: pl.DataFrame, threshold: float, champion_threshold: float, resamples: int, seed: int) -> Gain:
    """Runs the paired bootstrap over queries: a candidate's decisions against a champion's on the same rows.

    Args:
        judged: the judgement rows, with `p` of the candidate and `champion_p`.
        threshold: the candidate's.
        champion_threshold: the champion's.
        resamples: number of bootstrap resamples.
        seed: of the bootstrap.
    """
    return paired_bootstrap(
        judged["label"].to_numpy() == 1,
        judged["p"].to_numpy() >= threshold,
        judged["champion_p"].to_numpy() >= champion_threshold,
        judged["group"].to_list(),
        resamples,
        seed,
    )


def decide(
    candidate: Figures, champion: Figures | None, gain: Gain | None, onboarded: Sequence[str], settings: GateSettings
) -> Verdict:
    """Decides on a candidate: hold when a rule fails, needs-approval when only evidence is missing, else publish.

    Args:
        candidate: its figures on the judgement rows.
        champion: its figures on the same rows; None before the first version.
        gain: of the candidate over the champion; None before the first version.
        onboarded: languages that this run brings in and the champion does not serve.
        settings: the bounds. A tie keeps the champion.
    """
    reasons = [*_alone(candidate, settings)]
    if champion is not None and gain is not None:
        reasons += [*_against(gain, settings), *_losses(candidate, champion, settings)]
    reasons += evidence(candidate, onboarded, settings)
    failed = [reason.rule for reason in reasons if not reason.passed]
    if not failed:
        return Verdict("publish", tuple(reasons))
    missing_only = all(rule.startswith(_EVIDENCE) for rule in failed)
    return Verdict("needs-approval" if missing_only else "hold", tuple(reasons))


def _alone(candidate: Figures, settings: GateSettings) -> Iterator[Reason]:
    """Yields the rules that every version must pass, with or without a champion."""
    f1, always_yes = candidate["f1"], candidate["always_yes_f1"]
    floor, margin = settings.min_f1, settings.min_over_always_yes
    yield Reason("floor", f1 >= floor, f1, floor, f"F1 {f1:.4f} on {candidate['rows']} judgement rows, at least {floor:.4f} wanted")
    text = f"F1 {f1:.4f} is {f1 - always_yes:+.4f} against {always_yes:.4f} of answering always yes, at least {margin:+.4f} wanted"
    yield Reason("over always-yes", _reaches(f1 - always_yes, margin), f1 - always_yes, margin, text)


def _against(gain: Gain, settings: GateSettings) -> Iterator[Reason]:
    """Yields the rules on the gain over the champion: significant, and large enough."""
    share, wanted = gain.better, settings.confidence
    text = f"better than the champion in {share:.1%} of {settings.resamples} draws of queries, {wanted:.1%} wanted"
    yield Reason("better than the champion", share >= wanted, share, wanted, text)
    interval = f"95 % interval {gain.low:+.4f} to {gain.high:+.4f}"
    text = f"mean F1 gain {gain.gain:+.4f} over the champion ({interval}), at least {settings.min_gain:+.4f} wanted"
    yield Reason("gain", gain.gain > 0 and _reaches(gain.gain, settings.min_gain), gain.gain, settings.min_gain, text)


def _losses(candidate: Figures, champion: Figures, settings: GateSettings) -> Iterator[Reason]:
    """Yields a rule for each language: one with enough rows must not lose more than the bound."""
    bound = -settings.max_language_loss
    for language, new in sorted(candidate["per_language"].items()):
        old = champion["per_language"][language]
        change = new["f1"] - old["f1"]
        counts = new["rows"] >= settings.min_language_rows
        judged = f"no less than {bound:+.4f} wanted" if counts else f"not judged: fewer than {settings.min_language_rows} rows"
        text = f"F1 of {language} {old['f1']:.4f} → {new['f1']:.4f} ({change:+.4f}) on {new['rows']} rows, {judged}"
        yield Reason(f"loss in {language}", _reaches(change, bound) or not counts, change, bound, text)


def evidence(candidate: Figures, onboarded: Sequence[str], settings: GateSettings) -> Iterator[Reason]:
    """Yields a rule for each onboarded language: it needs enough judgement rows, of both labels. A failure means needs-approval.

    candidate: at least `per_language` with `rows` and `positives`.
    """
    for language in onboarded:
        figures = candidate["per_language"].get(language, {"rows": 0, "positives": 0})
        rows, positives = figures["rows"], figures["positives"]
        enough = rows >= settings.min_evidence_rows and 0 < positives < rows
        wanted = f"{settings.min_evidence_rows} rows of both labels wanted"
        text = f"{language} comes in with {rows} judgement rows, {positives} of them relevant; {wanted}"
        yield Reason(_EVIDENCE + language, enough, rows, settings.min_evidence_rows, text)


def _reaches(figure: float, bound: float) -> bool:
    """Tells whether a difference is at least its bound, to within the rounding of a subtraction of floats."""
    return figure >= bound - 1e-9
