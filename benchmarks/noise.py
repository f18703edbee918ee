"""How well the filter finds wrong labels: precision and recall by language, against the labels before the noise.

    python benchmarks/noise.py --data FOLDER --out DIR     real terms: qc_train.jsonl.gz, judged by qc_truth.jsonl.gz
    python benchmarks/noise.py --market --out DIR          a simulated week, both tasks

The loop runs up to *mine*, and every row is scored out-of-fold and in-sample, once each; all detectors judge these scores. What is
finished lies in `DIR/store` and is found again. The figures are in `DIR/noise.json` and, as tables, in `DIR/noise.md`. They are
those of the logged rows that *denoise* would act on, so the cap `denoise.max_share` counts. Where it flips labels, the precision is
the share of them that it puts right.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import polars as pl

from relevance_core import config, loop, pairs
from relevance_core.config import DenoiseSettings
from relevance_core.pairs import Task
from relevance_core.runs.artifacts import open_artifact
from relevance_core.runs.run import Run
from relevance_core.runs.stage import Inputs
from relevance_core.runs.steps import COMMON
from relevance_core.sources import read_labelled
from relevance_core.stages.denoise import stage as denoise
from relevance_core.store import open_store
from relevance_core.tools.simulator.market import Market, write

OUT_OF_FOLD: Final = "out-of-fold"
ALL: Final = "all"
MARKET_KEY: Final = ("task", "language", "query", "target_id")
MARKET_START: Final = date(2026, 10, 1)
TERMS_END: Final = date(2026, 10, 15)


@dataclass(frozen=True)
class Source:
    """Labelled logs until `end`, and `truth`, the labels before the noise, which join the rows by `key`."""

    uri: Path
    end: date
    tasks: str
    truth: pl.DataFrame
    key: tuple[str, ...]


@dataclass(frozen=True)
class Detector:
    """A row of the table: the scores that it judges, and by which settings. each: every language by itself."""

    name: str
    mode: str = OUT_OF_FOLD
    detector: str = "confidence"
    votes: int = 1
    each: bool = False

    def found(self, scored: pl.DataFrame, settings: DenoiseSettings) -> pl.DataFrame:
        """What `denoise.contradictions` says of the rows."""
        chosen = settings.model_copy(update={"detector": self.detector, "votes": self.votes})
        parts = scored.partition_by("language", maintain_order=True) if self.each else [scored]
        return pl.concat([denoise.contradictions(part, chosen) for part in parts])


def main() -> None:
    """Parses the arguments, measures, writes and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, help="folder of qc_train.jsonl.gz and qc_truth.jsonl.gz")
    source.add_argument("--market", action="store_true", help="a simulated shop")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--days", type=int, default=7, help="of the simulated shop")
    parser.add_argument("--pairs", type=int, default=Market.pairs_per_day, help="labelled rows of a day of the simulated shop")
    parser.add_argument("--votes", type=int, default=1, help="models that score each row out-of-fold; several: their majority too")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the loop")
    options = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("relevance_core").setLevel(logging.INFO)
    options.out.mkdir(parents=True, exist_ok=True)
    figures = measure(simulated(options) if options.market else terms(options.data), options)
    (options.out / "noise.json").write_text(json.dumps(figures, indent=1) + "\n")
    page = "\n".join(table(task, rows) for task, rows in figures.items())
    (options.out / "noise.md").write_text(page)
    print(page)


def terms(folder: Path) -> Source:
    """The real terms."""
    source = folder / "qc_train.jsonl.gz"
    labels = pl.read_ndjson(gzip.decompress((folder / "qc_truth.jsonl.gz").read_bytes()))
    labels = labels.select(source_id=pl.col("id").cast(pl.String), truth="label")
    truth = read_labelled(str(source)).join(labels, on="source_id").select("pair_id", "truth").unique("pair_id")
    return Source(source, TERMS_END, "QC", truth, ("pair_id",))


def simulated(options: argparse.Namespace) -> Source:
    """A simulated shop; made unless it is there."""
    shop = options.out / f"shop-{options.seed}-{options.days}-{options.pairs}"
    if not shop.exists():
        write(Market(seed=options.seed, pairs_per_day=options.pairs), MARKET_START, options.days, shop)
    truth = pl.read_parquet(shop / "truth" / "**" / "*.parquet").with_columns(pairs.normalise_expr("query"))
    truth = truth.select(*MARKET_KEY, truth="label").unique(MARKET_KEY)
    return Source(shop, MARKET_START + timedelta(days=options.days), "QC,QI", truth, MARKET_KEY)


def measure(source: Source, options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Task → the figures of each detector and language."""
    overrides = [f"tasks={source.tasks}", f"seed={options.seed}", f"source.uri={source.uri}", f"window.end={source.end}"]
    overrides += [*options.set, "denoise.enabled=true", f"denoise.mode={OUT_OF_FOLD}"]
    run = loop.begin(config.load(overrides=overrides), open_store(str(options.out / "store")))
    for name in COMMON:
        loop.run_stage(run, name)
    figures = {}
    for task in run.settings.tasks:
        loop.run_stage(run, "mine", task)
        rows = run.artifact("mine", task).table("train")
        truth = rows.filter(origin="log").join(source.truth, on=source.key).select("pair_id", "truth")
        scores = {OUT_OF_FOLD: scored(run, task, OUT_OF_FOLD, options.votes), "in-sample": scored(run, task, "in-sample", 1)}
        figures[task] = list(judged(rows, truth, scores, run.settings.denoise, options.votes))
    return figures


def scored(run: Run, task: Task, mode: str, votes: int) -> pl.DataFrame:
    """p(yes) of every row, from *denoise* itself: pair_id, p, model, a row for each vote."""
    changed = {"denoise": {"enabled": True, "mode": mode, "detector": "confidence", "votes": votes}}
    settings = config.build(config.merge(run.settings.model_dump(), changed))
    inputs = Inputs({"base": run.artifact("base"), "rows": run.artifact("mine", task)}, task)
    found = open_artifact(run.store, denoise.run(settings, inputs, run.store).address)
    assert found is not None  # noqa: S101 - it has just been finished
    return found.table("scores")


def judged(
    rows: pl.DataFrame, truth: pl.DataFrame, scores: dict[str, pl.DataFrame], settings: DenoiseSettings, votes: int
) -> Iterable[dict[str, Any]]:
    """The figures of each detector, all languages together and one by one.

    rows: what *mine* left; truth: pair_id and `truth` of those that are judged; scores: by mode.
    """
    detectors = [
        Detector("confidence, out-of-fold"),
        Detector("confidence, in-sample", mode="in-sample"),
        Detector("cleanlab, out-of-fold", detector="cleanlab"),
        Detector("cleanlab, out-of-fold, each language by itself", detector="cleanlab", each=True),
        Detector("both, out-of-fold", detector="both"),
    ]
    if votes > 1:
        detectors.append(Detector(f"confidence, out-of-fold, more than half of {votes}", votes=votes))
    for detector in detectors:
        of_votes = scores[detector.mode].group_by("pair_id", maintain_order=True).head(detector.votes)
        found = detector.found(rows.join(denoise.together(of_votes), on="pair_id", validate="1:1"), settings)
        labelled = rows.join(truth, on="pair_id", validate="1:1").join(found.select("pair_id", "acted"), on="pair_id", how="left")
        for language in (ALL, *sorted(labelled["language"].unique())):
            chosen = labelled if language == ALL else labelled.filter(language=language)
            yield {"detector": detector.name, "language": language, **counted(chosen)}


def counted(rows: pl.DataFrame) -> dict[str, Any]:
    """Precision and recall of rows with label, truth and `acted` (null: not contradicted); None where nothing could be counted."""
    wrong, acted = pl.col("label") != pl.col("truth"), pl.col("acted").fill_null(value=False)
    counts = rows.select(
        rows=pl.len(), wrong=wrong.sum(), contradicted=pl.col("acted").count(), acted=acted.sum(), caught=(wrong & acted).sum()
    ).row(0, named=True)
    precision = counts["caught"] / counts["acted"] if counts["acted"] else None
    recall = counts["caught"] / counts["wrong"] if counts["wrong"] else None
    return {**counts, "precision": precision, "recall": recall}


def table(task: str, figures: list[dict[str, Any]]) -> str:
    """Markdown: a row a detector, a column a language, each `precision / recall`."""
    names, languages = (list(dict.fromkeys(figure[key] for figure in figures)) for key in ("detector", "language"))
    at = {(figure["detector"], figure["language"]): figure for figure in figures}
    lines = [f"### {task}, precision / recall", "", f"| detector | acted on | {' | '.join(languages)} |"]
    lines.append("|---" * (len(languages) + 2) + "|")
    counts = [at[names[0], language] for language in languages]
    lines.append("| wrong labels | | " + " | ".join(f"{count['wrong']:,} of {count['rows']:,}" for count in counts) + " |")
    for name in names:
        cells = [" / ".join(share(at[name, language][key]) for key in ("precision", "recall")) for language in languages]
        lines.append(f"| {name} | {at[name, ALL]['acted']:,} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def share(value: float | None) -> str:
    """A share to two places."""
    return "–" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    main()
