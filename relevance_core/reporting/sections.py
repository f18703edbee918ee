"""The sections of the report, each from the stage outputs that it shows; a run that stopped early lacks the later ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import polars as pl

from relevance_core.config import Settings
from relevance_core.languages import named
from relevance_core.pairs import TASK_NAMES, Task
from relevance_core.reporting import plots, row_sections
from relevance_core.reporting.blocks import Block, Card, Cell, Check, Checks, Facts, Page, Part, Plot, Section, Table
from relevance_core.reporting.common import EXAMPLES, LABELS, Artifacts, section, stage_task
from relevance_core.runs.artifacts import Artifact, label

_VERDICTS: Final[Mapping[str, tuple[str, Any]]] = {
    "publish": ("Published", "good"),
    "hold": ("Held", "wait"),
    "needs-approval": ("Needs approval", "ask"),
}


def titles(settings: Settings) -> tuple[str, str]:
    """Returns the title of a run's page, and the subtitle with its window of rows."""
    start, end = settings.window.bounds()
    title = f"{start:%-d %B %Y}" if (end - start).days == 1 else f"{start:%-d %B} to {end:%-d %B %Y}"
    onboard = ", ".join(named(language) for language in settings.onboard)
    parts = [f"Fresh rows from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC (exclusive)"]
    parts += [f"with {settings.window.history_days} days of history before it", *([f"bringing in {onboard}"] if onboard else [])]
    return f"Window of {title}", ", ".join(parts) + "."


def build_page(artifacts: Artifacts, tasks: Sequence[Task], title: str, subtitle: str) -> Page:
    """Builds the page of a run: the outcome first, then the evidence for it, then the fate of the rows.

    Args:
        artifacts: the run's outputs so far.
        tasks: in the order of the page.
        title: of the page.
        subtitle: the line below the title.
    """
    sections = (
        _quality,
        _gate,
        row_sections.funnel,
        row_sections.files,
        row_sections.validation,
        row_sections.translation,
        row_sections.mining,
        row_sections.filtering,
        row_sections.reviewed,
        _training,
        _provenance,
    )
    shown = [section for make in sections if (section := make(artifacts, tasks)) is not None]
    return Page(title, subtitle, _notices(artifacts), [_card(artifacts, task) for task in tasks], shown)


def _notices(artifacts: Artifacts) -> list[str]:
    """Returns the reasons why the run stopped, in the stages' own words."""
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
    """Returns the outcome of a task in words, with the few figures that matter."""
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
    """Returns the fate of the version: serving or not, and the evidence that it can be served."""
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
        return [_by_language(evaluate), _mistakes(evaluate)]

    return section(
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


def _mistakes(evaluate: Artifact) -> Table:
    threshold = evaluate.report.figures["threshold"]
    scores = evaluate.table("scores").filter(pl.col("part") == "judgement")
    wrong = scores.filter((pl.col("p") >= threshold) != (pl.col("label") == 1)).with_columns(off=(pl.col("p") - threshold).abs())
    rows = wrong.sort(["off", "pair_id"], descending=[True, False]).head(EXAMPLES)
    return Table(
        "Where it is most sure, and wrong",
        f"{len(rows)} of the {len(wrong)} mistakes on judgement rows, the farthest from the threshold. Some are wrong labels.",
        ["language", "query", "target", "label", "p(yes)"],
        [
            [row["language"], row["query"], row["target"], LABELS[row["label"]], round(row["p"], 3)]
            for row in rows.iter_rows(named=True)
        ],
        "No mistake on the judgement rows.",
    )


def _gate(artifacts: Artifacts, tasks: Sequence[Task]) -> Section | None:
    def blocks(task: Task) -> list[Block]:
        gate = artifacts.get(f"gate:{task}")
        return [] if gate is None else [Checks("Rules of the gate", _checks(gate))]

    return section(
        "verdict",
        "The verdict, rule by rule",
        "Every rule that was asked, with its figure and its bound. One that fails holds the version.",
        tasks,
        blocks,
    )


def _checks(gate: Artifact) -> list[Check]:
    return [Check(reason["passed"], reason["rule"], reason["text"]) for reason in gate.json("verdict")["reasons"]]


def _training(artifacts: Artifacts, tasks: Sequence[Task]) -> Section | None:
    def blocks(task: Task) -> list[Block]:
        train, evaluate = artifacts.get(f"train:{task}"), artifacts.get(f"evaluate:{task}")
        return [*(_curves(evaluate) if evaluate else []), *([_loss(train)] if train else [])]

    lead = "The threshold is where F1 peaks on the calibration rows; the judgement curve shows whether that carries over."
    return section("training", "Threshold, ranking and training", lead, tasks, blocks)


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
    caption = f"{figures['rows']:,} rows, {figures['steps']:,} steps, {figures['parameters']:,} trained parameters."
    caption += _first(train.report.figures.get("tapt"))
    return Plot(
        "Training loss",
        caption,
        plots.loss(steps, losses),
        ["step", "loss"],
        [list(row) for row in zip(steps, losses, strict=True)],
    )


def _first(tapt: Mapping[str, Any] | None) -> str:
    """Describes the training that came before this one, if any."""
    if tapt is None:
        return ""
    if "skipped" in tapt:
        return f" No first training ({tapt['kind']}): {tapt['skipped']}."
    return f" After a first training ({tapt['kind']}) on {tapt['rows']:,} rows in {tapt['steps']:,} steps."


def _provenance(artifacts: Artifacts, tasks: Sequence[Task]) -> Section | None:
    facts: list[tuple[str, Cell]] = [
        (label(*stage_task(name)), f"{artifact.address}  ·  sha256 {artifact.digest[:16]}") for name, artifact in artifacts.items()
    ]
    return Section(
        "provenance",
        "What this was made from",
        "Every stage output of this run, by its address in the store.",
        [Part("", [Facts("Outputs", facts)])],
    )
