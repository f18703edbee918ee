"""A second night with 5 % new rows and items, beside the first: *translate* and *mine* of both tasks.

A week of a simulated shop, its catalogue the 15,000 items of a larger one, a language that comes in, and the real stages, each a
process of its own as in the DAG. The first night lacks one in twenty of the queries and of the items; the second has them all, in
the same window. Only the time of *translate* and *mine* counts, the start of their processes with it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.prepared import folder, kept
from benchmarks.turns import Benchmark, Size
from relevance_core.cli import main

FIRST_DAY: Final = date(2026, 10, 1)
DAYS: Final = 3
ITEMS: Final = {"full": 15_000, "smoke": 500}
PAIRS_A_DAY: Final = {"full": 6_000, "smoke": 300}
NEW: Final = 20
"""One query and one item in so many is new on the second night."""

BENCHMARKS: Final = [
    Benchmark(
        "translate and mine on a night with 5 % new rows",
        "s",
        "benchmarks.nights:second",
        "benchmarks.nights:first",
        "the night before",
        wanted=4,
    ),
]


def first(size: Size) -> float:
    """Seconds of the first night, in an empty store."""
    shop = kept(f"nights-{size}", partial(write, size=size))
    with folder() as store:
        return night(store, shop / "first", size)


def second(size: Size) -> float:
    """Seconds of the second night, in the store of the first."""
    shop = kept(f"nights-{size}", partial(write, size=size))
    before = kept(f"nights-{size}-store", partial(night, shop=shop / "first", size=size), here=size == "smoke")
    with folder() as store:
        shutil.copytree(before, store, dirs_exist_ok=True)
        return night(store, shop / "second", size)


def night(store: Path, shop: Path, size: Size) -> float:
    """Seconds of *translate* and *mine* in a night on the shop's rows, onboarding German."""
    stage = partial(relevance if size == "full" else relevance_here, store)
    stage("begin", "--set", f"source.uri={shop}", *_SETTINGS)
    for name in ("ingest", "validate", "split"):
        stage(name)
    started = time.perf_counter()
    stage("translate")
    stage("mine", "--task", "QC")
    stage("mine", "--task", "QI")
    seconds = time.perf_counter() - started
    # The next night is another run.
    (store / "runs" / "tonight").rename(store / "runs" / shop.name)
    return seconds


_SETTINGS: Final = tuple(
    part
    for setting in (
        f"window.end={FIRST_DAY + timedelta(days=DAYS)}",
        f"window.days={DAYS}",
        "window.history_days=0",
        "onboard=de",
        "validation.min_positive_rate=0",
    )
    for part in ("--set", setting)
)


def relevance(store: Path, stage: str, *more: str) -> None:
    """One stage, as a task of the DAG runs it."""
    subprocess.run([sys.executable, "-m", "relevance_core", *_stage(store, stage, more)], check=True)


def relevance_here(store: Path, stage: str, *more: str) -> None:
    """The same in this process, where no time counts: the starts of fourteen would be most of the smoke size."""
    if status := main(_stage(store, stage, more)):
        raise RuntimeError(f"stage {stage} ended with {status}")


def _stage(store: Path, stage: str, more: tuple[str, ...]) -> list[str]:
    return ["stage", stage, "--run", "tonight", "--store", str(store), *more]


def write(out: Path, size: Size) -> None:
    """The shop's two nights: `second` whole, `first` without one in NEW of the queries and the items."""
    import polars as pl

    from benchmarks.assortment import items
    from relevance_core.tools.simulator import market

    shop = market.Market(pairs_per_day=PAIRS_A_DAY[size], clicks_per_day=400)
    market.write(shop, FIRST_DAY, DAYS, out / "second")
    shutil.rmtree(out / "second" / "truth")
    listed = pl.read_parquet(out / "second" / "catalogue.parquet")
    more = pl.DataFrame({"target": [title for _, title in items(ITEMS[size])]}).with_row_index("n")
    more = more.select(task=pl.lit("QI"), target_id=pl.format("m{}", "n"), target="target")
    catalogue = pl.concat([listed, more]).unique(["task", "target"], maintain_order=True)
    catalogue.write_parquet(out / "second" / "catalogue.parquet")
    shutil.copytree(out / "second", out / "first")
    new_item = (pl.col("target").hash(17) % NEW == 0) & (pl.col("task") == "QI")
    catalogue.filter(~new_item).write_parquet(out / "first" / "catalogue.parquet")
    for path in sorted((out / "first" / "logs").rglob("*.parquet")):
        rows = pl.read_parquet(path)
        rows.filter(~new_item, pl.col("query").hash(17) % NEW != 0).write_parquet(path)
