"""F1 of one draw of dropout for the start that all prompts share, beside a draw for each row.

    python -m benchmarks.dropout --out DIR
    python -m benchmarks.dropout --out DIR --seeds 1 --rows 200 --documents 100 --steps 20     only shows that it still runs

A small simulated shop, category pairs, the instruction template, and a builtin base that is built for the shop once. For each seed
two trainings on the same rows: as the loop trains (`shared dropout`), and without a shared start, so that every row has its own
dropout all along (`own dropout`). Judged as *evaluate* judges: the threshold from the calibration part of dev, F1 on the rest. It
writes `DIR/dropout.json` and prints the table, means over the seeds with the largest minus the smallest.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final
from unittest import mock

import polars as pl
import torch

from relevance_core import pairs
from relevance_core.config import BuiltinSettings, EngineSettings, SplitSettings, TrainSettings
from relevance_core.models.base_ref import BaseRef
from relevance_core.models.tiny import build as tiny
from relevance_core.models.tiny.text import Corpus
from relevance_core.models.trainer import Job, train
from relevance_core.prompts import VERSIONS, Prompt
from relevance_core.scoring.scorer import Scorer
from relevance_core.stages.evaluate import judge
from relevance_core.stages.split import place
from relevance_core.tools.simulator import Market, catalogue, day

log = logging.getLogger(__name__)

MARKET: Final = Market(seed=17, market_share=0.0)
START: Final = date(2026, 10, 1)
TEXT: Final = ("task", "query", "target", "english")
ENGINE: Final = EngineSettings(device="cpu")
EPOCHS: Final = 2.0


def main() -> None:
    """Parses the arguments, builds the base, trains, writes and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rows", type=int, default=3000, help="training rows")
    parser.add_argument("--documents", type=int, default=20_000, help="documents that the base is pretrained on")
    parser.add_argument("--steps", type=int, default=600, help="contrastive steps of the base")
    options = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    for logger in (log, logging.getLogger("relevance_core")):
        logger.setLevel(logging.INFO)
    options.out.mkdir(parents=True, exist_ok=True)
    rows, dev = data(options.rows)
    prompt = Prompt("instruction", VERSIONS["instruction"], translation=False, max_tokens=256)
    base = build(options.out / f"base-{options.documents}-{options.steps}", prompt, options)
    found: list[dict[str, Any]] = []
    for seed in options.seeds:
        found += night(rows, dev, base, prompt, seed, options.out / f"{seed}-{len(rows)}")
        (options.out / "dropout.json").write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))


def data(count: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Training rows of the newest days and the dev rows of all: distinct category pairs, oldest first."""
    days = 3 + count // 900
    logs = pl.concat([day(MARKET, START + timedelta(days=number)).logs for number in range(days)]).filter(task="QC")
    logs = pairs.with_groups(logs.sort("event_time").unique(["query", "target"], keep="first", maintain_order=True))
    logs = logs.with_columns(weight=pl.lit(1.0, pl.Float32), english=pl.lit(None, pl.String))
    placed = place(logs, SplitSettings())
    return placed.filter(side="train").head(count), placed.filter(side="dev")


def build(folder: Path, prompt: Prompt, options: argparse.Namespace) -> BaseRef:
    """The base for the shop's clicks, made unless it is there."""
    if not (folder / "config.json").exists():
        clicks = pairs.with_groups(day(MARKET, START).clicks.filter(task="QC").select("task", "language", "query", "target"))
        train_side = [group for group in clicks["group"].unique() if pairs.side_of(group) == "train"]
        text = clicks.filter(pl.col("group").is_in(train_side)).drop("group").unique(maintain_order=True)
        corpus = Corpus(text.with_columns(english=pl.lit(None, pl.String)), catalogue(MARKET).filter(task="QC"))
        settings = BuiltinSettings(documents=options.documents, contrastive_steps=options.steps)
        torch.set_num_threads(1)
        log.info("%s", tiny.build(corpus, settings, prompt, 17, folder))
    return BaseRef("builtin:tiny@benchmark", str(folder))


def night(rows: pl.DataFrame, dev: pl.DataFrame, base: BaseRef, prompt: Prompt, seed: int, folder: Path) -> list[dict[str, Any]]:
    """The figures of both ways to train this night."""
    settings = TrainSettings(epochs=EPOCHS)
    job = Job(base, prompt, settings, ENGINE, seed, folder / "shared-work", folder / "shared")
    ways = {"shared dropout": job, "own dropout": replace(job, work=folder / "own-work", out=folder / "own")}
    return [figures(name, rows, dev, job) for name, job in ways.items()]


def figures(way: str, rows: pl.DataFrame, dev: pl.DataFrame, job: Job) -> dict[str, Any]:
    """Trains and judges once."""
    started = time.perf_counter()
    with mock.patch("relevance_core.models.lm.LEAST_SHARED", 10_000 if way == "own dropout" else 16):
        train(rows, job)
    seconds = time.perf_counter() - started
    scorer = Scorer(job.base.source, job.out, job.prompt, ENGINE)
    scores = dev.with_columns(p=pl.Series(scorer.score(dev.select(TEXT).iter_rows())))
    judged = judge(scores, None, job.seed)
    found = {"way": way, "seed": job.seed, "rows": len(rows), "seconds": round(seconds, 1)}
    found |= {name: judged[name] for name in ("f1", "auc", "always_yes_f1")}
    log.info("%s", found)
    return found


def table(found: Sequence[dict[str, Any]]) -> str:
    """Markdown, a row a way."""
    lines = ["| way | seeds | rows | F1 | AUC | always yes | seconds |", "|---|---|---|---|---|---|---|"]
    for way in dict.fromkeys(figure["way"] for figure in found):
        mine = [figure for figure in found if figure["way"] == way]
        told = [spread([figure[name] for figure in mine], 4) for name in ("f1", "auc", "always_yes_f1")]
        seconds = spread([figure["seconds"] for figure in mine], 0)
        lines.append(f"| {way} | {len(mine)} | {mine[0]['rows']} | {' | '.join(told)} | {seconds} |")
    return "\n".join(lines)


def spread(values: Sequence[float], digits: int) -> str:
    """The mean, with the largest minus the smallest where there are several."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {max(values) - min(values):.{digits}f}"


if __name__ == "__main__":
    main()
