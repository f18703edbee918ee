"""Embeddings and the *mine* stage."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from relevance_core import config
from relevance_core.config import EngineSettings, MineSettings
from relevance_core.errors import ModelError
from relevance_core.runs.artifacts import Artifact, open_artifact
from relevance_core.runs.stage import Inputs
from relevance_core.stages.mine import draws, negatives
from relevance_core.stages.mine import stage as mine
from relevance_core.store import Store
from tests.support.mine_cases import SHOP, inputs_of
from tests.support.stage_cases import log

if TYPE_CHECKING:
    pass


def judged(store: Store, task: str, train: pl.DataFrame, targets: list[str], *tried: tuple[int, str]) -> list[str | None]:
    """The reason of each (row of `train` that is positive, candidate's title), with similarity 0.5."""
    listed = pl.DataFrame({"target": sorted({*targets, *train["target"]}), "target_id": ""}).with_row_index("place")
    listed = listed.with_columns(pl.col("place").cast(pl.Int64))
    place = dict(listed.select("target", "place").iter_rows())
    rows = [train.row(n, named=True) for n, _ in tried]
    candidates = pl.DataFrame(
        {
            "origin_id": [row["pair_id"] for row in rows],
            "query": [row["query"] for row in rows],
            "language": [row["language"] for row in rows],
            "group": [row["group"] for row in rows],
            "positive": [place[row["target"]] for row in rows],
            "candidate": [place[title] for _, title in tried],
            "target": [title for _, title in tried],
            "similarity": pl.Series([0.5] * len(tried), dtype=pl.Float32),
            "rank": 1,
        }
    )
    english = negatives.English(SHOP, store)
    assert task in ("QC", "QI")
    return negatives.Guards(train, listed, MineSettings(), "QC" if task == "QC" else "QI", english).judge(candidates).to_list()


def test_a_labelled_target_is_no_negative_in_any_language(store: Store) -> None:
    """The candidate was labelled for the same group in translation, and for a query of another group that means the same."""
    train = log(
        ("es", "zapatillas rojas", "red shoe a", 1),
        ("en", "red shoes", "red hat b", 0),
        ("de", "rote schuhe", "big hat", 1),
        task="QI",
    )
    train = train.with_columns(group=pl.Series(["one", "two", "one"]))
    assert judged(store, "QI", train, ["red box"], (0, "red hat b"), (0, "big hat"), (0, "red box")) == [
        "labelled",
        "labelled",
        None,
    ]


def test_an_ancestor_or_descendant_is_no_negative(store: Store) -> None:
    """With the positives `home` and `home,kitchen,knives` the knives' ancestors and sets are out, the frying pans are not."""
    train = log(("en", "hat", "home", 1), ("en", "hat", "home,kitchen,knives", 1))
    tried = ("home,kitchen", "home,kitchen,knives,sets", "home,kitchen,pans", "garden")
    reasons = judged(store, "QC", train, list(tried), *((1, path) for path in tried))
    assert reasons == ["related category", "related category", None, None]
    alone = judged(store, "QC", train.head(1), list(tried), *((0, path) for path in tried))
    assert alone == ["related category"] * 3 + [None]


def test_a_level_is_not_a_prefix_of_its_text(store: Store) -> None:
    """`home` is no ancestor of `homeware,lamps`."""
    train = log(("en", "hat", "home", 1))
    assert judged(store, "QC", train, ["homeware,lamps"], (0, "homeware,lamps")) == [None]


def test_a_near_duplicate_is_no_negative(store: Store) -> None:
    """The same words in another order, number or synonym are the same title."""
    train = log(("en", "red hat", "Footwear red, 42", 1), task="QI")
    assert judged(
        store, "QI", train, ["Red shoe 42", "Red hat box 42", "Blue shoe 42"], (0, "Red shoe 42"), (0, "Blue shoe 42")
    ) == [
        "near duplicate",
        None,
    ]


def test_an_item_that_has_all_the_positive_has_is_no_negative(store: Store) -> None:
    """For `red shoes` the red footwear with another size is as good as the red shoe; the blue shoe misses the colour."""
    train = log(("es", "zapatillas rojas", "Red shoe 42", 1), task="QI")
    titles = ["Red footwear 43", "Blue shoe 42", "Red hat 42"]
    assert judged(store, "QI", train, titles, *((0, title) for title in titles)) == ["as good a match", None, None]


def test_a_positive_without_evidence_gets_no_negatives(store: Store) -> None:
    """The hat that was clicked for `red shoes` says nothing about which other item is wrong."""
    train = log(("en", "red shoes", "Blue hat", 1), task="QI")
    reasons = judged(store, "QI", train, ["Green hat", "Red hat"], (0, "Green hat"), (0, "Red hat"))
    assert reasons == ["no evidence", "no evidence"]


def test_a_category_that_says_more_of_the_query_is_no_negative(store: Store) -> None:
    """In QC a sibling that shares the noun stays a candidate; one that holds more of the query than the positive does not."""
    train = log(("en", "red hat", "clothes,hats", 1))
    paths = ["clothes,red hats", "clothes,hat boxes", "clothes,coats"]
    assert judged(store, "QC", train, paths, *((0, path) for path in paths)) == ["as good a match", None, None]


def test_words_that_carry_meaning() -> None:
    """Function words, possessives and plural endings go; numbers and words that only look like plurals stay."""
    assert negatives.content_words("Women's dresses for the glass bus, size 42 in boxes") == sorted(
        ["women", "dress", "glass", "bus", "size", "42", "box"]
    )


def usable(*rows: tuple[str, str, str, int]) -> pl.DataFrame:
    """Usable candidates of (positive's id, language, title, rank)."""
    frame = pl.DataFrame(rows, schema=["origin_id", "language", "target", "rank"], orient="row")
    return frame.with_columns(query=pl.col("origin_id"), candidate=pl.col("target"))


def test_negatives_are_drawn_to_a_ratio_in_each_language() -> None:
    """Half of 4 English and of 3 Spanish positives is 2 and 1, however many candidates there are."""
    train = pl.concat([log(*(("en", f"e{n}", "t", 1) for n in range(4))), log(*(("es", f"s{n}", "t", 1) for n in range(3)))])
    candidates = usable(
        *((f"{language}{n}", language, f"x{m}", m + 1) for language in ("en", "es") for n in range(3) for m in range(5))
    )
    drawn = draws.sample(candidates, train, MineSettings(ratio=0.5))
    assert dict(drawn.group_by("language").len().iter_rows()) == {"en": 2, "es": 1}
    assert draws.sample(candidates.reverse(), train, MineSettings(ratio=0.5)).equals(drawn)


def test_every_positive_gets_one_before_any_gets_two() -> None:
    """Three positives with five candidates each and a quota of three share it evenly."""
    train = log(*(("en", f"e{n}", "t", 1) for n in range(3)))
    candidates = usable(*((f"p{n}", "en", f"x{m}", m + 1) for n in range(3) for m in range(5)))
    assert draws.sample(candidates, train, MineSettings(ratio=1.0))["origin_id"].n_unique() == 3


def test_near_candidates_are_drawn_more_often() -> None:
    """Of 2,000 positives with candidates of rank 1 and 2, four in five draw the nearer: the odds are 1 to 1/2²."""
    train = log(*(("en", f"e{n}", "t", 1) for n in range(2000)))
    candidates = usable(*((f"p{n}", "en", f"x{n}-{rank}", rank) for n in range(2000) for rank in (1, 2)))
    nearer = (draws.sample(candidates, train, MineSettings(ratio=1.0))["rank"] == 1).mean()
    assert nearer == pytest.approx(0.8, abs=0.03)


def test_neighbours_are_nearest_first_without_oneself() -> None:
    """On the unit circle at 0°, 10°, 30° and 90° the neighbours of 10° are 0°, 30°, 90°."""
    from relevance_core.stages.mine.index import neighbours

    angles = np.radians([0, 10, 30, 90])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    found, similarity, recall = neighbours(vectors, np.array([1]), 3)
    assert recall == 1
    assert found.tolist() == [[0, 2, 3]]
    assert similarity[0] == pytest.approx(np.cos(np.radians([10, 20, 80])), abs=1e-6)
    assert neighbours(vectors, np.array([0, 3]), 20).places.shape == (2, 3)


def test_a_twin_is_a_neighbour() -> None:
    """Of four equal vectors each has the three others, whichever of them the index names first."""
    from relevance_core.stages.mine.index import neighbours

    found = neighbours(np.ones((4, 1), dtype=np.float32), np.arange(4), 3).places
    assert [sorted(row) for row in found.tolist()] == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]


def test_an_approximate_index_tells_its_recall() -> None:
    """Of 2,000 vectors in 40 clusters the ten neighbours of each are found, as exact search has them, and again the same ones."""
    from relevance_core.stages.mine.index import neighbours

    rng = np.random.default_rng(17)
    vectors = rng.standard_normal((40, 16)).repeat(50, axis=0) + 0.1 * rng.standard_normal((2000, 16))
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    exact, found, again = (neighbours(unit, np.arange(2000), 10, how) for how in ("flat", "ivf", "ivf"))
    same = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact.places.tolist(), found.places.tolist(), strict=True)])
    assert same > 0.95
    assert found.recall == pytest.approx(same, abs=0.02)
    assert (again.places == found.places).all()


def test_what_an_index_misses_lowers_its_recall(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that looks into one cluster of 50 alone misses neighbours of vectors without any clusters, and says so."""
    from relevance_core.stages.mine import index

    monkeypatch.setattr(index, "PROBED", 1)
    vectors = np.random.default_rng(17).standard_normal((2500, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert index.neighbours(vectors, np.arange(2500), 10, "ivf").recall < 0.7


def test_auto_is_exact_up_to_a_size() -> None:
    """With index_from 100, 99 targets are searched exactly and 100 are not; a kind that is asked for is taken whatever the size."""
    kinds = [mine.index_kind(MineSettings(index_from=100), targets) for targets in (99, 100)]
    assert kinds == ["flat", "ivf"]
    assert mine.index_kind(MineSettings(index="ivf", index_from=100), 3) == "ivf"


def test_known_texts_need_no_torch(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """A night without a new text looks its vectors up in a process that has imported neither torch nor the library."""
    code = f"""
import sys
import polars as pl
from relevance_core.config import EngineSettings
from relevance_core.models.embedder import Embedder, embed, open_embedder
from relevance_core.store import open_store
embedder = open_embedder("builtin:minilm", EngineSettings())
embed(pl.Series(["red shoe"]), embedder, open_store({store.uri!r}))
assert not {{"torch", "sentence_transformers"}} & set(sys.modules)
"""
    caplog.set_level("INFO", "relevance_core")
    embed_once(store, "red shoe")
    own = [record.getMessage() for record in caplog.records if record.name.startswith("relevance_core")]
    assert own == ["embedding 1 texts, 0 from the cache"]
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def embed_once(store: Store, text: str) -> None:
    """Puts a text into the cache of the packaged model."""
    from relevance_core.models.embedder import BUILTIN, embed, open_embedder

    embed(pl.Series([text]), open_embedder(BUILTIN, EngineSettings()), store)


def test_a_model_that_is_not_here_is_named() -> None:
    """Nothing is downloaded: an unknown id says how to get it."""
    from relevance_core.models.embedder import open_embedder

    with pytest.raises(ModelError, match=r"no model 'nobody/nothing'.*mine.embedder.*hf download"):
        open_embedder("nobody/nothing", EngineSettings())


def test_the_digest_is_that_of_the_weights(tmp_path: Path) -> None:
    """Other weights in a folder of the same name are another model."""
    from relevance_core.models.embedder import open_embedder

    (tmp_path / "model.safetensors").write_bytes(b"one")
    first = open_embedder(str(tmp_path), EngineSettings())
    (tmp_path / "model.safetensors").write_bytes(b"two")
    assert open_embedder(str(tmp_path), EngineSettings()).digest != first.digest


def ran(store: Store, settings: config.Settings, inputs: Inputs) -> Artifact:
    """The stage's finished output."""
    found = open_artifact(store, mine.run(settings, inputs, store).address)
    assert found is not None
    return found


def test_a_negative_takes_everything_but_the_target_from_its_positive(store: Store) -> None:
    """For `zapatillas rojas` the red canvas shoe is as good a match; what is added is wrong, new, and counted."""
    train = log(("es", "zapatillas rojas", "Red leather shoe", 1), task="QI")
    output = ran(store, config.build({"mine": {"ratio": 2.0}}), inputs_of(store, train))
    negatives = output.table("train").filter(origin="negative")
    source = train.row(0, named=True)
    assert len(negatives) == 2
    assert set(negatives["target"]) <= {"Blue leather shoe", "Green leather shoe", "Straw hat"}
    assert set(negatives["target_id"]) <= {"i2", "i4", "i5"}
    assert negatives.select("language", "query", "group", "label", "origin_id", "event_time", "english").unique().rows() == [
        ("es", "zapatillas rojas", source["group"], 0, source["pair_id"], source["event_time"], "red shoes")
    ]
    assert output.report.rows.as_json() == {"in": 3, "made": 2, "kept": 3, "quarantined": 0, "dropped": 0, "reasons": {}}
    assert output.report.figures["excluded"] == {"as good a match": 1}
    assert len(output.table("ledger")) == 2


def test_the_same_rows_give_the_same_negatives_from_cached_vectors(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """A second run under another setting embeds nothing, and what it adds in common is the same."""
    train = log(("es", "zapatillas rojas", "Red leather shoe", 1), task="QI")
    caplog.set_level("INFO", "relevance_core")
    first = mine.run(config.build({"mine": {"ratio": 1.0}}), inputs_of(store, train), store)
    second = mine.run(config.build({"mine": {"ratio": 1.0, "top_k": 19}}), inputs_of(store, train), store)
    assert first.digest == second.digest
    assert sum("embedding 5 texts" in line for line in caplog.messages) == 1


def test_slices_change_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Judged one positive at a time, five positives get the same rows, ledger and examples as all at once."""
    rows = [("es", "zapatillas rojas", "Red leather shoe"), ("en", "red shoes", "Red canvas shoe"), ("en", "hat", "Straw hat")]
    train = log(
        *((*row, 1) for row in rows), ("en", "blue shoes", "Blue leather shoe", 1), ("en", "shoes", "Straw hat", 1), task="QI"
    )
    whole = mine.run(config.build({"mine": {"ratio": 2.0}}), inputs_of(store, train), store)
    monkeypatch.setattr(mine, "SLICE", 1)
    sliced = mine.run(config.build({"mine": {"ratio": 2.0, "top_k": 19}}), inputs_of(store, train), store)
    assert whole.rows.made > 2
    assert (sliced.digest, sliced.figures) == (whole.digest, whole.figures)


def test_switched_off_it_passes_everything_through(store: Store) -> None:
    """No row is added, and rows of the other task are not this one's."""
    train = pl.concat([log(("es", "zapatillas", "shoes", 1)), log(("es", "zapatillas", "Red leather shoe", 1), task="QI")])
    output = ran(store, config.build({"mine": {"enabled": False}}), inputs_of(store, train))
    assert output.table("train").drop("english").equals(train.filter(task="QI"))
    assert output.table("ledger").is_empty()
