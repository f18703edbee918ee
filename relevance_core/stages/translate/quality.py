"""The quality of translations before training on them: guards on their text, and figures by language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import polars as pl

from relevance_core.config import TranslateSettings
from relevance_core.languages import named
from relevance_core.translators import Answer, Translator, doubts

NO_FAULT: Final = frozenset(("dev side", "pair exists"))
"""Reasons to leave out a translation that may well be right."""

TOO_MANY: Final = 0.5
"""Share of a language's translations rejected above which the stage warns."""

_ANSWER: Final = ("query", "source_language", "translation", "language")
_DIGITS: Final = 4


def with_doubts(
    tried: pl.DataFrame, settings: TranslateSettings, brands: Sequence[str], translator: Translator | None
) -> pl.DataFrame:
    """Adds `doubt`, the reason of the first of `translate.guards` that a row fails, and `detail`; null for a row that passes.

    Args:
        tried: the translations.
        settings: the guards and the confidence of language identification.
        brands: names that belong to no language.
        translator: its glossary, if it has one, tells where both languages have the same word.
    """
    if not settings.guards:
        return tried.with_columns(doubt=pl.lit(None, pl.String), detail=pl.lit(None, pl.String))
    texts = tried.select(_ANSWER).unique(maintain_order=True)
    answers = [Answer(*row) for row in texts.iter_rows()]
    found = doubts(answers, settings.guards, brands, translator, settings.language_confidence)
    said = [doubt or (None, None) for doubt in found]
    columns = pl.DataFrame(said, schema={"doubt": pl.String, "detail": pl.String}, orient="row")
    return tried.join(pl.concat([texts, columns], how="horizontal"), on=_ANSWER, how="left", maintain_order="left")


def figures(rows: pl.DataFrame) -> dict[str, Any]:
    """Measures the translations of some judged rows (`reason untranslated words`).

    `rejected` counts by reason; `rejected_share` is the share of the rows, without the reasons of NO_FAULT; `untranslated_share` is
    the share of the words; both 0 to 1.
    """
    rejected = rows.drop_nulls("reason").group_by("reason").len().sort("reason")
    counts = dict(rejected.iter_rows())
    faults = sum(count for reason, count in counts.items() if reason not in NO_FAULT)
    words = int(rows["words"].sum())
    return {
        "sampled": len(rows),
        "made": len(rows) - sum(counts.values()),
        "rejected": counts,
        "rejected_share": round(faults / len(rows), _DIGITS) if len(rows) else 0.0,
        "untranslated_share": round(int(rows["untranslated"].sum()) / words, _DIGITS) if words else 0.0,
    }


def by_source(judged: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """Returns language → source language → `figures`."""
    found: dict[str, dict[str, Any]] = {}
    pairs_of = judged.select("language", "source_language").unique().sort("language", "source_language")
    for language, source in pairs_of.iter_rows():
        chosen = {"language": language, "source_language": source}
        found.setdefault(language, {})[source] = figures(judged.filter(**chosen))
    return found


def warnings(languages: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Lists the languages to look at before training, a sentence each. languages: language → `figures`."""
    return [
        f"{named(language)} ({language}): {about['rejected_share']:.0%} of {about['sampled']} translations were rejected, "
        f"more than {TOO_MANY:.0%}"
        for language, about in languages.items()
        if about["rejected_share"] > TOO_MANY
    ]
