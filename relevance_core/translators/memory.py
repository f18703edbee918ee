"""The translation memory: each translator translates a text once, and its answers are stored as they come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from relevance_core.errors import ServingError
from relevance_core.store import Store
from relevance_core.store.memory import Memory
from relevance_core.translators.chain import Chain
from relevance_core.translators.protocol import Translated, Translator

_SCHEMA: Final = {"text": pl.String, "translation": pl.String, "untranslated": pl.Int32, "words": pl.Int32}


def translate_and_remember(
    translator: Translator, store: Store, texts: pl.Series, source: str, target: str
) -> tuple[pl.DataFrame, int]:
    """Translates the distinct `texts`, reading known answers from the translation memory and storing new ones there.

    The memory is `memory/<translator>-<version>/<source>-<target>` of the store: a text is translated once per version, ever.
    Answers are stored after every `batch` of the translator, so that an interrupted call resumes there. A chain's translators have
    memories of their own besides, which stay valid when the others change.

    Args:
        translator: translates texts that the memory lacks.
        store: holds the memory.
        texts: may contain duplicates.
        source: language of the texts.
        target: language of the translations.

    Returns:
        The translations (text, translation, untranslated, words), sorted by text; and how many of them the memory held.

    Raises:
        ServingError: a translator's server is gone; tells how many texts are stored.
    """
    wanted, memory = _distinct(texts), memory_of(translator, store, source, target)
    known = memory.recall(wanted)
    missing = wanted if known is None else wanted.filter(~wanted.is_in(known["text"].implode()))
    together = [] if known is None else [known.select(list(_SCHEMA))]
    for start in range(0, len(missing), translator.batch):
        asked = missing.slice(start, translator.batch)
        try:
            answers = _answers(translator, store, asked.to_list(), source, target)
        except _BrokenOff:
            raise
        except ServingError as error:
            raise _broken_off(error, len(wanted) - len(missing) + start, len(wanted)) from error
        made = pl.DataFrame([(text, *answer) for text, answer in zip(asked, answers, strict=True)], schema=_SCHEMA, orient="row")
        memory.learn(made)
        together.append(made)
    return pl.concat([pl.DataFrame(schema=_SCHEMA), *together]).sort("text"), len(wanted) - len(missing)


class _BrokenOff(ServingError):
    """A translation that a server interrupted; carries the number of stored texts."""


def _broken_off(error: ServingError, known: int, wanted: int) -> _BrokenOff:
    return _BrokenOff(
        f"{error.what}; {known} of the {wanted} texts are in the translation memory",
        where=error.where,
        expected=error.expected,
        do=f"{error.do or 'see the server'}; run again: it goes on from what is there",
    )


def _answers(translator: Translator, store: Store, texts: list[str], source: str, target: str) -> list[Translated]:
    if not isinstance(translator, Chain):
        return translator.translate(texts, source, target)

    def ask(part: Translator, asked: Sequence[str]) -> list[Translated]:
        found, _ = translate_and_remember(part, store, pl.Series("text", asked, dtype=pl.String), source, target)
        known = {text: Translated(*answer) for text, *answer in found.iter_rows()}
        return [known[text] for text in asked]

    return translator.in_turn(texts, source, target, ask)


def count_remembered(translator: Translator, store: Store, texts: pl.Series, source: str, target: str) -> tuple[int, int]:
    """Returns the number of distinct texts, and how many of them the memory holds. Translates nothing.

    The further memories of a chain's translators are not counted.
    """
    wanted = _distinct(texts)
    known = memory_of(translator, store, source, target).recall(wanted)
    return len(wanted), 0 if known is None else len(known)


def _distinct(texts: pl.Series) -> pl.Series:
    return texts.drop_nulls().unique().sort().alias("text")


def memory_of(translator: Translator, store: Store, source: str, target: str) -> Memory:
    """The memory of a translator for a pair of languages, `memory/<translator>-<version>/<source>-<target>` of the store."""
    return Memory(store, f"{memory_folder(translator.name, translator.version)}/{source}-{target}", "text")


def memory_folder(name: str, version: str) -> str:
    """Returns the folder of a translator's memories in the store, for every pair of languages: `memory/<name>-<version>`."""
    return f"memory/{name}-{version}"
