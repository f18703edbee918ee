"""Mistyped copies of training rows: what they inherit, which are left out, and that *denoise* accounts for them."""

from __future__ import annotations

from typing import Any

import polars as pl

from relevance_core import config, pairs
from relevance_core.config import SLIPS, Settings, SplitSettings
from relevance_core.languages.slips import corrupt
from relevance_core.runs.stage import Artifact, Inputs, open_artifact
from relevance_core.stages import denoise
from relevance_core.stages.denoise.augment import Copies, copies
from relevance_core.stages.split import place
from relevance_core.store import Store
from relevance_core.translators import GlossaryTranslator, Term, save
from tests.support.stage_cases import artifact, log

GLOSSARY = GlossaryTranslator(
    (Term("1", "en", "jacket"), Term("1", "de", "jacke"), Term("2", "en", "pants"), Term("2", "de", "hose"))
)


def settings_with(**augment: Any) -> Settings:
    return config.build({"augment": {"enabled": True, "share": 1} | augment, "denoise": {"enabled": False}})


def rows_of(*rows: tuple[str, str, str, int]) -> pl.DataFrame:
    """Training rows as *translate* and *mine* leave them."""
    return log(*rows).with_columns(english=pl.lit(None, pl.String))


def many(count: int) -> pl.DataFrame:
    """Rows with queries of their own, every second one relevant."""
    return rows_of(*(("en", f"running shoes {chr(97 + n // 26)}{chr(97 + n % 26)}xyz", "shoes", n % 2) for n in range(count)))


def translated(store: Store) -> Artifact:
    return artifact(store, "translate", {}, figures={"translator": save(GLOSSARY, store)})


def made_of(rows: pl.DataFrame, store: Store, settings: Settings | None = None) -> Copies:
    return copies(rows, rows["pair_id"], settings or settings_with(), translated(store))


def test_a_copy_is_its_original_but_for_the_query(store: Store) -> None:
    """Target, label, language, time, weight and group are the original's; the id is that of its own text; it names its original."""
    rows = many(40).with_columns(weight=pl.lit(0.5, pl.Float32))
    made = made_of(rows, store).rows
    assert len(made) > 20
    assert made.schema == rows.schema
    both = made.join(rows, left_on="origin_id", right_on="pair_id", suffix="_original", validate="1:1")
    for name in ("task", "language", "target", "target_id", "label", "event_time", "weight", "group"):
        assert both[name].to_list() == both[f"{name}_original"].to_list()
    wanted = [corrupt(query, "en", 17) for query in both["query_original"]]
    assert both["query"].to_list() == [typed.text for typed in wanted if typed]
    assert made["pair_id"].to_list() == pairs.with_ids(made)["pair_id"].to_list()
    assert set(made["origin"]) == {"typo"}


def test_no_copy_is_a_dev_query(store: Store) -> None:
    """Were the mistyped texts logged, *split* would put exactly those on the dev side that were left out for it, with each way to
    split.
    """
    rows = many(200)
    made = made_of(rows, store)
    tried = made.ledger.filter(pl.col("reason").is_null() | (pl.col("reason") == "mistyped copy: dev side"))
    typed = tried.with_columns(query="typed", task=pl.lit("QC")).select("task", "query", "target", "reason")
    sides = place(pairs.with_groups(typed), SplitSettings())
    assert sides.filter(side="dev")["reason"].unique().to_list() == ["mistyped copy: dev side"]
    assert sides.filter(side="train")["reason"].null_count() == sides.filter(side="train").height == len(made.rows)
    assert made.dropped["dropped: mistyped copy: dev side"] == sides.filter(side="dev").height > 20
    prefix = place(pairs.with_groups(typed.drop_nulls()), SplitSettings(qc_group="prefix"))
    assert "train" not in prefix["side"].to_list()
    assert set(place(pairs.with_groups(made.rows), SplitSettings(qc_group="prefix"))["side"]) == {"train"}


def test_the_log_knows_better_than_a_copy(store: Store) -> None:
    """Where the log has the mistyped query with the same target, its label stands and the copy is left out; so is a second copy."""
    first = made_of(many(30), store).rows.head(1)
    original = many(30).filter(pair_id=first["origin_id"].item())
    logged = rows_of(("en", first["query"].item(), "shoes", 1 - original["label"].item()))
    made = copies(original, pl.concat([original, logged])["pair_id"], settings_with(), translated(store))
    assert (made.rows.height, made.dropped) == (0, {"dropped: mistyped copy: pair exists": 1})
    twice = made_of(pl.concat([original, original.with_columns(pair_id=pl.lit("0"))]), store)
    assert (twice.rows.height, twice.dropped) == (1, {"dropped: mistyped copy: pair exists": 1})


def test_the_share_is_taken_by_a_hash(store: Store) -> None:
    """About a quarter of 400 rows are copied, the same ones again when others have come in; another seed takes others."""
    rows, settings = many(400), settings_with(share=0.25)
    tonight = made_of(rows.head(200), store, settings).ledger
    tomorrow = made_of(rows, store, settings).ledger
    assert 70 < len(tomorrow) < 130
    assert set(tonight["origin_id"]) == set(tomorrow["origin_id"]) & set(rows["pair_id"].head(200))
    other = made_of(rows, store, settings.model_copy(update={"seed": 18})).ledger
    assert set(other["origin_id"]) != set(tomorrow["origin_id"])


def test_the_english_is_that_of_the_slip(store: Store) -> None:
    """With the translation in the prompt a copy's English comes from its own text: what the glossary cannot read stays mistyped."""
    rows = rows_of(*(("de", f"jacke hose {chr(97 + n)}bcdx", "clothes", 1) for n in range(20)))
    settings = settings_with().model_copy(update={"prompt": config.PromptSettings(translation=True)})
    made = made_of(rows.with_columns(english=pl.lit("jacket pants")), store, settings).rows
    read = [GLOSSARY.translate([query], "de", "en")[0].text for query in made["query"]]
    assert made["english"].to_list() == read
    assert any("pants" not in english for english in read)
    assert made_of(rows, store).rows["english"].null_count() == len(made)


def test_denoise_accounts_for_every_copy(store: Store) -> None:
    """In + made = kept + dropped: 60 rows and a copy of each, of which some are left out; `train` holds the rest, by pair_id."""
    rows, settings = many(60), settings_with()
    inputs = Inputs({"rows": artifact(store, "mine", {"train": rows}), "translator": translated(store)}, "QC")
    report = denoise.run(settings, inputs, store)
    found = open_artifact(store, report.address)
    assert found is not None
    train, ledger = found.table("train"), found.table("augmented")
    left_out = ledger.drop_nulls("reason").height
    assert (report.rows.incoming, report.rows.made, report.rows.dropped) == (60, 60, left_out)
    assert report.rows.kept == len(train) == 120 - left_out
    assert train["pair_id"].is_sorted()
    assert train["pair_id"].is_unique().all()
    assert train.filter(pl.col("origin") != "typo").drop("english").sort("pair_id").equals(rows.drop("english").sort("pair_id"))
    figures = report.figures["augmented"]
    assert (figures["tried"], figures["added"]) == (60, 60 - left_out)
    assert sum(figures["by_slip"].values()) == sum(figures["by_language"].values()) == figures["added"]


def test_only_the_chosen_kinds_of_slips_are_made(store: Store) -> None:
    """Asked for accents, rows without any get no copy and the others lose theirs."""
    rows = rows_of(("fr", "robe d'été", "dresses", 1), ("fr", "robe rouge", "dresses", 1))
    made = made_of(rows, store, settings_with(slips="accents"))
    assert made.ledger.select("typed", "slip").rows() == [("robe d'ete", "accents")]
    assert config.build({}).augment.slips == SLIPS


def test_switched_off_it_changes_nothing(store: Store) -> None:
    """Without `augment.enabled` the rest of `augment` is not part of *denoise*, and no other input is asked for."""
    rows = many(10)
    inputs = Inputs({"rows": artifact(store, "mine", {"train": rows})}, "QC")
    off = denoise.run(config.build({"denoise": {"enabled": False}, "augment": {"share": 0.5}}), inputs, store)
    default = denoise.run(config.build({"denoise": {"enabled": False}, "split": {"dev_share": 0.1}}), inputs, store)
    assert (default.found, default.address, off.rows.made) == (True, off.address, 0)
    assert "augmented" not in off.figures
