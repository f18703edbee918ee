"""How good translations are, before anything is trained on them: guards on their text, the way back, and figures by language."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import polars as pl

from relevance_core import pairs
from relevance_core.config import Settings, TranslateSettings
from relevance_core.languages import named
from relevance_core.store import Store
from relevance_core.translators import Answer, Translator, doubts, remembered

ROUND_TRIP: Final = "round trip"
NO_FAULT: Final = frozenset(("dev side", "pair exists"))
"""Reasons that say nothing against a translation: it may be right, and is not used all the same."""

TRIP: Final = {
    "language": pl.String,
    "source_language": pl.String,
    "query": pl.String,
    "translation": pl.String,
    "back": pl.String,
    "similarity": pl.Float64,
}
"""A text, its translation, what that is when it is translated back, and the cosine of the first and the last."""

_ANSWER: Final = ("query", "source_language", "translation", "language")
_TEXT: Final = ("language", "source_language", "query")
_DIGITS: Final = 4


def with_doubts(
    tried: pl.DataFrame, settings: TranslateSettings, brands: Sequence[str], translator: Translator | None
) -> pl.DataFrame:
    """`tried` with `doubt`, the reason of the first of `translate.guards` that a row does not pass, and `detail`; null for none."""
    if not settings.guards:
        return tried.with_columns(doubt=pl.lit(None, pl.String), detail=pl.lit(None, pl.String))
    texts = tried.select(_ANSWER).unique(maintain_order=True)
    answers = [Answer(*row) for row in texts.iter_rows()]
    found = doubts(answers, settings.guards, brands, translator, settings.language_confidence)
    said = [doubt or (None, None) for doubt in found]
    columns = pl.DataFrame(said, schema={"doubt": pl.String, "detail": pl.String}, orient="row")
    return tried.join(pl.concat([texts, columns], how="horizontal"), on=_ANSWER, how="left", maintain_order="left")


def round_trip(
    settings: Settings, judged: pl.DataFrame, translator: Translator | None, store: Store, say: Callable[[str], None]
) -> pl.DataFrame:
    """TRIP of a sample: of each pair of languages `translate.round_trip` of the texts whose translation no guard has rejected.

    judged: `query source_language translation language reason`. Which texts it is depends on the texts alone, so that the next
    night's are mostly the same ones. Left out are languages from which the translator can't go back, and translations that it
    leaves as they are on the way back: that says nothing of the way there. Raises ModelError for an embedder that is not here.
    """
    if not settings.translate.round_trip or translator is None:
        return pl.DataFrame(schema=TRIP)
    texts = judged.filter(pl.col("reason").is_null()).select(*_TEXT, "translation").unique(_TEXT)
    texts = texts.with_columns(order=pairs.digests("round trip", *(texts[name] for name in _TEXT))).sort("order")
    pieces = [pl.DataFrame(schema=TRIP).drop("similarity")]
    for (language, source), rows in texts.group_by("language", "source_language", maintain_order=True):
        if translator.can(str(language), str(source)):
            pieces.append(_sent_back(rows.head(settings.translate.round_trip), translator, store))
        else:
            say(f"translate: no round trip from {language} to {source}, which {translator.name} can't translate")
    trips = pl.concat(pieces).sort("language", "source_language", "query")
    return trips.with_columns(similarity=_cosines(settings, trips, store, say))


def _sent_back(rows: pl.DataFrame, translator: Translator, store: Store) -> pl.DataFrame:
    """TRIP without the similarity of rows (`language source_language query translation`) of one pair of languages."""
    known, _ = remembered(translator, store, rows["translation"], rows["language"][0], rows["source_language"][0])
    said = known.filter((pl.col("words") == 0) | (pl.col("untranslated") < pl.col("words")))
    back = said.select(pl.col("text").alias("translation"), pl.col("translation").alias("back"))
    return rows.join(back, on="translation", maintain_order="left").select(list(TRIP)[:-1])


def _cosines(settings: Settings, trips: pl.DataFrame, store: Store, say: Callable[[str], None]) -> pl.Series:
    """The cosine of `query` and `back` of each row."""
    from relevance_core.models.embedder import embed, open_embedder

    if trips.is_empty():
        return pl.Series("similarity", [], dtype=pl.Float64)
    texts = pl.concat([trips["query"].alias("text"), trips["back"].alias("text")])
    vectors = embed(texts, open_embedder(settings.mine.embedder, settings.engine), store, say)
    cosines = np.einsum("nd,nd->n", vectors[: len(trips)], vectors[len(trips) :]).astype(np.float64)
    return pl.Series("similarity", cosines, dtype=pl.Float64).round(_DIGITS)


def with_trips(judged: pl.DataFrame, trips: pl.DataFrame, smallest: float) -> pl.DataFrame:
    """`judged` with `similarity`, null where nothing went back, and the reason `round trip` where it is below `smallest`."""
    joined = judged.join(trips.select(*_TEXT, "similarity"), on=_TEXT, how="left", maintain_order="left")
    unlike = pl.col("reason").is_null() & (pl.col("similarity") < smallest)
    return joined.with_columns(reason=pl.when(unlike).then(pl.lit(ROUND_TRIP)).otherwise("reason"))


def figures(rows: pl.DataFrame, trips: pl.DataFrame) -> dict[str, Any]:
    """How good the translations of some judged rows (`reason untranslated words`) and their way back are.

    `rejected` by reason; `rejected_share` of the rows, without the reasons of NO_FAULT; `untranslated_share` of the words, all of
    them 0 to 1; `round_trip`: how many `texts` went back and the mean cosine, None where none did.
    """
    rejected = rows.drop_nulls("reason").group_by("reason").len().sort("reason")
    counts = dict(rejected.iter_rows())
    faults = sum(count for reason, count in counts.items() if reason not in NO_FAULT)
    words = int(rows["words"].sum())
    mean = trips["similarity"].mean()
    return {
        "sampled": len(rows),
        "made": len(rows) - sum(counts.values()),
        "rejected": counts,
        "rejected_share": round(faults / len(rows), _DIGITS) if len(rows) else 0.0,
        "untranslated_share": round(int(rows["untranslated"].sum()) / words, _DIGITS) if words else 0.0,
        "round_trip": {"texts": len(trips), "similarity": round(float(mean), _DIGITS)} if isinstance(mean, float) else None,
    }


def by_source(judged: pl.DataFrame, trips: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """Language → source language → `figures`."""
    found: dict[str, dict[str, Any]] = {}
    pairs_of = judged.select("language", "source_language").unique().sort("language", "source_language")
    for language, source in pairs_of.iter_rows():
        chosen = {"language": language, "source_language": source}
        found.setdefault(language, {})[source] = figures(judged.filter(**chosen), trips.filter(**chosen))
    return found


def warnings(languages: Mapping[str, Mapping[str, Any]], settings: TranslateSettings) -> list[str]:
    """What to look at before anything is trained, a sentence each. languages: language → `figures`."""
    found = []
    for language, about in languages.items():
        name, trip = f"{named(language)} ({language})", about["round_trip"]
        if about["rejected_share"] > settings.warn_rejected:
            found.append(
                f"{name}: {about['rejected_share']:.0%} of {about['sampled']} translations were rejected, more than "
                f"{settings.warn_rejected:.0%} (translate.warn_rejected)"
            )
        if trip and trip["similarity"] < settings.warn_similarity:
            found.append(
                f"{name}: the mean cosine of {trip['texts']} texts with their translation back is {trip['similarity']:.2f}, less "
                f"than {settings.warn_similarity:.2f} (translate.warn_similarity)"
            )
    return found
