"""Metrics of a stage's report: a few numbers with fixed names (docs/operating.md, Metrics)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

FATES: Final = ("in", "made", "kept", "quarantined", "dropped")
"""Fates of a stage's rows: in = kept + quarantined + dropped; rows that the stage itself has made are counted in "in"."""

WHOLE: Final = "all"
"""The part of a name for all tasks or all languages."""


class Metric(NamedTuple):
    """A named number: a gauge holds the figure of the latest run, a counter goes up by `value`."""

    kind: Literal["gauge", "counter"]
    name: str
    value: float


def metrics_of(report: Mapping[str, Any]) -> list[Metric]:
    """Returns the metrics of a stage's report, as its command prints it.

    Empty for *begin*, whose output has no rows. A finished output that was found again is not counted again.
    """
    if "rows" not in report:
        return []
    found = [*_rows(report), *_by_stage(report)]
    return [metric for metric in found if metric.kind == "gauge" or not report["found"]]


def _rows(report: Mapping[str, Any]) -> Iterator[Metric]:
    for fate in FATES:
        yield Metric("gauge", f"relevance.rows.{report['stage']}.{_named(report['task'])}.{fate}", report["rows"][fate])


def _by_stage(report: Mapping[str, Any]) -> Iterator[Metric]:
    task, figures = _named(report["task"]), report["figures"]
    match report["stage"]:
        case "evaluate":
            yield Metric("gauge", f"relevance.f1.{task}.{WHOLE}", figures["f1"])
            for language, of_language in figures["per_language"].items():
                yield Metric("gauge", f"relevance.f1.{task}.{language}", of_language["f1"])
        case "gate":
            yield Metric("counter", f"relevance.verdicts.{task}.{figures['verdict']}", 1)
        case "publish" if figures["published"]:
            yield Metric("counter", f"relevance.published.{task}", 1)
        case "rollout":
            for of_task, about in figures["tasks"].items():
                yield Metric("counter", f"relevance.promoted.{_named(of_task)}", int(about["promoted"]))


def _named(task: str | None) -> str:
    """Returns a task's part of a name, in lower case: OpenTelemetry's names have no upper case."""
    return task.lower() if task else WHOLE
