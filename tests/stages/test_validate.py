"""Validate: bad rows go to quarantine, bad batches stop the run and say why."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from relevance_core.errors import ValidationFailed
from relevance_core.rules import BATCH_RULES, MERGED_RULES, ROW_RULES
from relevance_core.runs.artifacts import Artifact
from relevance_core.runs.stage import Inputs
from relevance_core.stages import validate
from relevance_core.store import Store, open_store
from tests.support.pair_cases import Row, at, ingested, many, row, settings_for, validated, write_rows

CALM = ("validation.max_quarantine_share=1", "validation.min_rows=0", "validation.max_contradicting_share=1")


def _validated(tmp_path: Path, store: Store, rows: Sequence[Row], *settings: str) -> Artifact:
    return validated(settings_for(write_rows(tmp_path / "a.jsonl", rows), *settings), store)


def _rules(found: Artifact, name: str) -> dict[str, dict[str, Any]]:
    return {entry["scope"]: entry for entry in found.json("rules") if entry["rule"] == name}


WRONG: tuple[tuple[dict[str, object], str], ...] = (
    ({"label": "abc"}, "values_readable"),
    ({"event_time": "soon"}, "values_readable"),
    ({"task": None}, "task_not_null"),
    ({"language": None}, "language_not_null"),
    ({"query": None}, "query_not_null"),
    ({"target": None}, "target_not_null"),
    ({"label": None}, "label_not_null"),
    ({"event_time": None}, "event_time_not_null"),
    ({"task": "QZ"}, "task_known"),
    ({"language": "xx"}, "language_known"),
    ({"label": 2}, "label_in_0_1"),
    ({"query": "\u200b"}, "query_length"),
    ({"query": "q" * 501}, "query_length"),
    ({"target": "t" * 2001}, "target_length"),
)


def test_a_row_that_breaks_a_rule_is_in_quarantine_under_its_name(tmp_path: Path, store: Store) -> None:
    """Of 14 bad rows between two good ones each is kept apart under the first rule that it breaks, its original texts beside it."""
    bad = [row("bad", f"target {number}") | wrong for number, (wrong, _) in enumerate(WRONG)]
    found = _validated(tmp_path, store, [row("one"), *bad, row("two")], *CALM)
    quarantine = found.table("quarantine")
    originals = quarantine.select("query_original", "target_original", "rule").rows()
    assert set(originals) == {(line["query"], line["target"], rule) for line, (_, rule) in zip(bad, WRONG, strict=True)}
    assert quarantine["unread"].drop_nulls().sort().to_list() == ["event_time=soon", "label=abc"]
    assert found.table("pairs")["query"].sort().to_list() == ["one", "two"]
    assert sum(found.report.rows.reasons.values()) == found.report.rows.quarantined == len(WRONG)
    assert found.report.rows.reasons["quarantined: query_length"] == 2
    assert found.report.failure is None


def test_a_row_that_breaks_several_rules_is_counted_once(tmp_path: Path, store: Store) -> None:
    """Each rule counts the row, the quarantine holds it once, under the first of the table."""
    found = _validated(tmp_path, store, [row(), row(None, language="xx", label=7)], *CALM)
    assert found.table("quarantine")["rule"].to_list() == ["query_not_null"]
    broken = [entry["rule"] for entry in found.json("rules") if entry["kind"] == "row" and entry["rows"]]
    assert broken == ["query_not_null", "language_known", "label_in_0_1"]


def test_of_contradicting_labels_the_latest_event_wins(tmp_path: Path, store: Store) -> None:
    """0 at nine and 1 at ten: the 1 stays. 0 and 1 at the same time: neither stays. Both are counted by their reasons."""
    rows = [
        row("settled", label=0, event_time="2026-10-14T09:00:00"),
        row("settled", label=1, event_time="2026-10-14T10:00:00"),
        row("open", label=0),
        row("open", label=1),
        row("calm"),
    ]
    found = _validated(tmp_path, store, rows, *CALM)
    assert found.table("pairs").select("query", "label").sort("query").rows() == [("calm", 1), ("settled", 1)]
    assert found.report.rows.reasons == {"dropped: contradicting": 2, "dropped: superseded": 1}
    assert _rules(found, "contradicting_share")["window"]["figure"] == pytest.approx(2 / 3, abs=1e-6)


def test_a_pair_is_kept_once(tmp_path: Path, store: Store) -> None:
    """pair_id is unique in the output, and the event of the newest row is the pair's."""
    found = _validated(tmp_path, store, [row(label=0, event_time="2026-10-12"), row(label=1)], *CALM)
    assert found.table("pairs").select("label", "event_time", "fresh").rows() == [(1, at("2026-10-14T09:00:00"), True)]


def _failure(found: Artifact) -> str:
    assert found.report.failure is not None
    return str(ValidationFailed(**found.report.failure))


def test_a_missing_column_stops_the_run(tmp_path: Path, store: Store) -> None:
    """The failure names the rule, the column, the file, the bound and the remedy; the rows are in the quarantine."""
    rows = [{key: value for key, value in line.items() if key != "label"} for line in many(60)]
    found = _validated(tmp_path, store, rows)
    message = _failure(found)
    assert "files_without_column of label is 1 (a.jsonl)" in message
    assert "files_without_column at most 0" in message
    assert "write the column" in message
    assert found.address in message
    assert found.table("quarantine")["rule"].to_list() == ["label_not_null"] * 60
    assert found.table("pairs").height == 0


def test_a_window_without_rows_stops_the_run(tmp_path: Path, store: Store) -> None:
    """History alone is not enough: the figure is 0 rows, the bound at least 1."""
    message = _failure(_validated(tmp_path, store, many(60, day="2026-10-13")))
    assert "rows of window is 0" in message
    assert "rows at least 1" in message
    assert "rows_of_daily_mean of window is 0" in message


def test_forty_percent_nulls_stop_the_run(tmp_path: Path, store: Store) -> None:
    """40 of 100 rows without a query: the share in quarantine is 0.4, the bound 0.1, and the quarantine holds the 40."""
    found = _validated(tmp_path, store, many(60) + many(40, query=None))
    assert "quarantined_share of window is 0.4 (of 100 rows: query_not_null 40)" in _failure(found)
    assert found.table("quarantine").height == 40
    assert found.report.rows.quarantined == 40


def test_a_positive_rate_of_99_percent_stops_the_run(tmp_path: Path, store: Store) -> None:
    """99 of 100 positives of one language are told with task and language; another language with too few rows is not judged."""
    rows = many(100, positives=0.99) + many(49, positives=1, language="de")
    found = _validated(tmp_path, store, rows)
    message = _failure(found)
    assert "positive_rate of QC en is 0.99 (of 100 rows)" in message
    assert "positive_rate 0.1 to 0.95" in message
    assert "QC de" not in message


def test_every_broken_rule_is_told_at_once(tmp_path: Path, store: Store) -> None:
    """Too many nulls and too many positives: one message with both."""
    found = _validated(tmp_path, store, many(60, positives=1) + many(40, query=None))
    assert "the batch breaks 2 rules: quarantined_share" in _failure(found)
    assert found.report.figures["failed"] == ["query_not_null rows", "quarantined_share window", "positive_rate QC en"]


@pytest.mark.parametrize(("fresh", "passes"), [(29, False), (30, True), (500, True), (501, False)])
def test_the_row_count_is_held_against_the_trailing_mean(tmp_path: Path, store: Store, fresh: int, passes: bool) -> None:
    """With 100 rows a day before, 0.3 to 5 times as many pass: repeated pairs count, as they did on the days before."""
    rows = many(100, day="2026-10-12", name="a") + many(100, day="2026-10-13", name="a") + many(fresh, name="a")
    found = _validated(tmp_path, store, rows, "validation.rate_min_rows=1000")
    entry = _rules(found, "rows_of_daily_mean")["window"]
    assert (entry["figure"], entry["passed"]) == (fresh / 100, passes)


def test_a_first_night_has_no_mean_to_be_held_against(tmp_path: Path, store: Store) -> None:
    """Without history the rules that compare with it are reported as not judged, and pass."""
    found = _validated(tmp_path, store, many(60))
    for name in ("rows_of_daily_mean", "language_share_change"):
        assert _rules(found, name)[""] | {"bound": ""} == {
            "rule": name,
            "kind": "batch",
            "column": name,
            "scope": "",
            "figure": None,
            "bound": "",
            "rows": 0,
            "passed": True,
        }
    assert found.report.failure is None


def test_a_market_that_vanishes_stops_the_run(tmp_path: Path, store: Store) -> None:
    """Half the history is German, none of the fresh rows: its share fell by 0.5, the bound is 0.25."""
    history = many(50, day="2026-10-13") + many(50, day="2026-10-13", language="de")
    found = _validated(tmp_path, store, history + many(60))
    message = _failure(found)
    assert "language_share_change of de is 0.5" in message
    assert "language_share_change of en is 0.5" in message


def test_contradicting_pairs_above_their_share_stop_the_run(tmp_path: Path, store: Store) -> None:
    """15 of 60 fresh pairs carry both labels: 0.25 is above 0.2."""
    found = _validated(tmp_path, store, many(60) + many(15, positives=0))
    assert "contradicting_share of window is 0.25 (of 60 rows)" in _failure(found)


def test_history_rows_answer_to_row_rules_only(tmp_path: Path, store: Store) -> None:
    """A history of 50 bad rows fills the quarantine and stops nothing."""
    found = _validated(tmp_path, store, many(60) + many(50, day="2026-10-13", language="xx"))
    assert found.table("quarantine").height == 50
    assert found.report.failure is None


def test_every_rule_is_reported(tmp_path: Path, store: Store) -> None:
    """rules.json has every rule of both tables with its bound, judged or not."""
    found = _validated(tmp_path, store, many(60))
    assert {entry["rule"] for entry in found.json("rules")} == {rule.name for rule in (*ROW_RULES, *MERGED_RULES, *BATCH_RULES)}
    assert all(entry["bound"] for entry in found.json("rules"))
    assert found.report.figures["rules_failed"] == 0
    assert found.report.figures["positive_rate"] == {"QC en": {"rate": 0.5, "rows": 60}}


def test_the_data_docs_open_offline_and_hold_no_markup_of_the_log(tmp_path: Path, store: Store) -> None:
    """No page names another host, and a language that is a script is shown as text."""
    rows = [row(), row("x", language="<script>alert(1)</script>"), row("y", language="$x ${y} %s {z}")]
    found = _validated(tmp_path, store, rows, *CALM)
    names = [name for name in found.files if name.startswith("data_docs/")]
    assert sorted(names) == ["data_docs/batch.html", "data_docs/index.html", "data_docs/quarantine.html", "data_docs/rows.html"]
    pages = {name: store.read(found.key(name)).decode() for name in names}
    for page in pages.values():
        assert not re.search(r"https?://|<script|<link|<img|url\(", page)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in pages["data_docs/quarantine.html"]
    assert "$x ${y} %s {z}" in pages["data_docs/quarantine.html"]
    index = pages["data_docs/index.html"]
    assert 'href="quarantine.html"' in index
    assert index.index("language_known") < index.index("task_known"), "broken rules come first"


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    """Two runs into two stores have the same digest, Data Docs included."""
    source = write_rows(tmp_path / "a.jsonl", [*many(60), row(label=3)])
    stores = [open_store(str(tmp_path / name)) for name in ("one", "two")]
    assert len({validated(settings_for(source), store).digest for store in stores}) == 1


def test_a_failed_batch_is_a_finished_output(tmp_path: Path, store: Store) -> None:
    """The second try ends at once with the same words."""
    settings = settings_for(write_rows(tmp_path / "a.jsonl", many(5, language="xx")))
    inputs = Inputs({"rows": ingested(settings, store)})
    first, second = (validate.run(settings, inputs, store) for _ in range(2))
    assert (first.found, second.found) == (False, True)
    assert first.failure == second.failure is not None
