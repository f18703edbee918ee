"""A small shop's glossary and catalogue, and the inputs of the *mine* stage with them."""

from __future__ import annotations

import polars as pl

from relevance_core.runs.stage import Inputs
from relevance_core.store import Store
from relevance_core.translators import GlossaryTranslator, Term, save
from tests.support.stage_cases import artifact

SHOP = GlossaryTranslator(
    tuple(
        Term(*row)
        for row in (
            ("red", "en", "red"), ("red", "es", "rojo"), ("red", "es", "rojas"),
            ("shoe", "en", "shoe"), ("shoes", "en", "shoes"), ("shoes", "en", "footwear"), ("shoes", "es", "zapatillas"),
            ("hat", "en", "hat"), ("hat", "es", "sombrero"),
        )
    )
)  # fmt: skip

CATALOGUE = pl.DataFrame(
    {
        "task": "QI",
        "target_id": ["i1", "i2", "i3", "i4", "i5"],
        "target": ["Red leather shoe", "Blue leather shoe", "Red canvas shoe", "Straw hat", "Green leather shoe"],
    }
)


def inputs_of(store: Store, train: pl.DataFrame) -> Inputs:
    """The stage's inputs, with the catalogue and a translator."""
    ingest = artifact(store, "ingest", {"catalogue": CATALOGUE})
    translated = artifact(
        store, "translate", {"train": train.with_columns(english=pl.lit("red shoes"))}, figures={"translator": save(SHOP, store)}
    )
    return Inputs({"source": ingest, "rows": translated, "translator": translated}, task="QI")
