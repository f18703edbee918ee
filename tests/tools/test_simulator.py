"""The marketplace: the same days for the same seed, labels that follow from the words, sides that keep their promises."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import polars as pl
import pytest

from relevance_core.errors import SettingsError
from relevance_core.pairs import query_group, side_of
from relevance_core.tools.simulator import Market, catalogue, day, market, spoil, terms, world, write
from relevance_core.tools.simulator.leaves import LEAVES
from relevance_core.tools.simulator.lexicon import BRANDS, COLOURS, LANGUAGES, adjective
from relevance_core.tools.simulator.wording import AUDIENCE_NAMES, MATERIAL_NAMES, Features, item_title, query_text, typo

SMALL = Market(pairs_per_day=400, clicks_per_day=2000, items=1200)
START = date(2026, 10, 1)
DRESS, SKIRT = 0, 1


@cache
def week() -> pl.DataFrame:
    """A week of the default market: the logs with `truth`, `side` and `day`."""
    frames = []
    for n in range(7):
        made = day(Market(), date(2026, 10, 1 + n))
        frames.append(made.logs.with_columns(truth=made.truth["label"], day=pl.lit(n)))
    logs = pl.concat(frames)
    return logs.with_columns(side=pl.Series([side_of(query_group(query)) for query in logs["query"]]))


@cache
def phrases() -> dict[tuple[str, str], str]:
    """(language, name) → what it names, singular and plural alike."""
    return {(row["language"], row["name"]): row["term_id"].removesuffix(".one").removesuffix(".many") for row in terms().to_dicts()}


def read(text: str, language: str) -> set[str]:
    """What a text names, by longest phrase; a word that is no term, number or brand comes back as it stands."""
    words, found = text.lower().replace(",", "").split(), set()
    while words:
        for size in range(min(5, len(words)), 0, -1):
            name = phrases().get((language, " ".join(words[:size])))
            if name or size == 1:
                found.add(name or words[0])
                words = words[size:]
                break
    return found


def missing(row: dict[str, str]) -> set[str] | None:
    """What a QI row's query says and its title does not; None where a typing error makes the query unreadable."""
    asked = {name for name in read(row["query"], row["language"]) if not name.startswith(("word.", "unit."))}
    if any("." not in name and not name.isdigit() and name not in BRANDS for name in asked):
        return None
    return asked - read(row["target"], "en")


def feature(leaf: int, colour: str = "", material: str = "", audience: str = "", size: int = -1, brand: str = "") -> Features:
    return Features(
        leaf,
        BRANDS.index(brand) if brand else -1,
        COLOURS.index(colour) if colour else -1,
        MATERIAL_NAMES.index(material) if material else -1,
        AUDIENCE_NAMES.index(audience) if audience else -1,
        size,
    )


def test_a_day_depends_on_the_seed_and_its_date_alone() -> None:
    """Day 3 is the same whether or not the days before it were made; another seed or date is another day."""
    alone = day(SMALL, date(2026, 10, 3))
    market._cohort.cache_clear()
    market._clicked.cache_clear()
    market.world.cache_clear()
    for n in (1, 2):
        day(SMALL, date(2026, 10, n))
    again = day(SMALL, date(2026, 10, 3))
    for frame, same in zip(alone, again, strict=True):
        assert frame.equals(same)
    assert not alone.logs.equals(day(SMALL, date(2026, 10, 4)).logs)
    other = replace(SMALL, seed=18)
    assert not alone.logs.equals(day(other, date(2026, 10, 3)).logs)
    assert not catalogue(SMALL).equals(catalogue(other))


def test_writing_twice_writes_the_same_bytes(tmp_path: Path) -> None:
    """The same arguments write the same files, and the counts are those of the files."""
    counts = write(SMALL, START, 2, tmp_path / "a")
    assert counts == write(SMALL, START, 2, tmp_path / "b")
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert [str(name) for name in files] == [
        "brands.txt",
        "catalogue.parquet",
        *(f"{kind}/dt=2026-10-0{n}/part-0.parquet" for kind in ("clicks", "logs") for n in (1, 2)),
        "terms.tsv.gz",
        *(f"truth/dt=2026-10-0{n}/part-0.parquet" for n in (1, 2)),
    ]
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert (tmp_path / "a" / "terms.tsv.gz").read_bytes()[4:8] == bytes(4), "the time of writing stands in the archive"
    logs = pl.read_parquet(tmp_path / "a" / "logs/*/*.parquet", hive_partitioning=False)
    assert len(logs) == counts["logs"] == counts["truth"]
    assert dict(logs.schema) == market.LOG_SCHEMA


def test_every_event_lies_in_its_day() -> None:
    """Event times of logs and clicks lie between midnight and midnight UTC, in order."""
    made = day(SMALL, START)
    for frame in (made.logs, made.clicks):
        assert frame["event_time"].dt.date().unique().to_list() == [START]
        assert frame["event_time"].is_sorted()


def test_a_week_has_the_promised_rows() -> None:
    """8,000 to 9,000 train rows a task, and dev rows enough in every language to judge it."""
    counted = {(task, side, lang): n for task, side, lang, n in week().group_by("task", "side", "language").len().iter_rows()}
    for task in ("QC", "QI"):
        assert 8000 <= sum(n for (t, side, _), n in counted.items() if (t, side) == (task, "train")) <= 9000
        for language, least in {"en": 300, "es": 300, "fr": 300, "pt": 150, "de": 250, "it": 250}.items():
            assert counted[task, "dev", language] >= least, (task, language)


def test_the_smallest_market_opens() -> None:
    """A market at the lower bounds of its settings has rows of every language and clicks."""
    made = day(Market(pairs_per_day=100, clicks_per_day=100, items=400), START)
    assert set(made.logs["language"]) == set(LANGUAGES)
    assert len(made.clicks) > 50


def test_market_languages_have_no_train_rows() -> None:
    """German and Italian rows all lie on the dev side."""
    market_rows = week().filter(pl.col("language").is_in(["de", "it"]))
    assert market_rows["side"].unique().to_list() == ["dev"]


def test_two_thirds_of_the_pairs_are_relevant() -> None:
    """The true positive rate lies between 0.60 and 0.69 in each task on each side."""
    for (task, side), rate in {
        (t, s): r for t, s, r in week().group_by("task", "side").agg(pl.col("truth").mean()).iter_rows()
    }.items():
        assert 0.60 <= rate <= 0.69, (task, side)


def test_noise_is_exact_in_train_and_absent_in_dev() -> None:
    """Every day exactly round(0.09 × train rows) train labels are flipped, and no dev label."""
    for _, rows in week().group_by("day"):
        train, dev = rows.filter(side="train"), rows.filter(side="dev")
        assert (train["label"] != train["truth"]).sum() == round(0.09 * len(train))
        assert (dev["label"] != dev["truth"]).sum() == 0


def test_queries_come_back_with_other_targets() -> None:
    """Most queries are judged with two targets or more, and on more than one day."""
    per_query = week().group_by("task", "language", "query").agg(pl.col("target_id").n_unique(), pl.col("day").n_unique())
    assert (per_query["target_id"] >= 2).mean() > 0.6
    assert (per_query["day"] >= 2).mean() > 0.6


def test_one_pair_has_one_true_label() -> None:
    """Wherever a (task, language, query, target) comes again, its true label is the same."""
    labels = week().group_by("task", "language", "query", "target_id").agg(pl.col("truth").n_unique())
    assert labels["truth"].max() == 1


def test_labels_follow_from_the_words() -> None:
    """A target is relevant exactly if it says everything that the query says, judged by the glossary from the texts."""
    sample = week().filter(pl.col("task") == "QI").sample(4000, seed=1)
    rows = [(row, missed) for row in sample.iter_rows(named=True) if (missed := missing(row)) is not None]
    assert len(rows) / len(sample) > 0.94
    for row, missed in rows:
        assert (not missed) == bool(row["truth"]), row


def test_dev_negatives_of_items_are_near() -> None:
    """A dev QI negative misses exactly one thing that the query says; a train negative the noun and mostly more."""
    negatives = week().filter(task="QI", truth=0)
    dev = [missed for row in negatives.filter(side="dev").iter_rows(named=True) if (missed := missing(row)) is not None]
    train = [missed for row in negatives.filter(side="train").iter_rows(named=True) if (missed := missing(row)) is not None]
    assert {len(missed) for missed in dev} == {1}
    assert np.mean([any(name.startswith("noun.") for name in missed) for missed in train]) > 0.95
    assert np.mean([len(missed) for missed in train]) > 1.8


def test_a_category_is_relevant_on_the_path_of_the_noun() -> None:
    """A QC target is relevant exactly if it is the leaf of the query's noun or one of its ancestors."""
    paths = {f"noun.{leaf.name.replace(' ', '-')}": leaf.path for leaf in LEAVES}
    for row in week().filter(pl.col("task") == "QC").sample(4000, seed=1).iter_rows(named=True):
        nouns = [name for name in read(row["query"], row["language"]) if name.startswith("noun.")]
        if len(nouns) == 1:
            levels = tuple(row["target"].split(","))
            assert (paths[nouns[0]][: len(levels)] == levels) == bool(row["truth"]), row


def test_dev_negatives_of_categories_are_siblings() -> None:
    """A dev QC negative differs from the query's own path in its last level alone; most train negatives don't."""

    def sibling_share(side: str) -> float:
        rows = week().filter(task="QC", side=side)
        own = rows.filter((pl.col("truth") == 1) & (pl.col("target").str.count_matches(",") == 2))
        own = own.select("language", "query", leaf="target").unique()
        met = rows.filter(truth=0).join(own, on=["language", "query"])
        same = [
            leaf.split(",")[: target.count(",")] == target.split(",")[:-1]
            for leaf, target in met.select("leaf", "target").iter_rows()
        ]
        return float(np.mean(same))

    assert sibling_share("dev") == 1
    assert sibling_share("train") < 0.4


def test_dev_negatives_of_items_miss_one_stated_thing() -> None:
    """A near miss differs from the need in one stated feature; without an attribute to miss, it is a sibling's item."""
    shop = SMALL.world
    for need in (feature(DRESS, "red"), feature(DRESS, "blue", "cotton")):
        found = shop.items[market._near_misses(shop, need)]
        assert len(found) > 0
        assert (found[:, 0] == DRESS).all()
        assert (world.differences(need, found) == 1).all()
    bare = shop.items[market._near_misses(shop, feature(DRESS))]
    assert {LEAVES[leaf].name for leaf in bare[:, 0]} == {"skirts", "blouses"}


@pytest.mark.parametrize(
    ("need", "item", "expected"),
    [
        (feature(DRESS), feature(DRESS, "red", "cotton"), True),
        (feature(DRESS, "red"), feature(DRESS, "red", "cotton", "women", 38, "veltano"), True),
        (feature(DRESS, "red", brand="veltano"), feature(DRESS, "red", brand="morvik"), False),
        (feature(DRESS, "red"), feature(DRESS), False),
        (feature(DRESS, "red"), feature(SKIRT, "red"), False),
        (feature(DRESS, size=38), feature(DRESS, size=40), False),
        (feature(DRESS, "blue", "silk", "women", 40, "quorda"), feature(DRESS, "blue", "silk", "women", 40, "quorda"), True),
    ],
)
def test_an_item_is_relevant_if_it_has_all_that_is_asked(need: Features, item: Features, expected: bool) -> None:
    """The noun and every stated attribute must match; what the need leaves open does not matter, what the item lacks does."""
    assert world.relevant(need, item) is expected


def test_clicks_never_show_a_dev_query() -> None:
    """Every query of the click log is on the train side, in all six languages, the market's at 2 % each."""
    clicks = day(Market(), START).clicks
    assert {side_of(query_group(query)) for query in clicks["query"].unique()} == {"train"}
    shares = {lang: n / clicks["clicks"].sum() for lang, n in clicks.group_by("language").agg(pl.col("clicks").sum()).iter_rows()}
    assert set(shares) == set(LANGUAGES)
    assert shares["de"] == pytest.approx(0.02, abs=0.004)
    assert shares["it"] == pytest.approx(0.02, abs=0.004)
    assert clicks["clicks"].sum() == Market().clicks_per_day
    assert not clicks.select("task", "language", "query", "target_id").is_duplicated().any()


def test_one_click_in_ten_is_an_accident() -> None:
    """10 % of the clicks land anywhere: 9.5 % of those on categories outside the path of the noun, 3 of 64 being on it."""
    clicks = day(Market(), START).clicks.filter(task="QC", language="en")
    paths = {f"noun.{leaf.name.replace(' ', '-')}": leaf.path for leaf in LEAVES}
    wrong = total = 0
    for query, target, n in clicks.select("query", "target", "clicks").iter_rows():
        nouns = [name for name in read(query, "en") if name.startswith("noun.")]
        if len(nouns) == 1:
            levels = tuple(target.split(","))
            total += n
            wrong += n * (paths[nouns[0]][: len(levels)] != levels)
    assert total > 9000
    assert wrong / total == pytest.approx(0.1 * 61 / 64, abs=0.01)


def test_the_dev_share_moves_the_sides() -> None:
    """With another `dev_share` the sides are those of `side_of` with that share."""
    made = day(replace(SMALL, dev_share=0.5), START)
    assert {side_of(query_group(query), 0.5) for query in made.clicks["query"].unique()} == {"train"}
    german = made.logs.filter(language="de")
    assert {side_of(query_group(query), 0.5) for query in german["query"]} == {"dev"}


def test_the_glossary_knows_every_word_of_a_query() -> None:
    """Whatever the wording, a query without typing errors is made of terms, numbers and brands."""
    shop, rng = SMALL.world, Random(1)
    for item in shop.items:
        for language in LANGUAGES:
            query = query_text(Features(*(int(value) for value in item)), language, rng)
            unknown = {name for name in read(query, language) if "." not in name and not name.isdigit()} - set(BRANDS)
            assert not unknown, query


def test_the_glossary_holds_every_noun_form_in_every_language() -> None:
    """Each leaf's nouns stand in the glossary under its name, in all six languages."""
    for leaf in LEAVES:
        for language in LANGUAGES:
            for noun in leaf.nouns[language]:
                assert phrases()[language, noun.text] == f"noun.{leaf.name.replace(' ', '-')}"


def test_a_name_means_one_thing() -> None:
    """No name stands for two terms of a language, apart from singular and plural, and no noun for two leaves of any two."""
    listed = terms().with_columns(meaning=pl.col("term_id").str.replace(r"\.(one|many)$", ""))
    assert listed.group_by("language", "name").agg(pl.col("meaning").n_unique())["meaning"].max() == 1
    nouns = listed.filter(pl.col("meaning").str.starts_with("noun."))
    assert nouns.group_by("name").agg(pl.col("meaning").n_unique())["meaning"].max() == 1
    assert not set(BRANDS) & {word for name in listed["name"] for word in name.split()}


def test_terms_keep_their_number() -> None:
    """The preferred translation of a singular is a singular, of a plural a plural."""
    preferred = terms().group_by("term_id", "language", maintain_order=True).first()
    names = {(term, lang): name for term, lang, name in preferred.iter_rows()}
    assert (names["noun.skirts.one", "es"], names["noun.skirts.one", "de"]) == ("falda", "rock")
    assert (names["noun.skirts.many", "es"], names["noun.skirts.many", "de"]) == ("faldas", "röcke")
    assert names["colour.red", "de"] == "rot"


@pytest.mark.parametrize(
    ("colour", "language", "agreement", "expected"),
    [
        ("red", "es", "fp", "rojas"),
        ("blue", "es", "mp", "azules"),
        ("pink", "es", "mp", "rosa"),
        ("white", "fr", "f", "blanche"),
        ("brown", "fr", "fp", "marron"),
        ("cheap", "fr", "fp", "pas chères"),
        ("blue", "pt", "fp", "azuis"),
        ("brown", "pt", "mp", "marrons"),
        ("grey", "it", "fp", "grigie"),
        ("green", "it", "mp", "verdi"),
        ("blue", "it", "fp", "blu"),
        ("black", "de", "m", "schwarzer"),
        ("white", "de", "n", "weißes"),
        ("red", "de", "p", "rote"),
        ("purple", "de", "f", "lila"),
        ("yellow", "en", "p", "yellow"),
    ],
)
def test_colours_agree_with_their_noun(colour: str, language: str, agreement: str, expected: str) -> None:
    """An adjective takes the gender and number of the noun it stands beside."""
    assert adjective(colour, language, agreement) == expected


def test_every_noun_says_how_adjectives_agree() -> None:
    """Each noun carries an agreement that its language has."""
    known = {"en": {"", "p"}, "de": {"m", "f", "n", "p"}} | {
        romance: {"m", "f", "mp", "fp"} for romance in ("es", "fr", "pt", "it")
    }
    for leaf in LEAVES:
        for language, nouns in leaf.nouns.items():
            assert {noun.agreement for noun in nouns} <= known[language], (leaf.name, language)


def test_a_need_is_typed_in_the_order_of_its_language() -> None:
    """The wordings of one need are those that its language allows, and no other."""
    need = feature(SKIRT, "red", "wool")
    typed = {language: {query_text(need, language, Random(n)) for n in range(300)} for language in ("en", "es", "de")}
    assert "red wool skirt" in typed["en"]
    assert {"falda roja de lana", "faldas de lana rojas", "falda roja de lana barata"} <= typed["es"]
    assert {"roter rock aus wolle", "rote röcke aus wolle", "rock rot aus wolle"} <= typed["de"]
    assert not any("rojo" in query for query in typed["es"])


def test_a_title_says_all_that_an_item_has() -> None:
    """In whatever order, a title names brand, colour, material, noun, audience and size."""
    item = feature(DRESS, "red", "cotton", "women", 38, "veltano")
    for n in range(30):
        title = item_title(item, Random(n))
        assert title.startswith("Veltano ")
        assert read(title, "en") - {"word.for"} == {
            "veltano", "colour.red", "material.cotton", "noun.dresses", "audience.women", "unit.size", "38",
        }  # fmt: skip
    assert item_title(feature(SKIRT, "red"), Random(0)).startswith("Red skirt")


def test_a_typing_error_drops_a_letter_or_swaps_two() -> None:
    """A typo changes one word of five letters or more by one letter, never its first, and leaves short words alone."""
    for n in range(50):
        wrong = typo("red dress", Random(n))
        assert wrong.startswith("red d")
        assert wrong != "red dress"
        word = wrong.split()[1]
        assert len(word) == 4 or sorted(word) == sorted("dress")
    assert typo("red bag", Random(0)) == "red bag"


def test_the_catalogue_holds_every_target_once() -> None:
    """Ids and texts are unique, inner categories are there, and every logged or clicked target is one of them."""
    listed = catalogue(SMALL)
    assert not listed.select("task", "target_id").is_duplicated().any()
    assert not listed.select("task", "target").is_duplicated().any()
    categories = set(listed.filter(task="QC")["target"])
    assert {"fashion", "fashion,women's clothing", "fashion,women's clothing,dresses"} <= categories
    assert len(categories) == 8 + 16 + 40
    assert len(listed.filter(task="QI")) == 1200
    made = day(SMALL, START)
    for frame in (made.logs, made.clicks):
        assert len(frame.join(listed, on=["task", "target_id", "target"], how="anti")) == 0


def test_spoilt_logs_are_spoilt_as_named() -> None:
    """Each way to spoil a day does what it says and leaves the rest."""
    logs = day(SMALL, START).logs
    shuffled = spoil(logs, "shuffled-labels")
    assert shuffled["label"].sum() == logs["label"].sum()
    assert 0.3 < (shuffled["label"] != logs["label"]).mean() < 0.6
    assert shuffled.drop("label").equals(logs.drop("label"))
    assert "label" not in spoil(logs, "missing-column").columns
    assert spoil(logs, "empty").is_empty()
    assert spoil(logs, "nulls")["query"].null_count() / len(logs) == pytest.approx(0.4, abs=0.005)
    assert spoil(logs, "all-positive")["label"].mean() == pytest.approx(0.99, abs=0.002)
    with pytest.raises(SettingsError, match="sideways"):
        spoil(logs, "sideways")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"noise": 0.6},
        {"items": 10},
        {"pairs_per_day": 99},
        {"languages": (("en", 0.7), ("es", 0.7))},
        {"languages": (("en", 1.0),), "market_languages": ("en",)},
        {"market_languages": ("ja",)},
    ],
)
def test_a_market_refuses_settings_that_cannot_be_meant(wrong: dict[str, object]) -> None:
    """Settings outside their bounds, languages named twice or unknown are refused when the market is built."""
    with pytest.raises(SettingsError):
        Market(**wrong)  # type: ignore[arg-type]


def test_no_days_are_no_market(tmp_path: Path) -> None:
    """Writing fewer than one day is refused, and writes nothing."""
    with pytest.raises(SettingsError):
        write(SMALL, START, 0, tmp_path / "out")
    assert not (tmp_path / "out").exists()
