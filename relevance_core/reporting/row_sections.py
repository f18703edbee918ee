"""The report's sections about rows: the rows that came in, their fate in each stage, and the reasons for losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import polars as pl

from relevance_core.languages import named
from relevance_core.pairs import Task
from relevance_core.reporting import plots
from relevance_core.reporting.blocks import Block, Cell, Check, Checks, Part, Plot, Section, Table
from relevance_core.reporting.common import EXAMPLES, LABELS, Artifacts, section, stage_task
from relevance_core.runs.artifacts import Artifact, Rows, label

_OF_A_RULE: Final = 5
_FILES: Final = 50
_OF_A_FILE: Final = ("rows", "unread", "quarantined", "missing", "ignored")
LEDGER: Final = "ledger.parquet"
_DONE: Final = {"drop": "dropped", "flip": "given the other label", "weight": "given less weight", "review": "listed for review"}


def funnel(artifacts: Artifacts, tasks: Sequence[Task]) -> Section | None:
    """Builds the section about the fate of every row, stage by stage, with the reasons for losses."""
    rows = {label(*stage_task(name)): artifact.report.rows for name, artifact in artifacts.items()}
    rows = {name: counts for name, counts in rows.items() if counts.incoming or counts.made}
    if not rows:
        return None
    clicks = {name: counts for name, counts in rows.items() if name == "base"}  # clicks are no labelled pairs and would dwarf them
    pairs = {name: counts for name, counts in rows.items() if name != "base"}
    lead = "Nothing is lost: each stage accounts for every row that it was given or made."
    parts = [("", pairs), ("Clicks that the base model was built from", clicks)]
    return Section("rows", "Where the rows went", lead, [Part(title, _fates(found)) for title, found in parts if found])


def _fates(rows: Mapping[str, Rows]) -> list[Block]:
    """Returns the fates of some stages' rows, and the reasons for losses."""
    reasons = [
        (f"{name} · {_words(reason.partition(': ')[2])}", reason.partition(": ")[0], count)
        for name, counts in rows.items()
        for reason, count in counts.reasons.items()
    ]
    return [_stages(rows), *([_reasons(reasons)] if reasons else [])]


def _stages(rows: Mapping[str, Rows]) -> Plot:
    counts = rows.values()
    series: dict[str, tuple[str, list[float | None]]] = {
        "kept": (plots.FIRST, [r.kept for r in counts]),
        "quarantined": (plots.SECOND, [r.quarantined for r in counts]),
        "dropped": (plots.THIRD, [r.dropped for r in counts]),
    }
    shown = {name: part for name, part in series.items() if name == "kept" or any(part[1])}
    notes = [f"{r.kept:,}" + (f" ({r.made:,})" if r.made else "") for r in counts]
    return Plot(
        "Rows by stage",
        "Every row that came in or was made is kept, quarantined or dropped. The numbers are rows kept (of them made here).",
        plots.stacked_bars(list(rows), shown, notes, "rows"),
        ["stage", "came in", "made", "kept", "quarantined", "dropped"],
        [[name, r.incoming, r.made, r.kept, r.quarantined, r.dropped] for name, r in rows.items()],
    )


def _reasons(reasons: Sequence[tuple[str, str, int]]) -> Plot:
    """Draws the reasons for losses. reasons: (stage and reason, quarantined or dropped, rows)."""
    labels = [name for name, _, _ in reasons]
    series = {
        kind: (colour, [float(n) if what == kind else 0 for _, what, n in reasons])
        for kind, colour in (("quarantined", plots.SECOND), ("dropped", plots.THIRD))
        if any(what == kind for _, what, _ in reasons)
    }
    return Plot(
        "Why rows did not go on",
        "Each reason with its rows, stage by stage.",
        plots.stacked_bars(labels, series, [f"{n:,}" for _, _, n in reasons], "rows"),
        ["stage and reason", "what happened", "rows"],
        [list(reason) for reason in reasons],
    )


def files(artifacts: Artifacts, tasks: Sequence[Task]) -> Section | None:
    """Builds the section about the source's files: each that was read, and each that was skipped with the reason."""
    ingest = artifacts.get("ingest")
    if ingest is None or LEDGER not in ingest.files:  # a run made before there was a ledger
        return None
    ledger = ingest.table("ledger")
    read, skipped = ledger.filter(pl.col("why").is_null()), ledger.filter(pl.col("why").is_not_null())
    lead = f"Every listed file is here: {len(read):,} read, {len(skipped):,} skipped."
    headings = ["file", "read as", "rows", "unread values", "quarantined", "lacks", "columns not read"]
    troubled = read.sort(pl.col("missing").is_null(), pl.col("quarantined"), descending=[False, True], maintain_order=True)
    rows = [[row["file"], _form(row), *(row[name] for name in _OF_A_FILE)] for row in troubled.head(_FILES).iter_rows(named=True)]
    caption = f"{len(rows)} of {len(read):,} files, those that lack a column or have rows in quarantine first."
    left = Table("Files read", caption, headings, rows, "No file was read.")
    reasons = skipped.group_by("why").agg(pl.len(), pl.col("file").first()).sort("why")
    right = Table(
        "Files skipped",
        "By reason, with the first file of each.",
        ["reason", "files", "for example"],
        [list(row) for row in reasons.iter_rows()],
        "No file was skipped.",
    )
    return Section("files", "Files of the source", lead, [Part("", [left]), Part("", [right])])


def _form(row: Mapping[str, Any]) -> str:
    """Returns the form in which a file was read: `csv gzip utf-8 ;`."""
    return " ".join(str(row[name]) for name in ("format", "compression", "encoding", "delimiter", "escape") if row[name])


def validation(artifacts: Artifacts, tasks: Sequence[Task]) -> Section | None:
    """Builds the section about the rules of *validate*, with examples from the quarantine."""
    validate = artifacts.get("validate")
    if validate is None:
        return None
    rules = validate.json("rules")
    rates = [rule for rule in rules if rule["rule"] == "positive_rate" and rule["figure"] is not None]
    batch = Checks("Rules for the window", [_batch_rule(rule) for rule in rules if rule["kind"] == "batch"], folded=True)
    row = Checks("Rules for a row", [_row_rule(rule) for rule in rules if rule["kind"] == "row"], folded=True)
    lead = "A row that breaks a rule is quarantined. A window that breaks one stops the run before anything is trained."
    left: list[Block] = [*([_positive_rates(rates)] if rates else []), row, _quarantined(validate.table("quarantine"))]
    return Section("validation", "Validation", lead, [Part("", left), Part("", [batch])])


def _quarantined(quarantine: pl.DataFrame) -> Table:
    """Returns some rows of every rule that quarantined rows."""
    shown = quarantine.sort("rule", "pair_id", nulls_last=True).group_by("rule", maintain_order=True).head(_OF_A_RULE)
    rows = [
        [_words(row["rule"]), row["task"], row["language"], row["query"], row["target"], row["label"], _place(row)]
        for row in shown.iter_rows(named=True)
    ]
    caption = f"{len(rows)} of the {len(quarantine):,} rows in quarantine, at most {_OF_A_RULE} of a rule."
    return Table(
        "Quarantined rows",
        caption,
        ["rule", "task", "language", "query", "target", "label", "read from"],
        rows,
        "No row broke a rule.",
    )


def _place(row: Mapping[str, Any]) -> str:
    """Returns a row's file and line; empty for a run made before they were kept."""
    return f"{row['file']}, line {row['line']}" if row.get("file") else ""


def _positive_rates(rates: Sequence[Mapping[str, Any]]) -> Plot:
    rates = sorted(rates, key=lambda rule: str(rule["scope"]))
    labels = [f"{rule['scope'].split()[0]} {named(rule['scope'].split()[1])}" for rule in rates]
    figure = plots.rates(labels, {"relevant": (plots.FIRST, [rule["figure"] for rule in rates])}, "share of relevant pairs")
    return Plot(
        "Positive rate of the fresh rows",
        f"By task and language; {rates[0]['bound']} is allowed.",
        plots.with_band(figure, [float(bound) for bound in rates[0]["bound"].split(" to ")]),
        ["task and language", "positive rate", "rows", "bound"],
        [[name, rule["figure"], rule["rows"], rule["bound"]] for name, rule in zip(labels, rates, strict=True)],
    )


def _batch_rule(rule: Mapping[str, Any]) -> Check:
    name = " · ".join(filter(None, (_words(rule["rule"]), rule["scope"])))
    if rule["figure"] is None:
        return Check(rule["passed"], name, "could not be judged on this window")
    rows = f" · {rule['rows']:,} rows" if rule["rows"] else ""
    return Check(rule["passed"], name, f"{rule['figure']:,.4g}, allowed {rule['bound']}{rows}")


def _row_rule(rule: Mapping[str, Any]) -> Check:
    broken = f"{rule['rows']:,} rows break it ({rule['figure']:.2%})" if rule["rows"] else "no row breaks it"
    return Check(rule["passed"], _words(rule["rule"]), f"{broken}; wanted: {rule['bound']}")


def _words(name: str) -> str:
    return name.replace("_", " ")


def translation(artifacts: Artifacts, tasks: Sequence[Task]) -> Section | None:
    """Builds the section about translations: rows and their quality, by language."""
    translate = artifacts.get("translate")
    if translate is None or not translate.report.figures["languages"]:
        return None
    languages = translate.report.figures["languages"]
    reasons = sorted({reason for figures in languages.values() for reason in figures["rejected"]})
    names = [f"{named(language)}, {figures['why']}" for language, figures in languages.items()]
    colours = (plots.SECOND, plots.THIRD, plots.BAD, plots.MUTED, plots.LINE)
    series: dict[str, tuple[str, list[float | None]]] = {"made": (plots.FIRST, [figures["made"] for figures in languages.values()])}
    for n, reason in enumerate(reasons):
        series[reason] = (colours[n % len(colours)], [figures["rejected"].get(reason, 0) for figures in languages.values()])
    notes = [f"{figures['untranslated_share']:.1%}" for figures in languages.values()]
    table = [
        [name, *_translated(figures), *(figures["rejected"].get(reason, 0) for reason in reasons)]
        for name, figures in zip(names, languages.values(), strict=True)
    ]
    plot = Plot(
        "Translated training pairs",
        "Made, and rejected by each guard. The share is that of words left as they were.",
        plots.stacked_bars(names, series, notes, "pairs"),
        ["language", "wanted", "sampled", "made", "share rejected", "share untranslated", *reasons],
        table,
    )
    translator = translate.report.figures["translator"] or {}
    by = f"{translator.get('name')} {translator.get('version')}"
    lead = f"Labelled queries of well-covered languages, translated by {by}; the label is kept."
    samples = [
        _samples(f"{named(name)}", frame) for (name,), frame in translate.table("samples").group_by("language", maintain_order=True)
    ]
    looked: list[Block] = [*_translation_warnings(translate), *samples]
    return Section("translation", "Translation", lead, [Part("", [plot]), *(Part("", [block]) for block in looked)])


def _translated(figures: Mapping[str, Any]) -> list[Cell]:
    """Returns a language's figures. The share of rejected rows is missing from outputs of older releases."""
    shares = [figures.get("rejected_share"), figures["untranslated_share"]]
    return [figures["wanted"], figures["sampled"], figures["made"], *shares]


def _translation_warnings(translate: Artifact) -> list[Checks]:
    """Returns warnings to check before a model is trained on the translations."""
    warnings = translate.report.figures.get("warnings", [])
    return [Checks("Warnings", [Check(False, "translation", warning) for warning in warnings])] if warnings else []


def _samples(language: str, frame: pl.DataFrame) -> Table:
    rows = [
        [row["source_language"], row["source_query"], row["query"], row["target"], LABELS[row["label"]], row["reason"] or "kept"]
        for row in frame.head(EXAMPLES).iter_rows(named=True)
    ]
    return Table(
        f"Into {language}",
        "The first pairs tried, rejected ones among them.",
        ["from", "query", "translation", "target", "label", "guard"],
        rows,
    )


def mining(artifacts: Artifacts, tasks: Sequence[Task]) -> Section | None:
    """Builds the section about hard negatives."""

    def blocks(task: Task) -> list[Block]:
        mine = artifacts.get(f"mine:{task}")
        return [] if mine is None or not mine.report.figures["enabled"] else _mined(mine)

    lead = "The nearest targets of a query that are not relevant to it. The guards take out neighbours that may well be."
    return section("negatives", "Hard negatives", lead, tasks, blocks)


def _mined(mine: Artifact) -> list[Block]:
    figures = mine.report.figures
    guards = figures["excluded"]
    fates = [
        *(("left out: " + guard, count) for guard, count in guards.items()),
        ("usable", figures["usable"]),
        ("added", figures["added"]),
    ]
    series: dict[str, tuple[str, list[float | None]]] = {
        "left out by a guard": (plots.THIRD, [count if name.startswith("left out") else None for name, count in fates]),
        "usable": (plots.SECOND, [count if name == "usable" else None for name, count in fates]),
        "added": (plots.FIRST, [count if name == "added" else None for name, count in fates]),
    }
    labels = [name.removeprefix("left out: ") for name, _ in fates]
    return [
        Plot(
            "What became of the candidates",
            f"{figures['candidates']:,} neighbours of {figures['positives']:,} positives among {figures['targets']:,} targets.",
            plots.stacked_bars(labels, series, [f"{count:,}" for _, count in fates], "candidates"),
            ["", "candidates"],
            [list(fate) for fate in fates],
        ),
        _negatives(mine.table("examples")),
    ]


def _negatives(examples: pl.DataFrame) -> Table:
    """Returns some candidates of every fate; the usable candidates, from which negatives are drawn, come first."""
    ordered = examples.sort(pl.col("reason") != "usable", "reason", "query", "rank", maintain_order=True)
    return Table(
        "Candidates of every fate",
        "Usable ones are what negatives are drawn from; the others were left out by the guard that is named.",
        ["fate", "language", "query", "relevant", "candidate", "similarity"],
        [
            [row["reason"], row["language"], row["query"], row["positive"], row["negative"], row["similarity"]]
            for row in ordered.iter_rows(named=True)
        ],
        "There was no candidate.",
    )


def filtering(artifacts: Artifacts, tasks: Sequence[Task]) -> Section | None:
    """Builds the section about the rows that the filter acted on."""

    def blocks(task: Task) -> list[Block]:
        denoise = artifacts.get(f"denoise:{task}")
        return [] if denoise is None or not denoise.report.figures["enabled"] else _filtered(denoise)

    lead = "Training rows whose label a model that was not trained on them confidently contradicts."
    return section("filter", "Self-validation filter", lead, tasks, blocks)


def _rule(figures: Mapping[str, Any]) -> str:
    """Returns the run's rule for a contradicted label, in words. Outputs of older releases have no choice of detectors."""
    confident = f"p of the other label at least {figures['confidence']}"
    if (other := figures.get("confidence_not_relevant")) is not None:
        confident += f" ({other} for rows labelled {LABELS[0]})"
    rules = {"confidence": confident, "cleanlab": "confident learning", "both": f"{confident} and confident learning"}
    votes = figures.get("votes", 1)
    return rules[figures.get("detector", "confidence")] + (f" by more than half of {votes} models" if votes > 1 else "")


def _filtered(denoise: Artifact) -> list[Block]:
    figures = denoise.report.figures
    by_group = figures["by_label_and_language"]
    languages = sorted({group["language"] for group in by_group})
    acted = {(group["language"], group["label"]): group["acted"] / group["rows"] for group in by_group}
    series = {
        f"labelled {LABELS[value]}": (colour, [acted.get((language, value)) for language in languages])
        for value, colour in ((1, plots.FIRST), (0, plots.SECOND))
    }
    ledger = denoise.table("ledger").with_columns(doubt=(pl.col("score") - pl.col("label")).abs())
    surest = ledger.sort(["doubt", "pair_id"], descending=[True, False]).head(EXAMPLES)
    done = _DONE[figures["action"]]
    return [
        Plot(
            "Contradicted labels by language",
            f"{figures['acted']:,} rows {done}: {_rule(figures)}, {figures['mode']}.",
            plots.rates([named(language) for language in languages], series, "share of the rows with that label"),
            ["language", "label", "rows", "contradicted", done],
            [[g["language"], LABELS[g["label"]], g["rows"], g["contradicted"], g["acted"]] for g in by_group],
        ),
        Table(
            "The most confident contradictions",
            "The label is the one that the row came with.",
            ["language", "query", "target", "label", "p(yes)"],
            [[r["language"], r["query"], r["target"], LABELS[r["label"]], r["score"]] for r in surest.iter_rows(named=True)],
            "Nothing was contradicted.",
        ),
    ]


def reviewed(artifacts: Artifacts, tasks: Sequence[Task]) -> Section | None:
    """Builds the section about people's decisions on labels in this run."""
    ingest = artifacts.get("ingest")
    if ingest is None or "reviewed.parquet" not in ingest.files:
        return None
    texts = ingest.table("pairs", ["pair_id", "language", "query", "target"]).unique("pair_id")
    reviewed = ingest.table("reviewed").join(texts, on="pair_id")

    def blocks(task: Task) -> list[Block]:
        rows = reviewed.filter(task=task).sort("at", "pair_id", descending=[True, False])
        return [_decisions(rows)] if rows.height else []

    lead = "Pairs of this run whose label a person looked at. The decided label holds, and the filter does not ask again."
    return section("reviewed", "What people decided", lead, tasks, blocks)


def _decisions(rows: pl.DataFrame) -> Table:
    """Returns the latest decisions with their texts. rows: of `reviewed`, latest decision first."""
    changed = int((rows["label"] != rows["was"]).sum())
    words = {None: "kept as it was", 0: LABELS[0], 1: LABELS[1]}
    return Table(
        "The latest decisions",
        f"{min(rows.height, EXAMPLES)} of {rows.height:,} decided pairs; {changed:,} have another label than in the log.",
        ["language", "query", "target", "label in the log", "decided", "who", "when (UTC)"],
        [
            [r["language"], r["query"], r["target"], LABELS[r["was"]], words[r["label"]], r["who"], r["at"][:16].replace("T", " ")]
            for r in rows.head(EXAMPLES).iter_rows(named=True)
        ],
    )
