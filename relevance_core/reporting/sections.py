"""What the report shows: each section from the stage outputs it is about, left out where the run did not get that far."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import polars as pl

from relevance_core.languages import named
from relevance_core.pairs import TASK_NAMES, Task
from relevance_core.reporting import plots
from relevance_core.reporting.blocks import Block, Card, Cell, Check, Checks, Facts, Page, Part, Plot, Section, Table
from relevance_core.stages.base import Artifact, Rows, label

Artifacts = Mapping[str, Artifact]
"""Outputs by stage name; `mine:QC` for that of a task."""

_EXAMPLES: Final = 12
_OF_A_RULE: Final = 5
_VERDICTS: Final[Mapping[str, tuple[str, Any]]] = {
    "publish": ("Published", "good"),
    "hold": ("Held", "wait"),
    "needs-approval": ("Needs approval", "ask"),
}
_LABELS: Final = {0: "not relevant", 1: "relevant"}
_DONE: Final = {"drop": "dropped", "flip": "given the other label", "weight": "given less weight", "review": "listed for review"}


def build_page(artifacts: Artifacts, tasks: Sequence[Task], title: str, subtitle: str) -> Page:
    """The page of a run: the outcome first, then how good it is and why, then what happened to the rows."""
    sections = (_quality, _gate, _funnel, _validation, _translation, _mining, _filter, _copies, _reviewed, _training, _provenance)
    shown = [section for make in sections if (section := make(artifacts, tasks)) is not None]
    return Page(title, subtitle, _notices(artifacts), [_card(artifacts, task) for task in tasks], shown)


def _notices(artifacts: Artifacts) -> list[str]:
    """Why the run stopped, in the stage's own words."""
    found = []
    for name, artifact in artifacts.items():
        if failure := artifact.report.failure:
            parts = [
                f"{word} {failure[key]}"
                for key, word in (("where", "Where:"), ("expected", "Expected:"), ("do", "What to do:"))
                if failure.get(key)
            ]
            found.append(
                ". ".join([f"The run stopped at {name}: {failure['what']}", *parts]) + ". Whatever served before still serves."
            )
    return found


def _card(artifacts: Artifacts, task: Task) -> Card:
    """The outcome of a task in words, with the few figures that matter."""
    title = f"{task} · {TASK_NAMES[task]}"
    gate, evaluate = artifacts.get(f"gate:{task}"), artifacts.get(f"evaluate:{task}")
    if evaluate is None:
        return Card(title, "No verdict", "none", ["The run did not get as far as judging this task."])
    metrics = evaluate.report.figures
    figures = [
        ("F1", f"{metrics['f1']:.3f}", _against(metrics)),
        ("macro-F1", f"{metrics['macro_f1']:.3f}", "mean of both classes"),
        ("AUC", "–" if metrics["auc"] is None else f"{metrics['auc']:.3f}", "order of the scores"),
        ("always yes", f"{metrics['always_yes_f1']:.3f}", "F1 of no model at all"),
    ]
    if gate is None:
        return Card(title, "Not judged yet", "none", [], figures)
    word, tone = _VERDICTS[gate.report.figures["verdict"]]
    rollout = artifacts["rollout"].report.figures if "rollout" in artifacts else {}
    answers = rollout.get("answers", {})
    if word == "Published" and not rollout.get("tasks", {}).get(task, {}).get("promoted"):
        word, tone = "Passed the gate", "wait"
    if task in answers:
        word, tone = ("Approved", "good") if answers[task]["approved"] else ("Not approved", "wait")
    lines = [check.text for check in _checks(gate) if not check.passed] or [_why_published(metrics)]
    return Card(title, word, tone, [*lines, *_release(artifacts, task)], figures)


def _against(metrics: Mapping[str, Any]) -> str:
    champion = metrics["champion"]
    return "first version" if champion is None else f"{metrics['f1'] - champion['f1']:+.3f} against the champion"


def _why_published(metrics: Mapping[str, Any]) -> str:
    if metrics["champion"] is None:
        return "The first version, and it passed every rule of the gate."
    return "Better than the champion on the same rows, and no language with enough rows loses too much."


def _release(artifacts: Artifacts, task: Task) -> list[str]:
    """What became of the version: serving or not, and what proved it servable."""
    publish, rollout = artifacts.get(f"publish:{task}"), artifacts.get("rollout")
    if publish is None:
        return []
    version = f"Version {publish.report.figures['version']}"
    nothing: Mapping[str, Any] = {"tasks": {}, "proofs": [], "waits": ""}
    figures = rollout.report.figures if rollout is not None else nothing
    if not figures["tasks"].get(task, {}).get("promoted"):
        waits = f" It waits: {figures['waits']}." if task in figures["tasks"] and figures["waits"] else ""
        return [f"{version}; the champion was not changed.{waits}"]
    proofs = [_proof(proof) for proof in figures["proofs"] if proof["task"] == task]
    return [f"{version} serves since release {figures['tasks'][task]['number']}.", *proofs]


def _proof(proof: Mapping[str, Any]) -> str:
    where = f" on {', '.join(proof['where'])}" if proof["where"] else ""
    pairs = f"{proof['pairs']} golden pairs within {proof['largest']:.1e} of the trainer's"
    return f"Proved servable by {proof['engine']}{where}: {pairs}."


def _quality(artifacts: Artifacts, tasks: Sequence[Task]) -> Section | None:
    def blocks(task: Task) -> list[Block]:
        evaluate = artifacts.get(f"evaluate:{task}")
        if evaluate is None:
            return []
        mistyped = evaluate.report.figures.get("corrupted")
        return [_by_language(evaluate), *([_mistyped(mistyped)] if mistyped else []), _mistakes(evaluate)]

    return _section(
        "quality",
        "How good it is, language by language",
        "F1 on judgement rows, which chose neither weights nor threshold. Champion and new version answer the same rows, each at "
        "its own threshold. Where most pairs are relevant, answering always yes scores high too: read every dot against its mark.",
        tasks,
        blocks,
    )


def _by_language(evaluate: Artifact) -> Plot:
    metrics = evaluate.json("metrics")
    champion = metrics["champion"]
    languages = sorted(metrics["per_language"], key=lambda language: -metrics["per_language"][language]["rows"])
    rows = [metrics, *(metrics["per_language"][language] for language in languages)]
    old = [champion, *(champion["per_language"][language] for language in languages)] if champion else None
    labels = ["all languages", *(named(language) for language in languages)]
    figure = plots.scores_by_language(
        labels,
        [row["f1"] for row in rows],
        [(row["f1_low"], row["f1_high"]) for row in rows],
        [row["f1"] for row in old] if old else None,
        [row["always_yes_f1"] for row in rows],
    )
    numbers = [
        [
            name,
            row["rows"],
            row["f1"],
            old[n]["f1"] if old else None,
            row["always_yes_f1"],
            row["macro_f1"],
            row["auc"],
            row["precision"],
            row["recall"],
        ]
        for n, (name, row) in enumerate(zip(labels, rows, strict=True))
    ]
    return Plot(
        "F1 by language",
        "Bars are 95 % bootstrap intervals over queries; short ticks mark answering always yes.",
        figure,
        ["", "rows", "F1", "champion", "always yes", "macro-F1", "AUC", "precision", "recall"],
        numbers,
    )


def _mistyped(figures: Mapping[str, Any]) -> Table:
    """figures: those of `evaluate.judge_mistyped`."""
    clean = figures["clean"]
    languages = sorted(figures["per_language"], key=lambda language: -figures["per_language"][language]["rows"])
    both = [(figures, clean), *((figures["per_language"][name], clean["per_language"][name]) for name in languages)]
    names = ["all languages", *(named(language) for language in languages)]
    left = f"{figures['unchanged']:,} have nothing to mistype"
    left += f", and the mistyped query of {figures['seen']:,} is one of training" if figures["seen"] else ""
    return Table(
        "With mistyped queries",
        f"The same judgement rows with a slip in the query, at the same threshold, beside the rows as they are; {left}. "
        "The gate does not look at it.",
        ["", "rows", "F1 mistyped", "F1", "AUC mistyped", "AUC"],
        [[name, new["rows"], new["f1"], old["f1"], new["auc"], old["auc"]] for name, (new, old) in zip(names, both, strict=True)],
    )


def _mistakes(evaluate: Artifact) -> Table:
    threshold = evaluate.report.figures["threshold"]
    scores = evaluate.table("scores").filter(pl.col("part") == "judgement")
    wrong = scores.filter((pl.col("p") >= threshold) != (pl.col("label") == 1)).with_columns(off=(pl.col("p") - threshold).abs())
    rows = wrong.sort(["off", "pair_id"], descending=[True, False]).head(_EXAMPLES)
    return Table(
        "Where it is most sure, and wrong",
        f"{len(rows)} of the {len(wrong)} mistakes on judgement rows, the farthest from the threshold. Some are wrong labels.",
        ["language", "query", "target", "label", "p(yes)"],
        [
            [row["language"], row["query"], row["target"], _LABELS[row["label"]], round(row["p"], 3)]
            for row in rows.iter_rows(named=True)
        ],
        "No mistake on the judgement rows.",
    )


def _gate(artifacts: Artifacts, tasks: Sequence[Task]) -> Section | None:
    def blocks(task: Task) -> list[Block]:
        gate = artifacts.get(f"gate:{task}")
        return [] if gate is None else [Checks("Rules of the gate", _checks(gate))]

    return _section(
        "verdict",
        "The verdict, rule by rule",
        "Every rule that was asked, with its figure and its bound. One that fails holds the version.",
        tasks,
        blocks,
    )


def _checks(gate: Artifact) -> list[Check]:
    return [Check(reason["passed"], reason["rule"], reason["text"]) for reason in gate.json("verdict")["reasons"]]


def _funnel(artifacts: Artifacts, tasks: Sequence[Task]) -> Section | None:
    rows = {label(*_stage_task(name)): artifact.report.rows for name, artifact in artifacts.items()}
    rows = {name: counts for name, counts in rows.items() if counts.incoming or counts.made}
    if not rows:
        return None
    clicks = {name: counts for name, counts in rows.items() if name == "base"}  # clicks are no labelled pairs, and far more
    pairs = {name: counts for name, counts in rows.items() if name != "base"}
    lead = "Nothing is lost: each stage accounts for every row that it was given or made."
    parts = [("", pairs), ("Clicks that the base model was built from", clicks)]
    return Section("rows", "Where the rows went", lead, [Part(title, _fates(found)) for title, found in parts if found])


def _fates(rows: Mapping[str, Rows]) -> list[Block]:
    """What became of the rows of some stages, and why."""
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
    """reasons: (stage and reason, quarantined or dropped, rows)."""
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


def _stage_task(name: str) -> tuple[str, Any]:
    stage, _, task = name.partition(":")
    return stage, task or None


def _validation(artifacts: Artifacts, tasks: Sequence[Task]) -> Section | None:
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
    """Some rows of every rule that put rows into quarantine."""
    shown = quarantine.sort("rule", "pair_id", nulls_last=True).group_by("rule", maintain_order=True).head(_OF_A_RULE)
    rows = [
        [_words(row["rule"]), row["task"], row["language"], row["query"], row["target"], row["label"]]
        for row in shown.iter_rows(named=True)
    ]
    caption = f"{len(rows)} of the {len(quarantine):,} rows in quarantine, at most {_OF_A_RULE} of a rule."
    return Table(
        "Quarantined rows", caption, ["rule", "task", "language", "query", "target", "label"], rows, "No row broke a rule."
    )


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


def _translation(artifacts: Artifacts, tasks: Sequence[Task]) -> Section | None:
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
        ["language", "wanted", "sampled", "made", "share rejected", "share untranslated", "round trip", *reasons],
        table,
    )
    translator = translate.report.figures["translator"] or {}
    by = f"{translator.get('name')} {translator.get('version')}"
    lead = f"Labelled queries of well-covered languages, translated by {by}; the label is kept."
    samples = [
        _samples(f"{named(name)}", frame) for (name,), frame in translate.table("samples").group_by("language", maintain_order=True)
    ]
    looked: list[Block] = [*_translation_warnings(translate), *_round_trip(translate), *samples]
    return Section("translation", "Translation", lead, [Part("", [plot]), *(Part("", [block]) for block in looked)])


def _translated(figures: Mapping[str, Any]) -> list[Cell]:
    """A language's figures. A finished output may be older than the shares of rejected rows and the round trip."""
    trip = figures.get("round_trip")
    shares = [figures.get("rejected_share"), figures["untranslated_share"], trip["similarity"] if trip else None]
    return [figures["wanted"], figures["sampled"], figures["made"], *shares]


def _translation_warnings(translate: Artifact) -> list[Checks]:
    """What to look at before anything is trained on the translations."""
    warnings = translate.report.figures.get("warnings", [])
    return [Checks("Warnings", [Check(False, "translation", warning) for warning in warnings])] if warnings else []


def _round_trip(translate: Artifact) -> list[Table]:
    """The texts that came back most unlike themselves."""
    if "round_trip.parquet" not in translate.files or (trips := translate.table("round_trip")).is_empty():
        return []
    rows = [
        [row["source_language"], row["query"], row["language"], row["translation"], row["back"], row["similarity"]]
        for row in trips.sort("similarity", *trips.columns[:3]).head(_EXAMPLES).iter_rows(named=True)
    ]
    caption = f"{len(rows)} of {len(trips):,} texts that were translated back, the least alike first: cosine of the embeddings."
    return [Table("There and back", caption, ["from", "query", "into", "translation", "translated back", "similarity"], rows)]


def _samples(language: str, frame: pl.DataFrame) -> Table:
    rows = [
        [row["source_language"], row["source_query"], row["query"], row["target"], _LABELS[row["label"]], row["reason"] or "kept"]
        for row in frame.head(_EXAMPLES).iter_rows(named=True)
    ]
    return Table(
        f"Into {language}",
        "The first pairs tried, rejected ones among them.",
        ["from", "query", "translation", "target", "label", "guard"],
        rows,
    )


def _mining(artifacts: Artifacts, tasks: Sequence[Task]) -> Section | None:
    def blocks(task: Task) -> list[Block]:
        mine = artifacts.get(f"mine:{task}")
        return [] if mine is None or not mine.report.figures["enabled"] else _mined(mine)

    lead = "The nearest targets of a query that are not relevant to it. The guards take out neighbours that may well be."
    return _section("negatives", "Hard negatives", lead, tasks, blocks)


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
    """Some candidates of every fate; the usable ones, from which the negatives are drawn, first."""
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


def _filter(artifacts: Artifacts, tasks: Sequence[Task]) -> Section | None:
    def blocks(task: Task) -> list[Block]:
        denoise = artifacts.get(f"denoise:{task}")
        return [] if denoise is None or not denoise.report.figures["enabled"] else _filtered(denoise)

    lead = "Training rows whose label a model that was not trained on them confidently contradicts."
    return _section("filter", "Self-validation filter", lead, tasks, blocks)


def _rule(figures: Mapping[str, Any]) -> str:
    """When the filter of a run takes a label for contradicted. A finished output may be older than the choice of detectors."""
    confident = f"p of the other label at least {figures['confidence']}"
    if (other := figures.get("confidence_not_relevant")) is not None:
        confident += f" ({other} for rows labelled {_LABELS[0]})"
    rules = {"confidence": confident, "cleanlab": "confident learning", "both": f"{confident} and confident learning"}
    votes = figures.get("votes", 1)
    return rules[figures.get("detector", "confidence")] + (f" by more than half of {votes} models" if votes > 1 else "")


def _filtered(denoise: Artifact) -> list[Block]:
    figures = denoise.report.figures
    by_group = figures["by_label_and_language"]
    languages = sorted({group["language"] for group in by_group})
    acted = {(group["language"], group["label"]): group["acted"] / group["rows"] for group in by_group}
    series = {
        f"labelled {_LABELS[value]}": (colour, [acted.get((language, value)) for language in languages])
        for value, colour in ((1, plots.FIRST), (0, plots.SECOND))
    }
    ledger = denoise.table("ledger").with_columns(doubt=(pl.col("score") - pl.col("label")).abs())
    surest = ledger.sort(["doubt", "pair_id"], descending=[True, False]).head(_EXAMPLES)
    done = _DONE[figures["action"]]
    return [
        Plot(
            "Contradicted labels by language",
            f"{figures['acted']:,} rows {done}: {_rule(figures)}, {figures['mode']}.",
            plots.rates([named(language) for language in languages], series, "share of the rows with that label"),
            ["language", "label", "rows", "contradicted", done],
            [[g["language"], _LABELS[g["label"]], g["rows"], g["contradicted"], g["acted"]] for g in by_group],
        ),
        Table(
            "The most confident contradictions",
            "The label is the one that the row came with.",
            ["language", "query", "target", "label", "p(yes)"],
            [[r["language"], r["query"], r["target"], _LABELS[r["label"]], r["score"]] for r in surest.iter_rows(named=True)],
            "Nothing was contradicted.",
        ),
    ]


def _copies(artifacts: Artifacts, tasks: Sequence[Task]) -> Section | None:
    def blocks(task: Task) -> list[Block]:
        denoise = artifacts.get(f"denoise:{task}")
        return [] if denoise is None or "augmented.parquet" not in denoise.files else [_copied(denoise)]

    lead = "Training rows once more with a slip in the query: the label is kept, and no text of the dev side is made."
    return _section("copies", "Mistyped copies", lead, tasks, blocks)


def _copied(denoise: Artifact) -> Table:
    figures, tried = denoise.report.figures["augmented"], denoise.table("augmented")
    shown = tried.group_by("language", "slip", maintain_order=True).head(1).sort("language", "slip").head(2 * _EXAMPLES)
    return Table(
        "One of each language and kind of slip",
        f"{figures['added']:,} of the {figures['tried']:,} copies that were tried train.",
        ["language", "query", "mistyped", "slip", "target", "label", "guard"],
        [
            [r["language"], r["query"], r["typed"], r["slip"], r["target"], _LABELS[r["label"]], r["reason"] or "kept"]
            for r in shown.iter_rows(named=True)
        ],
        "No query had a place for a slip.",
    )


def _reviewed(artifacts: Artifacts, tasks: Sequence[Task]) -> Section | None:
    ingest = artifacts.get("ingest")
    if ingest is None or "reviewed.parquet" not in ingest.files:
        return None
    texts = ingest.table("pairs", ["pair_id", "language", "query", "target"]).unique("pair_id")
    reviewed = ingest.table("reviewed").join(texts, on="pair_id")

    def blocks(task: Task) -> list[Block]:
        rows = reviewed.filter(task=task).sort("at", "pair_id", descending=[True, False])
        return [_decisions(rows)] if rows.height else []

    lead = "Pairs of this run whose label a person looked at. The decided label holds, and the filter does not ask again."
    return _section("reviewed", "What people decided", lead, tasks, blocks)


def _decisions(rows: pl.DataFrame) -> Table:
    """rows: of `reviewed`, with their texts, the latest decision first."""
    changed = int((rows["label"] != rows["was"]).sum())
    words = {None: "kept as it was", 0: _LABELS[0], 1: _LABELS[1]}
    return Table(
        "The latest decisions",
        f"{min(rows.height, _EXAMPLES)} of {rows.height:,} decided pairs; {changed:,} have another label than in the log.",
        ["language", "query", "target", "label in the log", "decided", "who", "when (UTC)"],
        [
            [r["language"], r["query"], r["target"], _LABELS[r["was"]], words[r["label"]], r["who"], r["at"][:16].replace("T", " ")]
            for r in rows.head(_EXAMPLES).iter_rows(named=True)
        ],
    )


def _training(artifacts: Artifacts, tasks: Sequence[Task]) -> Section | None:
    def blocks(task: Task) -> list[Block]:
        train, evaluate = artifacts.get(f"train:{task}"), artifacts.get(f"evaluate:{task}")
        return [*(_curves(evaluate) if evaluate else []), *([_loss(train)] if train else [])]

    lead = "The threshold is where F1 peaks on the calibration rows; the judgement curve shows whether that carries over."
    return _section("training", "Threshold, ranking and training", lead, tasks, blocks)


def _curves(evaluate: Artifact) -> list[Block]:
    metrics = evaluate.json("metrics")
    curves = metrics["curves"]
    both = zip(curves["calibration"]["threshold"], curves["calibration"]["f1"], curves["judgement"]["f1"], strict=True)
    new, old = curves["precision_recall"], curves["champion_precision_recall"]
    return [
        Plot(
            "F1 over the threshold",
            f"The dotted line is the threshold in force, {metrics['threshold']:.3f}.",
            plots.threshold(curves["calibration"], curves["judgement"], metrics["threshold"]),
            ["threshold", "F1 on calibration", "F1 on judgement"],
            [list(row) for row in both][4::5],
        ),
        Plot(
            "Precision over recall",
            f"At its threshold the new version has precision {metrics['precision']:.3f} and recall {metrics['recall']:.3f}.",
            plots.precision_recall(new, old, (metrics["recall"], metrics["precision"])),
            ["recall", "precision"],
            [list(row) for row in zip(new["recall"], new["precision"], strict=True)][::10],
        ),
    ]


def _loss(train: Artifact) -> Plot:
    figures = train.json("training")
    steps, losses = [point["step"] for point in figures["loss"]], [point["loss"] for point in figures["loss"]]
    begun = train.report.figures.get("start")
    caption = f"{figures['rows']:,} rows, {figures['steps']:,} steps, {figures['parameters']:,} trained parameters."
    caption += f" Begun {begun}." if begun else ""
    caption += _first(train.report.figures.get("tapt"))
    return Plot(
        "Training loss",
        caption,
        plots.loss(steps, losses),
        ["step", "loss"],
        [list(row) for row in zip(steps, losses, strict=True)],
    )


def _first(tapt: Mapping[str, Any] | None) -> str:
    """What is said of a training before this one."""
    if tapt is None:
        return ""
    if "skipped" in tapt:
        return f" No first training ({tapt['kind']}): {tapt['skipped']}."
    return f" After a first training ({tapt['kind']}) on {tapt['rows']:,} rows in {tapt['steps']:,} steps."


def _provenance(artifacts: Artifacts, tasks: Sequence[Task]) -> Section | None:
    facts: list[tuple[str, Cell]] = [
        (label(*_stage_task(name)), f"{artifact.address}  ·  sha256 {artifact.digest[:16]}") for name, artifact in artifacts.items()
    ]
    return Section(
        "provenance",
        "What this was made from",
        "Every stage output of this run, by its address in the store.",
        [Part("", [Facts("Outputs", facts)])],
    )


def _section(name: str, title: str, lead: str, tasks: Sequence[Task], blocks: Callable[[Task], list[Block]]) -> Section | None:
    """A section with a part for each task that has something to show, or None."""
    parts = [Part(f"{task} · {TASK_NAMES[task]}", found) for task in tasks if (found := blocks(task))]
    return Section(name, title, lead, parts) if parts else None
