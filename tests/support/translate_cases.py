"""A small glossary, and the inputs, settings and output of the *translate* stage with it."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl

from relevance_core import config
from relevance_core.runs.artifacts import Artifact, open_artifact
from relevance_core.runs.stage import Inputs
from relevance_core.stages.translate import stage as translate
from relevance_core.store import Store
from relevance_core.translators import GlossaryTranslator, read_terms
from tests.support.stage_cases import artifact

GLOSSARY = """\
term_id	language	name
1	en	shirt
1	de	Hemd
1	de	Oberhemd
1	es	camisa
2	en	T-shirt
2	de	T-Shirt
2	es	camiseta
3	en	red
3	de	rot
3	de	rotes
3	es	rojo
3	es	roja
4	en	running shoes
4	de	Laufschuhe
4	es	zapatillas de correr
5	en	shoes
5	de	Schuhe
5	es	zapatillas
"""


def glossary(text: str = GLOSSARY, brands: Sequence[str] = ()) -> GlossaryTranslator:
    return GlossaryTranslator(read_terms(text.encode(), "terms.tsv"), tuple(brands))


def inputs_of(
    store: Store,
    train: pl.DataFrame,
    dev: pl.DataFrame | None = None,
    text: str | None = GLOSSARY,
    onboarded: Iterable[str] = ("de",),
) -> Inputs:
    """The stage's inputs: an *ingest* with the glossary, if there is one, and a *split* with these rows."""
    files = {"brands.txt": b"veltano\n"} | ({"terms.tsv.gz": gzip.compress(text.encode(), mtime=0)} if text else {})
    dev = (train.clear() if dev is None else dev).with_columns(part=pl.lit("judgement"))
    ingest, split = artifact(store, "ingest", {}, files), artifact(store, "split", {"train": train, "dev": dev}, {})
    return Inputs({"source": ingest, "rows": split}, onboarded=tuple(onboarded))


def settings_of(**values: Any) -> config.Settings:
    """No query is on the dev side unless a test says so."""
    return config.build({"split": {"dev_share": 1e-9}, "translate": {"min_rows": 0}, **values})


def ran(store: Store, settings: config.Settings, inputs: Inputs) -> Artifact:
    """The stage's finished output."""
    found = open_artifact(store, translate.run(settings, inputs, store).address)
    assert found is not None
    return found
