"""The rules as Great Expectations judges them: the first that a row breaks, and all of them."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl

from relevance_core import config
from relevance_core.rules import BROKEN, MERGED_RULES, ROW_RULES, broken_rules, check

SETTINGS = config.load(None, ["window.end=2026-10-15", "window.history_days=1", "validation.max_query_chars=5"])
GOOD = {
    "unread": None,
    "task": "QC",
    "language": "en",
    "query": "shoe",
    "target": "shoes",
    "label": 1,
    "event_time": datetime(2026, 10, 14, tzinfo=UTC),
}
KINDS = {"unread": pl.String(), "label": pl.Int8()}


def test_a_row_is_told_by_the_first_rule_and_all_are_kept() -> None:
    """Of three rows the second has an unread label, so a null, and a query of six letters: three rules, the first by the table."""
    bad = GOOD | {"unread": "label=x", "label": None, "query": "shoes!"}
    frame = pl.DataFrame([GOOD, bad, GOOD], schema_overrides=KINDS)
    found = broken_rules(ROW_RULES, check(ROW_RULES, frame, SETTINGS, "rows"), 3)
    assert found["rule"].to_list() == [None, "values_readable", None]
    assert found["broken"].to_list() == [None, ["values_readable", "label_not_null", "query_length"], None]


def test_merged_rows_are_told_by_their_place_among_others() -> None:
    """With a day of history the 12th of October lies outside, the 13th inside; a key that comes twice is told both times."""
    days = [datetime(2026, 10, day, tzinfo=UTC) for day in (12, 13, 14, 14)]
    frame = pl.DataFrame({"event_time": days, "key": ["a/1", "b/1", "c/0", "c/0"]})
    found = broken_rules(MERGED_RULES, check(MERGED_RULES, frame, SETTINGS, "rows"), 4)
    assert found["rule"].to_list() == ["event_time_in_window", None, "key_unique", "key_unique"]


def test_no_row_breaks_no_rule() -> None:
    """A frame without a row has the two columns with their types."""
    frame = pl.DataFrame(schema={"event_time": pl.Datetime("us", "UTC"), "key": pl.String()})
    found = broken_rules(MERGED_RULES, check(MERGED_RULES, frame, SETTINGS, "rows"), 0)
    assert (found.height, dict(found.schema)) == (0, dict(BROKEN))
