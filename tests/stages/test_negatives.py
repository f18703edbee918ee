"""Kinds of mined negatives and their mix, and the review queue of a run whose *mine* asked people."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import polars as pl
import pytest

from relevance_core import config
from relevance_core.config import MineSettings, Settings, SplitSettings
from relevance_core.errors import SettingsError
from relevance_core.runs import review
from relevance_core.runs.artifacts import Artifact
from relevance_core.runs.stage import Inputs
from relevance_core.stages import mine
from relevance_core.stages.mine import draws
from relevance_core.stages.mine.index import Vectors
from relevance_core.stages.split import prefix_sides
from relevance_core.store import Store
from tests.support.mine_cases import inputs_of
from tests.support.page_cases import overview_page, text_of
from tests.support.pair_cases import output, settings_for
from tests.support.review_cases import TRAIN, finished, listed
from tests.support.stage_cases import artifact, by_role, log


def at_degrees(*degrees: float) -> Vectors:
    """Unit vectors in the plane."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def mined(store: Store, train: pl.DataFrame, **settings: Any) -> tuple[Artifact, dict[str, Any]]:
    """The finished output of the stage on the five shoes and hats of its tests, and its figures."""
    found = output(mine.run(config.build({"mine": settings}), inputs_of(store, train), store), store)
    return found, dict(found.report.figures)


SHOES = log(("es", "zapatillas rojas", "Red leather shoe", 1), ("en", "blue shoes", "Blue leather shoe", 1), task="QI")


# The mix. Candidates of three kinds, by their rank: 1 to 2 hard, 3 to 4 easy, none random.


def tried(positives: int, language: str = "en", ranks: tuple[int | None, ...] = (1, 2, 3, 4, None, None)) -> pl.DataFrame:
    """Usable candidates, one a rank, for each of some positives; no two are the same target."""
    rows = [
        (f"{language}{n}", f"{language}{n}", language, f"{language}{n}-{m}", rank)
        for n in range(positives)
        for m, rank in enumerate(ranks)
    ]
    schema = {"origin_id": pl.String, "query": pl.String, "language": pl.String, "target": pl.String, "rank": pl.Int32}
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(candidate=pl.col("target"))


def positives(count: int, language: str = "en") -> pl.DataFrame:
    return log(*((language, f"{language}{n}", "t", 1) for n in range(count)))


def drawn(usable: pl.DataFrame, train: pl.DataFrame, seed: int = 0, **settings: Any) -> pl.DataFrame:
    chosen = draws.sample(usable, train, MineSettings.model_validate({"top_k": 2} | settings), seed)
    return chosen.with_columns(kind=draws.kind_of(2))


def kinds(chosen: pl.DataFrame) -> dict[str, int]:
    return dict(chosen.group_by("kind").len().iter_rows())


@pytest.mark.parametrize(
    ("mix", "expected"),
    [
        ({"hard": 1.0}, {"hard": 10}),
        ({"random": 1.0}, {"random": 10}),
        ({"easy": 1.0, "hard": 0.0}, {"easy": 10}),
        ({"hard": 0.5, "easy": 0.2, "random": 0.3}, {"hard": 5, "easy": 2, "random": 3}),
        ({"hard": 0.75, "random": 0.25}, {"hard": 7, "random": 3}),
    ],
)
def test_a_mix_shares_the_same_number_out(mix: dict[str, float], expected: dict[str, int]) -> None:
    """Ten positives at ratio 1 get ten negatives whatever they are of; 2.5 random ones are 3."""
    assert kinds(drawn(tried(10), positives(10), ratio=1.0, mix=mix, easy_top=4)) == expected


def test_hard_ones_make_up_for_what_the_others_lack() -> None:
    """With two random candidates in all, eight of ten are hard, and no more are drawn than hard ones alone would be."""
    usable = pl.concat([tried(10, ranks=(1, 2)), tried(2, ranks=(None,))])
    assert kinds(drawn(usable, positives(10), ratio=1.0, mix={"random": 1.0})) == {"random": 2, "hard": 8}
    few = pl.concat([tried(2, ranks=(1, 2)), tried(10, ranks=(None, None))])
    assert len(drawn(few, positives(10), ratio=1.0)) == len(drawn(few, positives(10), ratio=1.0, mix={"random": 1.0})) == 4


def test_a_target_is_drawn_once_for_a_query_whatever_its_kind() -> None:
    """A target that is both a neighbour and a random draw becomes one negative."""
    usable = pl.concat([tried(4, ranks=(1, 2)), tried(4, ranks=(None, None))])
    chosen = drawn(usable, positives(4), ratio=2.0, mix={"hard": 0.5, "random": 0.5})
    assert len(chosen) == chosen.select("query", "candidate").n_unique() == 8


def test_random_candidates_follow_the_seed_and_are_even() -> None:
    """The same seed gives the same ones, another others; of 4,000 draws from 9 targets beside itself each has about a ninth."""
    rows = pl.DataFrame({"origin_id": [f"p{n}" for n in range(4000)], "positive": 0})
    vectors = at_degrees(*range(0, 100, 10))
    found = draws.at_random(rows, vectors, 1, 17)
    assert found.equals(draws.at_random(rows, vectors, 1, 17))
    assert not found.equals(draws.at_random(rows, vectors, 1, 18))
    shares = found["candidate"].value_counts(normalize=True)
    assert sorted(shares["candidate"]) == list(range(1, 10))
    assert shares["proportion"].to_numpy() == pytest.approx(np.full(9, 1 / 9), abs=0.02)
    assert found["rank"].null_count() == len(found)
    straight = found.filter(candidate=9)
    assert straight["similarity"].to_numpy() == pytest.approx(np.zeros(len(straight)), abs=1e-6)


def test_another_seed_is_another_output_of_random_ones_alone(store: Store) -> None:
    """The seed counts for a mix that has random ones, so that an ablation's seeds draw anew."""
    addresses = {
        (seed, kind): mine.run(config.build({"seed": seed, "mine": {"mix": {kind: 1}}}), inputs, store).address
        for inputs in (inputs_of(store, SHOES),)
        for seed in (17, 18)
        for kind in ("hard", "random")
    }
    assert addresses[17, "hard"] == addresses[18, "hard"]
    assert len(set(addresses.values())) == 3


def test_random_negatives_pass_the_same_guards(store: Store) -> None:
    """Of five titles the red canvas shoe is as good a match and one is the positive: the blue, the green and the hat are left."""
    train = log(("es", "zapatillas rojas", "Red leather shoe", 1), task="QI")
    found, figures = mined(store, train, mix={"random": 1.0}, ratio=3.0)
    ledger = found.table("ledger")
    assert set(ledger["negative"]) == {"Blue leather shoe", "Green leather shoe", "Straw hat"}
    assert figures["added"] == 3
    assert figures["added_by_kind"].get("random", 0) == ledger["rank"].null_count() > 0


def test_easy_negatives_are_further_away_than_hard_ones(store: Store) -> None:
    """With the nearest rank for hard ones, ranks 2 to 4 are easy ones; the search goes as far."""
    train = log(("en", "blue shoes", "Blue leather shoe", 1), task="QI")
    found, figures = mined(store, train, top_k=1, mix={"easy": 1.0}, easy_top=4, ratio=1.0)
    assert figures["added_by_kind"] == {"easy": 1}
    assert found.table("ledger")["rank"][0] > 1
    assert figures["candidates"] == 4


@pytest.mark.parametrize(
    ("override", "where", "words"),
    [
        ("mine.mix.random=0.5", "mine.mix", "add up to 0.5"),
        ('mine.mix={"soft": 1}', "mine.mix.soft.[key]", "'hard', 'easy' or 'random'"),
        ('mine={"mix": {"easy": 1}, "top_k": 100}', "mine", r"from 101 \(top_k\) to 100"),
    ],
)
def test_settings_that_can_not_be_meant_are_refused(override: str, where: str, words: str) -> None:
    """Shares that are no whole, ranks that there are none of, a language that is none."""
    with pytest.raises(SettingsError, match=words) as caught:
        config.load(overrides=[override])
    assert caught.value.where == where


def test_what_is_off_leaves_no_trace(store: Store) -> None:
    """The settings as they are written, and with them the names of finished outputs, are those from before there were these; zeros
    in a mix and another seed change nothing."""
    old = {"enabled", "embedder", "top_k", "ratio", "duplicate_similarity", "index", "index_from"}
    assert set(MineSettings().model_dump()) == old
    inputs = inputs_of(store, SHOES)
    plain = mine.run(Settings(), inputs, store)
    same = config.build({"seed": 18, "mine": {"mix": {"hard": 1, "easy": 0, "random": 0}}})
    assert mine.run(same, inputs, store).found
    champion = Inputs(inputs.artifacts, "QI", {"QI": "0123"}, decisions=("some",))
    assert mine.run(Settings(), champion, store).address == plain.address


def test_no_category_of_a_dev_prefix_is_a_negative(store: Store) -> None:
    """Where categories are split, a training row with a dev category would put its prefix on both sides."""
    paths = [f"shop,part {n}" for n in range(40)]
    sides = dict(zip(paths, prefix_sides(pl.Series(paths), SplitSettings()), strict=True))
    own = next(path for path in paths if sides[path] == "train")
    train = log(("en", "hat", own, 1)).with_columns(english=pl.lit(None, pl.String))
    catalogue = pl.DataFrame({"task": "QC", "target": paths, "target_id": paths})
    inputs = Inputs(
        by_role(
            "mine",
            {
                "ingest": artifact(store, "ingest", {"catalogue": catalogue}),
                "translate": artifact(store, "translate", {"train": train}),
            },
        ),
        "QC",
    )
    values = {"mine": {"ratio": 40.0, "top_k": 40}}
    by_query, by_prefix = (
        set(output(mine.run(config.build(values | more), inputs, store), store).table("ledger")["negative"])
        for more in ({}, {"split": {"qc_group": "prefix"}})
    )
    assert {sides[path] for path in by_query} == {"train", "dev"}
    assert by_prefix == {path for path in by_query if sides[path] == "train"}


def test_the_queue_holds_what_either_stage_asks(store: Store) -> None:
    """A doubted candidate (0.9 for a 0) stands before a label that the filter doubts (0.2 for a 1); one answer leaves one."""
    rows = pl.DataFrame([listed(TRAIN[0], 0.9, label=0, target="boots", reason="the champion", model="v1")])
    ids = finished(store, "2026-10-02-0", [listed(TRAIN[1], 0.2)])
    asked = artifact(store, "mine", {"review": rows}, figures={"doubted": 1})
    store.write("runs/2026-10-02-0/mine-qc.json", json.dumps({"address": asked.address}).encode())
    assert review.queue(store, "QC").select("query", "label", "score", "reason").rows()[0] == (TRAIN[0], 0, 0.9, "the champion")
    review.answer(store, {"QC": {rows["pair_id"][0]: "yes"}}, "ann")
    assert review.queue(store, "QC")["pair_id"].to_list() == ids


def test_the_first_page_counts_what_both_stages_ask(store: Store) -> None:
    """Two labels and a candidate wait for a look; after one answer two are left."""
    run_id = "2026-10-02-aaaaaaaa"
    run = {"settings": settings_for("logs").model_dump(mode="json"), "champion": {}, "onboarded": []}
    store.write(f"runs/{run_id}/run.json", json.dumps(run).encode())
    ledger = pl.DataFrame([listed(TRAIN[0], 0.1), listed(TRAIN[1], 0.1)])
    doubted = pl.DataFrame([listed(TRAIN[2], 0.9, label=0)])
    for name, tables, figures in (
        ("denoise-qc", {"ledger": ledger}, {"action": "review", "acted": 2}),
        ("mine-qc", {"review": doubted}, {"doubted": 1}),
    ):
        made = artifact(store, name, tables, figures=figures)
        store.write(f"runs/{run_id}/{name}.json", json.dumps(made.report.as_json()).encode())
    assert "3 labels are doubted and wait for a look (QC 3)" in text_of(overview_page(store))
    review.answer(store, {"QC": {doubted["pair_id"][0]: "no"}}, "ann")
    assert "2 labels are doubted and wait for a look (QC 2)" in text_of(overview_page(store))
