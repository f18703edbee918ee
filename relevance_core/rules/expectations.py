"""The rules, as data, and their check by Great Expectations.

A rule names a Great Expectations class, the column it looks at and its bounds. Row rules look at the labelled pairs one by one, so
that a day's rows are judged once, when the day is read; the rules of merged rows look at the rows of all days together; batch rules
look at the figures of the batch, one row a scope (the window, a column, a language, a task × language).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import polars as pl

from relevance_core.config import Settings
from relevance_core.languages import LANGUAGES
from relevance_core.pairs import TASKS

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuiteValidationResult

Kind = Literal["row", "batch"]
Bounds = Callable[[Settings], dict[str, Any]]


@dataclass(frozen=True)
class Rule:
    """A rule. expectation: a class of great_expectations.expectations. do: the advice for a batch that breaks it."""

    name: str
    kind: Kind
    column: str
    expectation: str
    bounds: Bounds
    do: str = ""

    def bound(self, settings: Settings) -> str:
        """Returns the bound in words: `0 to 0.2`, `0, 1`, `a value`."""
        bounds = {
            name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in self.bounds(settings).items()
        }
        if "value_set" in bounds:
            return ", ".join(map(str, bounds["value_set"]))
        low, high = bounds.get("min_value"), bounds.get("max_value")
        if low is not None and high is not None:
            return f"{low} to {high}"
        return f"at least {low}" if low is not None else f"at most {high}" if high is not None else _WORDS[self.expectation]


_WORDS: Final = {
    "ExpectColumnValuesToNotBeNull": "a value",
    "ExpectColumnValuesToBeNull": "none",
    "ExpectColumnValuesToBeUnique": "once",
}


def _none(settings: Settings) -> dict[str, Any]:
    return {}


def _window(settings: Settings) -> dict[str, Any]:
    return {"min_value": settings.window.history_start(), "max_value": settings.window.bounds()[1], "strict_max": True}


def _filled(column: str) -> Rule:
    return Rule(f"{column}_not_null", "row", column, "ExpectColumnValuesToNotBeNull", _none)


def _length(column: str, most: Callable[[Settings], int]) -> Rule:
    bounds: Bounds = lambda settings: {"min_value": 1, "max_value": most(settings)}  # noqa: E731 - a value of the table
    return Rule(f"{column}_length", "row", column, "ExpectColumnValueLengthsToBeBetween", bounds)


def known_languages(settings: Settings) -> list[str]:
    """Lists the languages that a row may have."""
    return sorted(settings.validation.languages or LANGUAGES)


ROW_RULES: Final = (
    Rule("values_readable", "row", "unread", "ExpectColumnValuesToBeNull", _none),
    *map(_filled, ("task", "language", "query", "target", "label", "event_time")),
    Rule("task_known", "row", "task", "ExpectColumnValuesToBeInSet", lambda settings: {"value_set": list(TASKS)}),
    Rule(
        "language_known",
        "row",
        "language",
        "ExpectColumnValuesToBeInSet",
        lambda settings: {"value_set": known_languages(settings)},
    ),
    Rule("label_in_0_1", "row", "label", "ExpectColumnValuesToBeInSet", lambda settings: {"value_set": [0, 1]}),
    _length("query", lambda settings: settings.validation.max_query_chars),
    _length("target", lambda settings: settings.validation.max_target_chars),
)
"""Rules of a row by itself; a row that breaks several is reported under the first."""

MERGED_RULES: Final = (
    Rule("event_time_in_window", "row", "event_time", "ExpectColumnValuesToBeBetween", _window),
    Rule("key_unique", "row", "key", "ExpectColumnValuesToBeUnique", _none),
)
"""Rules of a row among those of all days: only a merge that went wrong breaks one."""


def _between(name: str, low: Callable[[Settings], float] | None, high: Callable[[Settings], float] | None, do: str) -> Rule:
    def bounds(settings: Settings) -> dict[str, Any]:
        found = {"min_value": low and low(settings), "max_value": high and high(settings)}
        return {key: value for key, value in found.items() if value is not None}

    return Rule(name, "batch", name, "ExpectColumnValuesToBeBetween", bounds, do)


BATCH_RULES: Final = (
    _between(
        "files_without_day",
        None,
        lambda settings: 0,
        "rename the partitions of these files to dt=YYYY-MM-DD, or move the files out of the source",
    ),
    _between(
        "files_without_column",
        None,
        lambda settings: 0,
        'name the files\' own column in source.columns, such as {"its name": "label"}, or write the column into them '
        "(docs/data.md); for task, source.task can say it",
    ),
    _between(
        "rows",
        lambda settings: settings.validation.min_rows,
        None,
        "check that the logs of this window have arrived and that source.uri and the window are meant; then run again",
    ),
    _between(
        "rows_of_daily_mean",
        lambda settings: settings.validation.min_rows_of_mean,
        lambda settings: settings.validation.max_rows_of_mean,
        "look for a partition that is cut short or was written twice; if the traffic did change, set validation.min_rows_of_mean "
        "or validation.max_rows_of_mean",
    ),
    _between(
        "quarantined_share",
        None,
        lambda settings: settings.validation.max_quarantine_share,
        "look at the table quarantine, which holds these rows with their rule, and correct what writes the logs",
    ),
    _between(
        "positive_rate",
        lambda settings: settings.validation.min_positive_rate,
        lambda settings: settings.validation.max_positive_rate,
        "look for labels that are constant or of another meaning; if the rate is right, set validation.min_positive_rate or "
        "validation.max_positive_rate",
    ),
    _between(
        "language_share_change",
        None,
        lambda settings: settings.validation.max_language_drift,
        "look for a market whose logs are missing or counted twice; if the mix did change, set validation.max_language_drift",
    ),
    _between(
        "contradicting_share",
        None,
        lambda settings: settings.validation.max_contradicting_share,
        "look at what labels the pairs: the same pair gets both labels; if that is right, set validation.max_contradicting_share",
    ),
)
"""Rules of a batch; each looks at the figure of its name."""


@dataclass(frozen=True)
class Checked:
    """The result of Great Expectations. failing: rule name → positions of the rows that break it."""

    failing: Mapping[str, list[int]]
    result: ExpectationSuiteValidationResult


def check(rules: Sequence[Rule], frame: pl.DataFrame, settings: Settings, suite: str) -> Checked:
    """Checks a frame against rules with Great Expectations (an ephemeral context, the frame as pandas).

    Args:
        rules: the rules of one kind.
        frame: a column for each rule.
        settings: give the bounds.
        suite: name of the suite in the Data Docs.

    Raises:
        ValueError: a rule could not be evaluated at all.
    """
    # The library reads it on import: no usage statistics leave the machine.
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "False")
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
    expectations = [getattr(gx.expectations, rule.expectation)(column=rule.column, **rule.bounds(settings)) for rule in rules]
    asset = context.data_sources.add_pandas("relevance").add_dataframe_asset(suite)
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": frame.to_pandas()})
    result = batch.validate(gx.ExpectationSuite(name=suite, expectations=expectations), result_format={"result_format": "COMPLETE"})
    failing = {rule.name: _positions(rule, outcome) for rule, outcome in zip(rules, _in_order(rules, result), strict=True)}
    return Checked(failing, result)


BROKEN: Final = {"rule": pl.String(), "broken": pl.List(pl.String())}
"""The columns of `broken_rules`."""


def broken_rules(rules: Sequence[Rule], checked: Checked, height: int) -> pl.DataFrame:
    """Returns for each of `height` rows `rule`, the first that it breaks, and `broken`, the list of all; both null for none."""
    broken: dict[int, list[str]] = {}
    for rule in rules:
        for position in checked.failing[rule.name]:
            broken.setdefault(position, []).append(rule.name)
    positions = pl.Series("row", list(broken), dtype=pl.Int64)
    found = pl.DataFrame({"broken": list(broken.values())}, schema={"broken": BROKEN["broken"]}).with_columns(positions)
    every = pl.DataFrame({"row": pl.int_range(height, eager=True)}).join(found, on="row", how="left", maintain_order="left")
    return every.select(pl.col("broken").list.first().alias("rule"), "broken")


def _in_order(rules: Sequence[Rule], result: ExpectationSuiteValidationResult) -> list[Any]:
    """Returns the suite's outcomes in the order of the rules: the library groups them by column."""
    outcomes = {
        (outcome.expectation_config.type, outcome.expectation_config.kwargs["column"]): outcome for outcome in result.results
    }
    return [outcomes[_snake(rule.expectation), rule.column] for rule in rules]


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def _positions(rule: Rule, outcome: Any) -> list[int]:
    if outcome.exception_info.get("raised_exception", False) or "element_count" not in outcome.result:
        raise ValueError(f"rule {rule.name} could not be evaluated: {outcome.exception_info}")
    return [int(position) for position in outcome.result.get("unexpected_index_list") or []]
