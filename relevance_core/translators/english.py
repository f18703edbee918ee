"""The English of a query, for prompts that carry it: in bulk for stages, one by one for clients, with the same result."""

from __future__ import annotations

from typing import Final

import polars as pl

from relevance_core.store import Store
from relevance_core.translators.memory import memory_of, translate_and_remember
from relevance_core.translators.protocol import Translator

ENGLISH: Final = "en"
_KEPT: Final = 200_000
"""Queries of a language that a client keeps."""


def has_english(translator: Translator | None, language: str) -> bool:
    """Tells whether queries of a language get an English translation: they are not English, and a translator reads the language."""
    return translator is not None and language != ENGLISH and translator.can(language, ENGLISH)


def add_english(frame: pl.DataFrame, translator: Translator | None, store: Store) -> pl.DataFrame:
    """Returns `frame` (`language`, `query`) with `english`: the query's English translation, from the query's own text alone.

    It is null where `has_english` is false. Training, evaluation and scoring all use this function, so that a query has the same
    English in each.
    """
    if "english" in frame.columns:
        frame = frame.drop("english")
    pieces = [pl.DataFrame(schema={"language": pl.String, "query": pl.String, "english": pl.String})]
    for language in frame["language"].unique().drop_nulls().sort() if translator else ():
        if translator and has_english(translator, language):
            texts = frame.filter(language=language)["query"]
            known, _ = translate_and_remember(translator, store, texts, language, ENGLISH)
            pieces.append(known.select(pl.lit(language).alias("language"), query="text", english="translation"))
    return frame.join(pl.concat(pieces), on=["language", "query"], how="left", maintain_order="left")


class English:
    """Translates queries one by one, with the results that `add_english` gives in bulk.

    The translation memory is read once for each language, when its first query comes, and never written: texts that it lacks are
    translated here, and kept in this process.
    """

    def __init__(self, translator: Translator, store: Store) -> None:
        self._translator, self._store = translator, store
        self._known: dict[str, dict[str, str]] = {}

    def of(self, language: str, query: str) -> str | None:
        """Returns the English of a normalised query; None where `has_english` is false."""
        if not has_english(self._translator, language):
            return None
        if language not in self._known:
            self._known[language] = self._remembered(language)
        known = self._known[language]
        if query not in known:
            while len(known) >= _KEPT:
                del known[next(iter(known))]
            known[query] = self._translator.translate([query], language, ENGLISH)[0].text
        return known[query]

    def _remembered(self, language: str) -> dict[str, str]:
        rows = memory_of(self._translator, self._store, language, ENGLISH).everything()
        return {} if rows is None else dict(zip(rows["text"].to_list(), rows["translation"].to_list(), strict=True))
