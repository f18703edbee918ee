"""Which negatives are mined: margins, the mix of kinds, ratios, a catalogue, and the champion's doubt."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from relevance_core import config, loop
from relevance_core.config import MineSettings, Settings, SplitSettings
from relevance_core.errors import DataError, NotFound, SettingsError
from relevance_core.pairs import TASKS, Task, digest
from relevance_core.prompts import prompt_from
from relevance_core.registry import AdapterMeta, BaseInfo, Manifest, Registry
from relevance_core.runs import review
from relevance_core.runs.stage import Artifact, Inputs, Report
from relevance_core.sources import read_targets
from relevance_core.stages import mine
from relevance_core.stages.evaluate import score_with
from relevance_core.stages.mine import draws
from relevance_core.stages.mine.index import Vectors
from relevance_core.stages.mine.margin import Margin
from relevance_core.stages.mine.negatives import English
from relevance_core.stages.publish import prompt_info
from relevance_core.stages.split import prefix_sides
from relevance_core.store import Store
from relevance_core.translators import save
from tests.support.mine_cases import SHOP, inputs_of
from tests.support.page_cases import overview_page, text_of
from tests.support.pair_cases import output, row, settings_for, write_rows
from tests.support.review_cases import TRAIN, finished, listed
from tests.support.stage_cases import artifact, by_role, log


def at_degrees(*degrees: float) -> Vectors:
    """Unit vectors in the plane."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


# The margin. A query lies at 0°, so that the cosine of a target's angle is its similarity to the query.

TITLES = ("p30", "p60", "p120", "c20", "c35", "c45", "c121", "c125")


def broken(store: Store, train: pl.DataFrame, query: str, **margin: float) -> list[str]:
    """The titles that break the margin of a query; each lies at the angle that its name says."""
    targets = pl.DataFrame({"target": sorted(TITLES)}).with_columns(place=pl.int_range(pl.len(), dtype=pl.Int64))
    vectors = at_degrees(*(float(title[1:]) for title in targets["target"]))
    rule = Margin(
        train,
        targets,
        vectors,
        MineSettings.model_validate(margin),
        English(None, store),
        lambda texts: at_degrees(*[0] * len(texts)),
    )
    tried = targets.select(candidate="place", query=pl.lit(query), language=pl.lit("en"))
    return targets.filter(rule.broken(tried))["target"].to_list()


def test_a_negative_stays_below_a_share_of_its_positive(store: Store) -> None:
    """The positive at 30° has 0.866, less 5 % is 0.823: 20° (0.940) and the positive are above it, 35° (0.819) is not."""
    train = log(("en", "hat", "p30", 1))
    assert broken(store, train, "hat", relative_margin=0.05) == ["c20", "p30"]


def test_a_negative_stays_some_way_below_its_positive(store: Store) -> None:
    """0.866 less 0.1 is 0.766: 35° (0.819) is above it, 45° (0.707) is not; of two margins the wider one counts."""
    train = log(("en", "hat", "p30", 1))
    assert broken(store, train, "hat", absolute_margin=0.1) == ["c20", "c35", "p30"]
    assert broken(store, train, "hat", absolute_margin=0.1, relative_margin=0.05) == ["c20", "c35", "p30"]


def test_of_several_positives_the_least_like_the_query_counts(store: Store) -> None:
    """With a second positive at 60° (0.5) the candidate at 45° (0.707) goes too; what is labelled not relevant says nothing."""
    train = log(("en", "hat", "p30", 1), ("en", "hat", "p60", 1), ("en", "hat", "c121", 0), ("en", "shoe", "p30", 1))
    assert broken(store, train, "hat", absolute_margin=0.01) == ["c20", "c35", "c45", "p30", "p60"]
    assert broken(store, train, "shoe", relative_margin=0.05) == ["c20", "p30"]


def test_a_share_of_a_negative_similarity_is_below_it(store: Store) -> None:
    """The positive at 120° has -0.5, less 10 % of its size is -0.55: 121° (-0.515) is above it, 125° (-0.574) is not."""
    train = log(("en", "hat", "p120", 1))
    assert set(TITLES) - set(broken(store, train, "hat", relative_margin=0.1)) == {"c125"}


def test_queries_are_embedded_as_they_read_in_english(store: Store) -> None:
    """`zapatillas rojas` is embedded as its English; `schuhe`, which nobody can read here, as it is."""
    seen: list[str] = []

    def embed(texts: pl.Series) -> Vectors:
        seen.extend(texts)
        return at_degrees(*[0] * len(texts))

    targets = pl.DataFrame({"target": ["p30"], "place": [0]})
    train = log(("es", "zapatillas rojas", "p30", 1), ("de", "schuhe", "p30", 1))
    Margin(train, targets, at_degrees(30), MineSettings(relative_margin=0.05), English(SHOP, store), embed)
    assert sorted(seen) == ["schuhe", "shoes red"]


def mined(store: Store, train: pl.DataFrame, **settings: Any) -> tuple[Artifact, dict[str, Any]]:
    """The finished output of the stage on the five shoes and hats of its tests, and its figures."""
    found = output(mine.run(config.build({"mine": settings}), inputs_of(store, train), store), store)
    return found, dict(found.report.figures)


SHOES = log(("es", "zapatillas rojas", "Red leather shoe", 1), ("en", "blue shoes", "Blue leather shoe", 1), task="QI")


def test_what_a_margin_leaves_out_is_counted(store: Store) -> None:
    """No cosine is 2 below another in a title's favour: the margin takes what the other guards left, and says how many."""
    _, without = mined(store, SHOES)
    found, wide = mined(store, SHOES, absolute_margin=2.5)
    assert wide["excluded"] == without["excluded"] | {"within the margin": without["usable"]}
    assert (wide["usable"], wide["added"], wide["candidates"]) == (0, 0, without["candidates"])
    assert found.table("ledger").is_empty()


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


def drawn(usable: pl.DataFrame, train: pl.DataFrame, task: Task = "QC", seed: int = 0, **settings: Any) -> pl.DataFrame:
    chosen = draws.sample(usable, train, MineSettings.model_validate({"top_k": 2} | settings), task, seed).chosen
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


# Ratios.


def test_a_ratio_by_task_and_language() -> None:
    """Four positives of each: QI gets 4 in English (its default) and 2 in German, QC 8 in both, what is not named the one ratio."""
    ratios = {"QI": {"default": 1, "de": 0.5}, "QC": {"default": 2}}
    usable = pl.concat([tried(4, language, (1, 2)) for language in ("de", "en")])
    train = pl.concat([positives(4, language) for language in ("de", "en")])

    def counts(task: Task, **settings: Any) -> dict[str, int]:
        return dict(drawn(usable, train, task, **settings).group_by("language").len().iter_rows())

    assert counts("QI", ratios=ratios) == {"en": 4, "de": 2}
    assert counts("QC", ratios=ratios) == {"en": 8, "de": 8}
    assert counts("QC", ratio=0.25, ratios={"QC": {"de": 0}, "QI": {"default": 2}}) == {"en": 1}


@pytest.mark.parametrize(
    ("override", "where", "words"),
    [
        ("mine.mix.random=0.5", "mine.mix", "add up to 0.5"),
        ('mine.mix={"soft": 1}', "mine.mix.soft.[key]", "'hard', 'easy' or 'random'"),
        ('mine={"mix": {"easy": 1}, "top_k": 100}', "mine", r"from 101 \(top_k\) to 100"),
        ("mine.ratios.QI.german=1", "mine.ratios.QI.german.[key]", "pattern"),
        ("mine.ratios.QI.de=-1", "mine.ratios.QI.de", "greater than or equal to 0"),
        ("mine.relative_margin=2", "mine.relative_margin", "less than or equal to 1"),
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
    old = {"enabled", "embedder", "top_k", "ratio", "duplicate_similarity", "skip_ranks", "index", "index_from"}
    assert set(MineSettings().model_dump()) == old
    inputs = inputs_of(store, SHOES)
    plain = mine.run(Settings(), inputs, store)
    same = config.build({"seed": 18, "mine": {"mix": {"hard": 1, "easy": 0, "random": 0}, "ratios": {}, "catalogue": ""}})
    assert mine.run(same, inputs, store).found
    champion = Inputs(inputs.artifacts, "QI", {"QI": "0123"}, decisions=("some",))
    assert mine.run(Settings(), champion, store).address == plain.address


# The catalogue.


def test_a_catalogue_brings_more_candidates(store: Store, tmp_path: Path) -> None:
    """A black shoe that no log knows becomes a negative, its text normalised; the hat that the logs know is one target still."""
    file = tmp_path / "shop.csv"
    file.write_text("category_path,item_title,item_id\nshoes,Black  leather shoe,i9\nhats,Straw hat,other\n,,\n")
    found, figures = mined(store, SHOES.head(1), catalogue=str(file), ratio=9.0)
    assert (figures["targets"], figures["listed"]) == (6, 1)
    negatives = found.table("train").filter(origin="negative")
    ids = dict(negatives.select("target", "target_id").iter_rows())
    assert ids["Black leather shoe"] == "i9"
    assert ids["Straw hat"] == "i4"
    assert "listed" not in mined(store, SHOES.head(1), ratio=9.0)[1]


def test_each_task_reads_its_own_column(tmp_path: Path) -> None:
    """`category_path` is of QC, `item_title` of QI; with a task column `target` is of the row's task."""
    file = tmp_path / "shop.jsonl"
    file.write_text(json.dumps({"category_path": "home,knives"}) + "\n" + json.dumps({"item_title": "a knife"}) + "\n")
    assert [read_targets(str(file), task)["target"].to_list() for task in TASKS] == [["home,knives"], ["a knife"]]
    pl.DataFrame({"task": ["QC", "qi"], "target": ["home", "a pan"]}).write_parquet(tmp_path / "shop.parquet")
    assert [read_targets(str(tmp_path / "shop.parquet"), task)["target"].to_list() for task in TASKS] == [["home"], ["a pan"]]


def test_where_logs_have_no_ids_a_catalogue_has_none(store: Store, tmp_path: Path) -> None:
    """The ids of the logs are digests, so that the pair of a new target has the id that it would have in a log."""
    file = tmp_path / "shop.csv"
    file.write_text("item_title,item_id\nBlack leather shoe,i9\n")
    known = pl.DataFrame({"task": "QI", "target": ["Red leather shoe"], "target_id": [digest("target", "Red leather shoe")]})
    train = SHOES.head(1).with_columns(target_id=pl.lit(known["target_id"][0]), english=pl.lit(None, pl.String))
    inputs = Inputs(
        by_role(
            "mine",
            {
                "ingest": artifact(store, "ingest", {"catalogue": known}),
                "translate": artifact(store, "translate", {"train": train}, figures={"translator": save(SHOP, store)}),
            },
        ),
        "QI",
    )
    report = mine.run(config.build({"mine": {"catalogue": str(file), "ratio": 1.0}}), inputs, store)
    negative = output(report, store).table("train").filter(origin="negative")
    assert negative["target_id"].to_list() == [digest("target", "Black leather shoe")]


def test_another_content_is_another_output(store: Store, tmp_path: Path) -> None:
    """The catalogue is read from outside the store, so its content is part of the output's name."""
    file, inputs = tmp_path / "shop.csv", inputs_of(store, SHOES)
    settings = config.build({"mine": {"catalogue": str(file)}})

    def run(text: str) -> Report:
        file.write_text(text)
        return mine.run(settings, inputs, store)

    first = run("item_title\nBlack leather shoe\n")
    assert run("item_title\nBrown leather shoe\n").address != first.address
    assert run("item_title\nBlack leather shoe\n").found


def test_another_content_is_another_run(tmp_path: Path) -> None:
    """A run that is named by what it reads has another name when the catalogue has another title."""
    logs, file = write_rows(tmp_path / "logs.jsonl", [row()]), tmp_path / "shop.csv"
    file.write_text("item_title\nBlack leather shoe\n")
    settings = settings_for(logs, f"mine.catalogue={file}")
    first = loop.default_run_id(settings)
    assert loop.default_run_id(settings) == first
    file.write_text("item_title\nBrown leather shoe\n")
    assert loop.default_run_id(settings) != first


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("shop.csv", "target\nhome\n", "does not say which targets are of which task.*category_path"),
        ("shop.csv", "name\nhome\n", "does not say which targets"),
        ("shop.xlsx", "", "unknown form.*parquet"),
    ],
)
def test_a_catalogue_that_can_not_be_read_is_told(name: str, text: str, words: str, tmp_path: Path) -> None:
    """Titles without a task, no known column, another form."""
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=words):
        read_targets(str(tmp_path / name), "QC")


def test_a_catalogue_that_is_not_there_is_told(store: Store, tmp_path: Path) -> None:
    """Before the stage begins."""
    with pytest.raises(NotFound, match="no such file"):
        mine.run(config.build({"mine": {"catalogue": str(tmp_path / "none.csv")}}), inputs_of(store, SHOES), store)


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


# The champion's doubt.


def test_what_is_doubted_is_replaced_by_the_next(store: Store) -> None:
    """Of four positives with two candidates each, the doubt takes every first one: the four others are asked about, and drawn."""
    usable, asked = tried(4, ranks=(1, 2)), []
    firsts = set(draws.sample(usable, positives(4), MineSettings(ratio=1.0), "QC").chosen["target"])

    def doubts(rows: pl.DataFrame) -> pl.Series:
        asked.extend(rows["target"])
        return rows.select(pl.when(pl.col("target").is_in(list(firsts))).then(0.9).alias("p"))["p"]

    chosen, doubted = draws.sample(usable, positives(4), MineSettings(ratio=1.0), "QC", doubts=doubts)
    assert set(chosen["target"]) == set(usable["target"]) - firsts
    assert dict(doubted.select("target", "score").iter_rows()) == dict.fromkeys(firsts, 0.9)
    assert sorted(asked) == sorted(usable["target"])


def test_only_what_is_drawn_is_asked_about() -> None:
    """Two of twelve candidates are wanted and none is doubted: two are asked about, once."""
    asked: list[str] = []

    def none(rows: pl.DataFrame) -> pl.Series:
        asked.extend(rows["target"])
        return pl.repeat(None, len(rows), dtype=pl.Float64, eager=True)

    chosen, doubted = draws.sample(tried(4, ranks=(1, 2, 3)), positives(4), MineSettings(ratio=0.5), "QC", doubts=none)
    assert asked == chosen["target"].to_list()
    assert (len(chosen), len(doubted)) == (2, 0)


def test_a_doubted_target_is_not_tried_again_as_another_kind() -> None:
    """Everything is doubted: six distinct candidates of a query are asked about once each, and none is drawn."""
    usable = pl.concat([tried(1, ranks=(1, 2, 3)), tried(1, ranks=(None, None, None))])
    asked: list[str] = []

    def everything(rows: pl.DataFrame) -> pl.Series:
        asked.extend(rows["target"])
        return pl.repeat(0.9, len(rows), eager=True)

    settings = MineSettings(ratio=3.0, mix={"hard": 0.5, "random": 0.5})
    chosen, doubted = draws.sample(usable, positives(1), settings, "QC", doubts=everything)
    assert chosen.is_empty()
    assert sorted(asked) == sorted(doubted["target"]) == ["en0-0", "en0-1", "en0-2"]


def queue_of(store: Store, run_id: str, mined_: Artifact) -> pl.DataFrame:
    """The review queue after a run that has mined this and whose filter doubts nothing else."""
    finished(store, run_id, [], "QI")
    store.write(f"runs/{run_id}/mine-qi.json", json.dumps(mined_.report.as_json()).encode())
    return review.queue(store, "QI")


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


class Shop:
    """A shop whose champion is a random model: what is tested is what becomes of its answers, not how good they are."""

    def __init__(self, store: Store, folder: Path, languages: tuple[str, ...]) -> None:
        from tests.support.models_fixture import random_adapter, save_base

        self.store, self.inputs, base = store, inputs_of(store, SHOES), save_base(folder / "base")
        meta = AdapterMeta(
            base=BaseInfo(id="random", uri=str(base)),
            prompt=prompt_info(prompt_from(Settings()), self.inputs["translate"]),
            threshold=0.5,
            languages=languages,
            created="2026-10-07T00:00:00+00:00",
        )
        self.champion: Manifest = Registry(store).publish("QI", random_adapter(folder / "adapter", base, "random", 3), meta)

    def mined(self, limit: float, decisions: tuple[str, ...] = ()) -> Artifact:
        settings = config.build({"mine": {"champion_review": limit, "ratio": 9.0}})
        inputs = Inputs(self.inputs.artifacts, "QI", {"QI": self.champion.version}, decisions=decisions)
        return output(mine.run(settings, inputs, self.store), self.store)

    def p(self, rows: pl.DataFrame) -> dict[str, float]:
        """p(yes) of the champion by pair."""
        p = score_with(self.store, self.champion, rows, Settings(), lambda text: None)
        return dict(zip(rows["pair_id"], p, strict=True))


@pytest.fixture
def shop(store: Store, tmp_path: Path) -> Callable[..., Shop]:
    return lambda *languages: Shop(store, tmp_path, languages)


def test_candidates_that_the_champion_calls_relevant_wait_for_people(shop: Callable[..., Shop], store: Store) -> None:
    """With the bound at its middle score, all negatives are at or below it, all above it are in the queue, none is in training; one
    that people then call relevant joins training, one that they do not is a negative, and neither is asked again."""
    here = shop("en", "es")
    everything = here.mined(1.0).table("train").filter(origin="negative")
    p = here.p(everything)
    limit = float(np.median(list(p.values())))
    high = {pair for pair, score in p.items() if score > limit}
    first = here.mined(limit)
    assert {row["pair_id"] for row in first.table("review").iter_rows(named=True)} == high
    assert set(first.table("train").filter(origin="negative")["pair_id"]) == set(p) - high
    figures = first.report.figures
    assert figures["excluded"]["the champion's doubt"] == figures["doubted"] == len(high) >= 2
    assert figures["candidates"] == sum(figures["excluded"].values()) + figures["usable"]

    queue = queue_of(store, "2026-10-07-a", first)
    assert set(queue["pair_id"]) == high
    assert queue["score"].to_list() == pytest.approx(sorted((p[pair] for pair in high), reverse=True), abs=1e-6)
    assert here.champion.version in queue["reason"][0]
    no, yes = queue["pair_id"][0], queue["pair_id"][1]
    review.answer(store, {"QI": {no: "no", yes: "yes"}}, "ann")
    second = here.mined(limit, tuple(review.names(store)))
    labels = dict(second.table("train").select("pair_id", "label").iter_rows())
    assert (labels[no], labels[yes]) == (0, 1)
    assert second.report.figures["called_relevant"] == 1
    assert not {no, yes} & set(second.table("review")["pair_id"])


def test_a_language_that_the_champion_never_learned_is_not_asked_about(shop: Callable[..., Shop]) -> None:
    """Trained on English alone, it doubts everything above 0 there and nothing in Spanish."""
    found = shop("en").mined(0.0)
    assert set(found.table("review")["language"]) == {"en"}
    assert set(found.table("train").filter(origin="negative")["language"]) == {"es"}


def test_without_a_champion_nobody_is_asked(store: Store) -> None:
    """The first run mines as it would without the guard, and says that there was none."""
    found, figures = mined(store, SHOES, champion_review=0.5)
    plain, _ = mined(store, SHOES)
    assert (figures["champion"], figures["doubted"]) == (None, 0)
    assert found.files["train.parquet"] == plain.files["train.parquet"]
    assert "review.parquet" not in found.files
