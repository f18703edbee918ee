"""What the loop reaches: the figures of docs/method.md.

    python benchmarks/quality.py market --seed 17 --out DIR     the simulated shop: all strategies; onboarding; no hard negatives
    python benchmarks/quality.py terms --data FOLDER --out DIR  real terms: with and without onboarding, and translation
    python benchmarks/quality.py table --out DIR                the Markdown tables of everything measured so far

Every variant is one `relevance retrain`; its figures are appended to `DIR/figures.jsonl` as soon as it ends. The shop's variants of
one seed share a store, so what they have in common is computed once. Those of the real terms have one each: a version that the gate
holds back against another variant could not be evaluated.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl

from relevance_core import config, pairs
from relevance_core.metrics import measure
from relevance_core.runs.run import open_run
from relevance_core.sources import read_labelled
from relevance_core.store import open_store

TRAINED = ("en", "es", "fr", "pt")
NEW = ("de", "it")
MARKET_KEY = ["task", "language", "query", "target_id"]
FIGURES = "figures.jsonl"
FILTER = ("--set", "denoise.enabled=true")
MARKET: dict[str, tuple[str, ...]] = {
    "all strategies": FILTER,
    "no hard negatives": (*FILTER, "--set", "mine.enabled=false"),
    "no filter": (),
    # Last: once it is published, a language stays onboarded in the store that the variants share.
    "de and it onboarded": (*FILTER, "--onboard", "de", "--onboard", "it"),
}
TERMS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "translation in the prompt": ("--set", "prompt.translation=true"),
    "onboarded": ("--onboard", "de", "--onboard", "it"),
    "both": ("--onboard", "de", "--onboard", "it", "--set", "prompt.translation=true"),
}


def main() -> None:
    """Parses the arguments and runs one of the three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["market", "terms", "table"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--data", type=Path, help="folder of qc_train.jsonl.gz, qc_dev.jsonl.gz and qc_truth.jsonl.gz")
    parser.add_argument("--only", help="variants, separated by commas")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting for every variant")
    options = parser.parse_args()
    known = TERMS if options.what == "terms" else MARKET
    if options.only and (unknown := {*options.only.split(",")} - {*known}):
        parser.error(f"{options.what} has no variant {', '.join(map(repr, sorted(unknown)))}; it has {', '.join(known)}")
    if options.what == "terms" and options.data is None:
        parser.error("terms needs --data FOLDER")
    if options.what == "table" and not (options.out / FIGURES).exists():
        parser.error(f"nothing has been measured yet: {options.out} has no {FIGURES}")
    options.out.mkdir(parents=True, exist_ok=True)
    if options.what == "table":
        print(tables(read_figures(options.out)))
    elif options.what == "market":
        market(options)
    else:
        terms(options)


def market(options: argparse.Namespace) -> None:
    """A simulated week of one seed, every variant."""
    shop = options.out / f"shop-{options.seed}"
    if not shop.exists():
        relevance("simulate", "--out", str(shop), "--days", "7", "--seed", str(options.seed), "--json")
    truth = pl.read_parquet(shop / "truth" / "**" / "*.parquet").with_columns(pairs.normalise_expr("query"))
    truth = truth.select(*MARKET_KEY, truth="label").unique(MARKET_KEY)
    for variant, more in chosen(MARKET, options.only):
        store = options.out / f"store-{options.seed}"
        done = retrain(store, shop, "2026-10-08", options, *more)
        for task in done["tasks"]:
            figures = judged(store, done["run_id"], task) | {"filter": filtered(store, done["run_id"], task, truth, MARKET_KEY)}
            append(options, "market", variant, task, done, figures)


def terms(options: argparse.Namespace) -> None:
    """The real terms, every variant; judged on the dev file by `relevance evaluate`."""
    source = options.data / "qc_train.jsonl.gz"
    labels = pl.read_ndjson(gzip.decompress((options.data / "qc_truth.jsonl.gz").read_bytes()))
    labels = labels.select(source_id=pl.col("id").cast(pl.String), truth="label")
    truth = read_labelled(str(source)).join(labels, on="source_id").select("pair_id", "truth").unique("pair_id")
    for variant, more in chosen(TERMS, options.only):
        store = options.out / f"store-terms-{options.seed}-{variant.replace(' ', '-')}"
        done = retrain(store, source, "2026-10-15", options, "--tasks", "QC", *more)
        version, dev = done["tasks"]["QC"]["version"], str(options.data / "qc_dev.jsonl.gz")
        figures = relevance("evaluate", "--store", str(store), "--task", "QC", "--data", dev, "--version", version, "--json")
        append(
            options, "terms", variant, "QC", done, figures | {"filter": filtered(store, done["run_id"], "QC", truth, ["pair_id"])}
        )


def judged(store: Path, run_id: str, task: str) -> dict[str, Any]:
    """The judgement figures of a run, and of its trained and its new languages each as one."""
    run = open_run(open_store(str(store)), run_id, config.load())
    evaluated = run.artifact("evaluate", task)  # type: ignore[arg-type]
    threshold = evaluated.report.figures["threshold"]
    scores = evaluated.table("scores").filter(part="judgement")
    figures = dict(evaluated.report.figures)
    for name, languages in (("trained", TRAINED), ("new", NEW)):
        rows = scores.filter(pl.col("language").is_in(languages))
        figures[name] = measure(rows["p"].to_numpy(), rows["label"].to_numpy(), rows["language"].to_list(), threshold)
    return figures


def filtered(store: Path, run_id: str, task: str, truth: pl.DataFrame, key: list[str]) -> dict[str, Any]:
    """Precision and recall of the filter against the labels before the noise (`truth`, joined by `key`), over logged rows."""
    run = open_run(open_store(str(store)), run_id, config.load())
    rows = run.artifact("mine", task).table("train").filter(origin="log").join(truth, on=key)  # type: ignore[arg-type]
    found = run.artifact("denoise", task).table("ledger").select("pair_id")  # type: ignore[arg-type]
    wrong, acted = rows.filter(pl.col("label") != pl.col("truth")), rows.join(found, on="pair_id", how="semi")
    caught = wrong.join(found, on="pair_id", how="semi").height
    precision, recall = caught / max(acted.height, 1), caught / max(wrong.height, 1)
    return {"wrong": wrong.height, "acted": acted.height, "precision": precision, "recall": recall}


def tables(figures: list[dict[str, Any]]) -> str:
    """Markdown: one table a data set and task, a row a variant; mean ± spread (largest minus smallest) over the seeds."""
    page = []
    for what, task in sorted({(figure["what"], figure["task"]) for figure in figures}):
        mine = [figure for figure in figures if (figure["what"], figure["task"]) == (what, task)]
        columns = MARKET_COLUMNS if what == "market" else terms_columns(mine)
        page += [f"### {what}, {task}", "", "| variant | seeds | " + " | ".join(columns) + " |"]
        page.append("|---" * (len(columns) + 2) + "|")
        for variant in dict.fromkeys(figure["variant"] for figure in mine):
            rows = [figure for figure in mine if figure["variant"] == variant]
            page.append(f"| {variant} | {len(rows)} | " + " | ".join(spread(rows, path) for path in columns.values()) + " |")
        page.append("")
    return "\n".join(page)


MARKET_COLUMNS = {
    "F1 trained": "trained.f1",
    "AUC trained": "trained.auc",
    "always yes": "trained.always_yes_f1",
    "F1 de, it": "new.f1",
    "AUC de, it": "new.auc",
    "false-positive rate": "trained.false_positive_rate",
    "filter precision": "filter.precision",
    "filter recall": "filter.recall",
}


def terms_columns(figures: list[dict[str, Any]]) -> dict[str, str]:
    """The columns of the real terms: all rows, then each language."""
    columns = {"F1": "f1", "macro-F1": "macro_f1", "AUC": "auc", "always yes": "always_yes_f1"}
    for language in sorted(figures[0]["per_language"]):
        columns |= {f"{language} F1": f"per_language.{language}.f1", f"{language} AUC": f"per_language.{language}.auc"}
    return columns | {"filter precision": "filter.precision", "filter recall": "filter.recall", "seconds": "seconds"}


def spread(figures: list[dict[str, Any]], path: str) -> str:
    """The mean of a figure over the seeds, with its spread when there is more than one."""
    values = [config.value_at(figure, path) for figure in figures]
    if path.startswith("filter.") and not any(figure["filter"]["acted"] for figure in figures):
        return "–"
    digits = 0 if path == "seconds" else 3
    text = f"{statistics.mean(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} ± {max(values) - min(values):.{digits}f}"


def retrain(store: Path, source: Path, end: str, options: argparse.Namespace, *more: str) -> dict[str, Any]:
    """One `relevance retrain`."""
    settings = [part for setting in (f"seed={options.seed}", *options.set) for part in ("--set", setting)]
    common = ("--store", str(store), "--source", str(source), "--window-end", end, "--json")
    return relevance("retrain", *common, *settings, *more)


def relevance(*arguments: str) -> dict[str, Any]:
    """Runs `relevance …` and returns its JSON; its progress goes to this program's stderr."""
    done = subprocess.run([sys.executable, "-m", "relevance_core", *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def chosen(variants: dict[str, tuple[str, ...]], only: str | None) -> Iterable[tuple[str, tuple[str, ...]]]:
    """The variants asked for."""
    names = only.split(",") if only else list(variants)
    return [(name, variants[name]) for name in names]


def append(options: argparse.Namespace, what: str, variant: str, task: str, done: dict[str, Any], figures: dict[str, Any]) -> None:
    """Adds one variant's figures to the file."""
    about = {"what": what, "variant": variant, "seed": options.seed, "task": task, "seconds": done["seconds"]}
    with (options.out / FIGURES).open("a") as stream:
        stream.write(json.dumps(figures | about) + "\n")


def read_figures(out: Path) -> list[dict[str, Any]]:
    """Everything measured so far; of a variant measured twice, the later."""
    figures = [json.loads(line) for line in (out / FIGURES).read_text().splitlines()]
    return list({(f["what"], f["variant"], f["seed"], f["task"]): f for f in figures}.values())


if __name__ == "__main__":
    main()
