"""A very small shop with texts that the two text rules read differently, and two nights on it by the release before rule 2.

Run as a program by that release it makes `tests/data/store_3edb264.tar.gz`; nothing in that file is to be made anew:

    git worktree add --detach OLD 3edb264
    PYTHONPATH=OLD python -P tests/support/older_shop.py tests/data/store_3edb264.tar.gz
"""

from __future__ import annotations

import random
import sys
import tarfile
import tempfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import polars as pl

FIRST: Final = date(2026, 10, 1)
NIGHTS: Final = (date(2026, 10, 2), date(2026, 10, 3))
"""The window ends of the nights that are in the store."""

NEW: Final = date(2026, 10, 4)
"""The window end of a night after them."""

ODD: Final = (
    ("de", "fernseher 42½ zoll"),
    ("de", "teppich 10² m"),
    ("de", "teppich 102 m"),
    ("th", "น้ำหอม"),
    ("ko", "ㅋㅋ 티셔츠"),
    ("en", "ﬁsh tank"),
    ("ja", "Ａ４ 用紙"),
    ("ja", "ｶﾞﾗｽ"),
    ("en", "red\x1cdress"),
    ("en", "reddress"),
    ("en", "red dress"),
    ("en", "zero\u200bwidth lamp"),
    ("ar", "می\u200cخواهم"),
    ("en", "क\u094d\u200dष"),
    ("en", "№ 5 perfume™"),
)
"""Language and query. `teppich 10² m` and `teppich 102 m`, and `red<U+001C>dress` and `reddress`, were one text under rule 1."""

PLAIN: Final = (("en", "wool socks"), ("es", "zapatos rojos"), ("fr", "lampe de bureau"), ("pt", "mesa de madeira"))
CATEGORIES: Final = ("Home,Rugs 10² m", "Home,Lamps", "Fashion,Dresses™", "Fashion,Socks", "Pets,ﬁsh", "香水,ｶﾞﾗｽ")
ITEMS: Final = ("rug 10² m", "desk lamp", "dress™ red", "wool socks", "ﬁsh tank 7½ l", "น้ำหอม 50 ml", "Ａ４ paper", "glass\x1cjar")
VARIANTS: Final = 5

SETTINGS: Final = (
    "window.history_days=30",
    "validation.rate_min_rows=10000",
    "validation.max_language_drift=1.0",
    "translate.enabled=false",
    "base.builtin.documents=100",
    "base.builtin.contrastive_steps=5",
    "base.builtin.hidden=64",
    "base.builtin.layers=1",
    "base.builtin.vocabulary=320",
    "denoise.enabled=true",
    "denoise.mode=in-sample",
    "denoise.epochs=1",
    "denoise.action=review",
    "denoise.confidence=0.0",
    "denoise.max_share=1.0",
    "train.epochs=1",
    "train.r=2",
    "train.alpha=4",
    "gate.min_f1=0",
    "gate.min_over_always_yes=-1",
    "gate.confidence=0",
    "gate.min_gain=-1",
    "gate.max_language_loss=1",
    "gate.resamples=100",
    "serving.python=",
    "engine.workers=1",
    "engine.device=cpu",
)
"""Settings under which a night takes seconds, every training row awaits a person's word, and every version serves."""


def arguments(store: Path | str, shop: Path, end: date) -> list[str]:
    """The arguments of `relevance retrain` for a night on the shop."""
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    return ["retrain", "--store", str(store), "--source", str(shop), "--window-end", str(end), "--json", *settings]


def write(folder: Path, days: int) -> Path:
    """Writes the labelled logs of the first `days` days, the same for every number of days, and returns the folder.

    A day repeats a third of the pairs of the day before. Categories are in JSON lines and have no ids; items are in Parquet, where
    a null has made a column of floats of their ids.
    """
    draw = random.Random(15)
    queries = [(language, f"{text} {n}") for language, text in (*ODD, *PLAIN) for n in range(VARIANTS)]
    before: list[dict[str, Any]] = []
    for day in (FIRST + timedelta(days=n) for n in range(days)):
        rows = [_row(draw, task, *query) for query in queries for task in ("QC", "QI") for _ in range(2)]
        rows = [*draw.sample(before, len(before) // 3), *rows]
        before = rows
        moment = datetime(day.year, day.month, day.day, 8, tzinfo=UTC)
        timed = [row | {"event_time": moment + timedelta(seconds=n)} for n, row in enumerate(rows)]
        place = folder / "logs" / f"dt={day}"
        place.mkdir(parents=True)
        frame = pl.DataFrame(timed, schema_overrides={"item_id": pl.Float64}).with_columns(
            pl.col("event_time").dt.strftime("%Y-%m-%dT%H:%M:%SZ")
        )
        frame.filter(task="QC").drop("item_title", "item_id").write_ndjson(place / "categories.jsonl")
        frame.filter(task="QI").drop("category_path").write_parquet(place / "items.parquet")
    return folder


def _row(draw: random.Random, task: str, language: str, query: str) -> dict[str, Any]:
    targets = ITEMS if task == "QI" else CATEGORIES
    target = draw.randrange(len(targets))
    label = int(random.Random(f"{query} {target}").random() < 0.6)  # a pair's own, whenever it comes
    row = {"task": task, "language": language, "query": query, "label": label, "category_path": None}
    if task == "QC":
        return row | {"category_path": CATEGORIES[target], "item_title": None, "item_id": None}
    return row | {"item_title": ITEMS[target], "item_id": 1000.0 + target if target else None}


def answers(rows: pl.DataFrame) -> dict[str, str]:
    """What a person says of every fifth row that awaits a word, and of every row of ODD's first three queries: the other label."""
    chosen = rows.sort("pair_id").with_row_index().filter((pl.col("index") % 5 == 0) | pl.col("query").str.contains("zoll|teppich"))
    return {pair: "no" if label else "yes" for pair, label in chosen.select("pair_id", "label").iter_rows()}


KEPT: Final = (
    "adapters/",
    "aliases/",
    "base/",
    "review/",
    "runs/",
    "stages/base/",
    "stages/denoise",
    "stages/split/",
    "stages/validate/",
)
BESIDE: Final = "data_docs"


def main(archive: str) -> None:
    """Two nights, a person's answers between them, and the parts of the store that a later night can meet."""
    from relevance_core.cli import main as relevance
    from relevance_core.runs import review
    from relevance_core.store import open_store

    round_weights()
    with tempfile.TemporaryDirectory() as work:
        place, shop = Path(work) / "store", write(Path(work) / "shop", 2)
        for end in NIGHTS:
            if relevance(arguments(place, shop, end)):
                raise SystemExit(f"the night of {end} failed")
            if end == NIGHTS[0]:
                store = open_store(str(place))
                review.answer(store, {task: answers(review.queue(store, task)) for task in ("QC", "QI")}, "ada", "a test")
        with tarfile.open(archive, "w:gz") as packed:
            for path in sorted(place.rglob("*")):
                name = str(path.relative_to(place))
                if path.is_file() and name.startswith(KEPT) and BESIDE not in name:
                    packed.add(path, name)


def round_weights() -> None:
    """Has models saved with weights of 16 bits in float32, which compress to half the bytes."""
    from transformers import PreTrainedModel

    save = PreTrainedModel.save_pretrained

    def rounded(model: PreTrainedModel, *args: Any, **kwargs: Any) -> None:
        for weights in model.parameters():
            weights.data = weights.data.bfloat16().float()
        save(model, *args, **kwargs)

    PreTrainedModel.save_pretrained = rounded


if __name__ == "__main__":
    main(sys.argv[1])
