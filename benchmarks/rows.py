"""A week of 100,000 and of 1,000,000 log rows through *ingest*, *validate* and *split*, in one process as a user runs it by hand.

The rows are those of a busy shop: seven `dt=` partitions of Parquet, queries of four languages that come back with other targets,
both tasks, repeated and contradicting events, and one row in a hundred that a rule puts into quarantine. The bounds of time and
memory stand in for a peer; so do eleven times the seconds of a tenth of the rows.
"""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.prepared import folder, kept
from benchmarks.turns import Benchmark, Size, peak_mb

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

ROWS: Final = {"full": 1_000_000, "smoke": 7_000}
FIRST_DAY: Final = date(2026, 10, 1)
DAYS: Final = 7
STAGES: Final = ("ingest", "validate", "split")
BOUND_SECONDS: Final = 120.0
BOUND_MB: Final = 4096.0

_ALL, _TENTH = "benchmarks.rows:seconds", "benchmarks.rows:eleven_times_a_tenth"
BENCHMARKS: Final = [
    Benchmark("ingest, validate and split of 1,000,000 rows", "s", _ALL, _TENTH, "11 times that of 100,000", wanted=1),
    Benchmark("the same, in seconds", "s", _ALL, "benchmarks.rows:bound_seconds", "bound of 120 s", 1, 1),
    Benchmark(
        "the same, peak memory", "MB", "benchmarks.rows:memory", "benchmarks.rows:bound_mb", "bound of 4 GiB", wanted=1, rounds=1
    ),
]


def seconds(size: Size) -> float:
    """Seconds of the three stages on all rows."""
    return _timed(ROWS[size])


def eleven_times_a_tenth(size: Size) -> float:
    """11 times the seconds on a tenth of the rows."""
    return 11 * _timed(ROWS[size] // 10)


def memory(size: Size) -> float:
    """The most memory that the process of the three stages holds, in MB."""
    _timed(ROWS[size])
    return peak_mb()


def bound_seconds(size: Size) -> float:
    """What the three stages may take."""
    return BOUND_SECONDS


def bound_mb(size: Size) -> float:
    """What the three stages may hold."""
    return BOUND_MB


def _timed(rows: int) -> float:
    source = kept(f"rows-{rows}", partial(write, rows=rows))
    with folder() as store:
        started = time.perf_counter()
        reports = run(source, store)
        took = time.perf_counter() - started
    kept_rows = reports["split"].rows.kept
    if not rows / 2 < kept_rows < rows or not reports["validate"].rows.quarantined:
        raise RuntimeError(f"{kept_rows} of {rows} rows were kept: the work was not done")
    return took


def run(source: Path, store: Path) -> dict[str, Any]:
    """The stages' reports."""
    from relevance_core import config, loop
    from relevance_core.runs.run import pin
    from relevance_core.store import open_store

    end = FIRST_DAY + timedelta(days=DAYS)
    settings = config.load(None, [f"source.uri={source}", f"window.end={end}", f"window.days={DAYS}", "window.history_days=0"])
    begun = pin(settings, open_store(str(store)), "rows")
    return {stage: loop.run_stage(begun, stage) for stage in STAGES}


def write(out: Path, rows: int) -> None:
    """Writes `rows` labelled rows over the week, and nothing beside them."""
    import numpy as np
    import polars as pl

    rng = np.random.default_rng([17, rows])
    texts = _texts(rows)
    for day in range(DAYS):
        count = rows // DAYS + (day < rows % DAYS)
        frame = _day(texts, count, FIRST_DAY + timedelta(days=day), rng)
        path = out / "logs" / f"dt={FIRST_DAY + timedelta(days=day)}" / "part-0.parquet"
        path.parent.mkdir(parents=True)
        # One row in a hundred breaks a rule: a label that is none, or no query.
        bad = pl.Series(rng.random(count) < 0.01)
        broken = {"label": pl.when(bad).then(7).otherwise("label").cast(pl.Int8)}
        frame.with_columns(**broken).write_parquet(path, compression="zstd")


def _texts(rows: int) -> dict[str, pl.DataFrame]:
    """Each task's pairs of (language, query, target, target_id), a tenth as many as rows are wanted: they come back."""
    import polars as pl

    from benchmarks.assortment import positives
    from relevance_core.tools.simulator.leaves import LEAVES

    asked = positives(max(rows // 20, 100), among=max(rows // 50, 100)).with_row_index("n")
    items = asked.select("language", "query", "target", target_id=pl.format("i{}", pl.col("target").rank("dense")))
    paths = pl.Series("target", [",".join(leaf.path) for leaf in LEAVES])
    categories = asked.select("language", "query", target=paths.gather(asked["n"] % len(paths)))
    return {"QI": items, "QC": categories.with_columns(target_id=pl.format("c{}", pl.col("target").rank("dense")))}


def _day(texts: dict[str, pl.DataFrame], count: int, day: date, rng: np.random.Generator) -> pl.DataFrame:
    """`count` rows of a day: queries as often as people's are, targets of their own or of another, two thirds of them relevant."""
    import numpy as np
    import polars as pl

    halves = []
    for task, size in (("QI", count // 2), ("QC", count - count // 2)):
        shop = texts[task]
        query = (len(shop) * rng.random(size) ** 2).astype(np.int64)
        target = np.where(rng.random(size) < 0.3, query, rng.integers(0, len(shop), size))
        named = pl.concat([shop["language", "query"][query], shop["target", "target_id"][target]], how="horizontal")
        halves.append(named.select(pl.lit(task).alias("task"), pl.all()))
    midnight = int(datetime.combine(day, datetime.min.time(), UTC).timestamp() * 1_000_000)
    moments = pl.Series(midnight + rng.integers(0, 86_400_000_000, count)).cast(pl.Datetime("us", "UTC"))
    return pl.concat(halves).with_columns(label=pl.Series((rng.random(count) < 0.65).astype(np.int8)), event_time=moments)
