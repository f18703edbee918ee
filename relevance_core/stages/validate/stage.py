"""Stage *validate*: quarantines rows that break a rule, and stops the run on a batch that breaks one."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any, Final

import polars as pl

from relevance_core.config import Settings
from relevance_core.pairs import ORIGINALS, SCHEMA
from relevance_core.processes import PartLogger
from relevance_core.rules import BATCH_RULES, MERGED_RULES, ROW_RULES, Checked, Rule, broken_rules, check, known_languages
from relevance_core.runs.artifacts import Output, Report, Rows
from relevance_core.runs.stage import Inputs, stage
from relevance_core.sources.ledger import own_columns
from relevance_core.sources.names import REQUIRED
from relevance_core.stages.validate.data_docs import write_data_docs

log = PartLogger(logging.getLogger(__name__))

Figure = tuple[str, str, float, int]
"""A batch rule's name, the scope, the figure, and the number of rows behind it."""

KEPT: Final = (*SCHEMA, *ORIGINALS, "group", "fresh")


@stage("validate", uses=("validation", "window"), version=2)
def run(settings: Settings, inputs: Inputs, out: Output) -> Report:
    """Checks the pairs with Great Expectations and settles contradicting labels.

    A row that breaks a row rule (rules.ROW_RULES), as *ingest* found when it read the row's day, or a rule of merged rows
    (MERGED_RULES) goes to `quarantine` with the first rule that it breaks; history rows too. Of a pair with both labels, the latest
    event wins and the other row is dropped as superseded; two events of the same time settle nothing and both rows are dropped as
    contradicting. Batch rules (BATCH_RULES) look at the fresh rows alone, before the contradictions are settled; counts of rows,
    and languages' shares, are those of the rows that arrived, so that a pair that comes every day counts every day.

    Leaves `pairs` (unique by pair_id), `quarantine` (with `rule`), `rules.json` (every rule's figure and bound, by scope) and
    `data_docs/`. A batch that breaks a rule leaves all this too, and a report whose `failure` names every broken rule; the pipeline
    stops there.

    It repairs nothing, and it can't see a wrong label: *denoise* looks for those.
    """
    pairs = inputs["rows"].table("pairs")
    arrived = inputs["rows"].json("window")
    log.info("%s rows against %d rules of merged rows and %d batch rules", pairs.height, len(MERGED_RULES), len(BATCH_RULES))
    rows = check(MERGED_RULES, _merged_columns(pairs), settings, "rows")
    pairs = _with_broken(pairs, broken_rules(MERGED_RULES, rows, pairs.height))
    quarantine, valid = pairs.filter(pl.col("rule").is_not_null()), pairs.filter(pl.col("rule").is_null())
    figures = pl.DataFrame(list(_figures(pairs, valid, arrived, settings)), schema=_FIGURES, orient="row")
    wide = _wide(figures)
    batch = check(BATCH_RULES, wide, settings, "batch")
    kept, dropped = settle(valid)

    out.table("pairs", kept.select(KEPT))
    out.table("quarantine", quarantine)
    rules = [*_row_results(pairs, settings), *_batch_results(batch, figures, wide, settings)]
    out.json("rules", rules)
    checked = {"rows": rows.result, "batch": batch.result} | _of_quarantine(quarantine, settings)
    write_data_docs(checked, rules, out.work / "data_docs", "Validation")
    out.folder("data_docs", out.work / "data_docs")
    own = dict(inputs["rows"].table("ledger", ["file", "ignored"]).iter_rows()) if arrived["missing_columns"] else {}
    return _report(kept, quarantine, dropped, rules, arrived | {"own_columns": own}, out)


_FIGURES: Final = {"rule": pl.String(), "scope": pl.String(), "figure": pl.Float64(), "rows": pl.Int64()}


def _of_quarantine(quarantine: pl.DataFrame, settings: Settings) -> dict[str, Any]:
    """Returns the suite that shows people which values of the rows in quarantine break which row rule; nothing without a row."""
    columns = quarantine.select(*dict.fromkeys(rule.column for rule in ROW_RULES))
    return {"quarantine": check(ROW_RULES, columns, settings, "quarantine").result} if columns.height else {}


def _merged_columns(pairs: pl.DataFrame) -> pl.DataFrame:
    """Returns the columns of MERGED_RULES. `key` is null for a row that a row rule reports: *ingest* doesn't merge all of these."""
    key = pl.when(pl.col("rule").is_null()).then(pl.concat_str("pair_id", "label", separator="/"))
    return pairs.select("event_time", key.alias("key"))


def _with_broken(pairs: pl.DataFrame, merged: pl.DataFrame) -> pl.DataFrame:
    """Adds the rules of merged rows that a row breaks to those that *ingest* found."""
    if not merged["rule"].count():
        return pairs
    rule = pl.coalesce(pairs["rule"], merged["rule"]).alias("rule")
    both = pl.concat_list(pl.col(name).fill_null([]) for name in ("broken", "of_all"))
    return pairs.with_columns(rule, merged["broken"].alias("of_all")).with_columns(both.alias("broken")).drop("of_all")


def settle(pairs: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """Keeps one row a pair, and counts the dropped rows by reason.

    Of a pair with both labels the latest event wins, the others are `superseded`; where the latest events have the same time, none
    wins and all are `contradicting`.
    """
    twice = pairs.filter(pl.col("pair_id").is_duplicated())
    newest = twice.filter(pl.col("event_time") == pl.col("event_time").max().over("pair_id"))
    winners = newest.filter(~pl.col("pair_id").is_duplicated())
    tied = twice.filter(~pl.col("pair_id").is_in(winners["pair_id"].implode()))
    kept = pl.concat([pairs.filter(~pl.col("pair_id").is_duplicated()), winners]).sort("event_time", "pair_id")
    return kept, {"contradicting": tied.height, "superseded": twice.height - tied.height - winners.height}


def _figures(pairs: pl.DataFrame, valid: pl.DataFrame, arrived: Mapping[str, Any], settings: Settings) -> Iterator[Figure]:
    """Yields the figures of every batch rule that can be judged."""
    for column in REQUIRED:
        files = len(arrived["missing_columns"].get(column, ()))
        yield "files_without_column", column, float(files), files
    unplaced = len(arrived["files_without_day"])
    yield "files_without_day", "window", float(unplaced), unplaced
    rows = arrived["fresh_rows"]
    yield "rows", "window", float(rows), rows
    if arrived["history_rows"]:
        daily_mean = arrived["history_rows"] / arrived["history_days"]
        yield "rows_of_daily_mean", "window", rows / arrived["window"]["days"] / daily_mean, rows
    fresh = pairs.filter("fresh")
    if fresh.height:
        yield "quarantined_share", "window", fresh["rule"].count() / fresh.height, fresh.height
    fresh = valid.filter("fresh")
    yield from _positive_rates(fresh, settings)
    yield from _language_changes(arrived["rows_by_language"], settings)
    if fresh.height:
        both = valid.filter(pl.col("pair_id").is_duplicated())["pair_id"].unique()
        ids = fresh["pair_id"].unique()
        yield "contradicting_share", "window", int(ids.is_in(both.implode()).sum()) / ids.len(), ids.len()


def _positive_rates(fresh: pl.DataFrame, settings: Settings) -> Iterator[Figure]:
    rates = fresh.group_by("task", "language").agg(pl.col("label").mean().alias("rate"), pl.len()).sort("task", "language")
    for task, language, rate, rows in rates.iter_rows():
        if rows >= settings.validation.rate_min_rows:
            yield "positive_rate", f"{task} {language}", rate, rows


def _language_changes(rows: Mapping[str, Mapping[str, int]], settings: Settings) -> Iterator[Figure]:
    """Yields the change of each language's share from the history to the fresh rows, where both are large enough to tell."""
    known = known_languages(settings)
    now, before = ({language: rows[name].get(language, 0) for language in known} for name in ("fresh", "history"))
    if min(sum(now.values()), sum(before.values())) < settings.validation.rate_min_rows:
        return
    for language in known:
        if now[language] or before[language]:
            change = abs(now[language] / sum(now.values()) - before[language] / sum(before.values()))
            yield "language_share_change", language, change, now[language]


def _wide(figures: pl.DataFrame) -> pl.DataFrame:
    """Returns one row a figure, in the column of its rule: the frame of the batch's expectations."""
    columns = [pl.when(pl.col("rule") == rule.name).then("figure").cast(pl.Float64).alias(rule.name) for rule in BATCH_RULES]
    return figures.select("scope", *columns)


def _row_results(pairs: pl.DataFrame, settings: Settings) -> list[dict[str, Any]]:
    """Returns one entry a row rule; its figure is the share of all rows that break it."""
    broken = dict(pairs["broken"].explode().drop_nulls().value_counts().iter_rows())
    entries = []
    for rule in (*ROW_RULES, *MERGED_RULES):
        rows = broken.get(rule.name, 0)
        share = rows / pairs.height if pairs.height else 0.0
        entries.append(_entry(rule, settings, scope="rows", figure=share, rows=rows, passed=not rows))
    return entries


def _batch_results(checked: Checked, figures: pl.DataFrame, wide: pl.DataFrame, settings: Settings) -> list[dict[str, Any]]:
    """Returns one entry a batch rule and scope; a rule that could not be judged has an entry with a null figure."""
    entries = []
    for rule in BATCH_RULES:
        broken = set(checked.failing[rule.name])
        positions = wide.with_row_index().filter(pl.col(rule.name).is_not_null())["index"].to_list()
        for position in positions:
            _, scope, figure, rows = figures.row(position)
            entries.append(_entry(rule, settings, scope=scope, figure=figure, rows=rows, passed=position not in broken))
        if not positions:
            entries.append(_entry(rule, settings, scope="", figure=None, rows=0, passed=True))
    return entries


def _entry(rule: Rule, settings: Settings, **result: Any) -> dict[str, Any]:
    if result["figure"] is not None:
        result["figure"] = round(result["figure"], 6)
    return {"rule": rule.name, "kind": rule.kind, "column": rule.column, "bound": rule.bound(settings), **result}


def _report(
    kept: pl.DataFrame,
    quarantine: pl.DataFrame,
    dropped: Mapping[str, int],
    rules: list[dict[str, Any]],
    arrived: Mapping[str, Any],
    out: Output,
) -> Report:
    reasons = {f"dropped: {why}": rows for why, rows in dropped.items() if rows}
    gone = sum(reasons.values())
    by_rule = quarantine.group_by("rule").len().sort("rule")
    reasons |= {f"quarantined: {rule}": rows for rule, rows in by_rule.iter_rows()}
    rates = kept.group_by("task", "language").agg(pl.col("label").mean(), pl.len()).sort("task", "language")
    broken = [entry for entry in rules if not entry["passed"]]
    figures = {
        "rules_passed": len(rules) - len(broken),
        "rules_failed": len(broken),
        "failed": [f"{entry['rule']} {entry['scope']}".strip() for entry in broken],
        "positive_rate": {
            f"{task} {language}": {"rate": round(rate, 4), "rows": rows} for task, language, rate, rows in rates.iter_rows()
        },
        "data_docs": "data_docs/index.html",
    }
    rows = Rows(kept.height + quarantine.height + gone, 0, kept.height, quarantine.height, gone, reasons)
    stopping = [entry for entry in broken if entry["kind"] == "batch"]
    return Report(rows, figures, failure=_failure(stopping, quarantine, arrived, out) if stopping else None)


def _failure(broken: list[dict[str, Any]], quarantine: pl.DataFrame, arrived: Mapping[str, Any], out: Output) -> dict[str, str]:
    """Describes every broken batch rule with its figure, bound and advice."""
    advice = {rule.name: rule.do for rule in BATCH_RULES}
    told = [
        f"{entry['rule']} of {entry['scope']} is {entry['figure']:g} ({_details(entry, quarantine, arrived)})" for entry in broken
    ]
    return {
        "what": f"the batch breaks {len(broken)} rule{'s' if len(broken) > 1 else ''}: {'; '.join(told)}",
        "where": out.store.uri_of(out.address),
        "expected": "; ".join(dict.fromkeys(f"{entry['rule']} {entry['bound']}" for entry in broken)),
        "do": "; ".join(dict.fromkeys(advice[entry["rule"]] for entry in broken)),
    }


def _details(entry: Mapping[str, Any], quarantine: pl.DataFrame, arrived: Mapping[str, Any]) -> str:
    """Describes the evidence behind a figure: the files, the row rules behind the quarantine, or the number of rows."""
    if entry["rule"] == "files_without_column":
        own = arrived["own_columns"]
        files = arrived["missing_columns"][entry["scope"]]
        return _listed([f"{file} has {own_columns(own[file])}" if own.get(file) else file for file in files])
    if entry["rule"] == "files_without_day":
        return _listed(arrived["files_without_day"])
    if entry["rule"] == "quarantined_share":
        rules = quarantine.filter("fresh").group_by("rule").len().sort("len", "rule", descending=[True, False])
        return f"of {entry['rows']} rows: {', '.join(f'{rule} {rows}' for rule, rows in rules.iter_rows())}"
    return "in the window" if entry["rule"] == "rows" else f"of {entry['rows']} rows"


def _listed(files: list[str]) -> str:
    return ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
