"""Guards against false negatives: the rules that leave out a candidate that may be relevant to the query."""

from __future__ import annotations

import re
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from relevance_core.config import MineSettings
from relevance_core.pairs import Task
from relevance_core.store import Store
from relevance_core.translators import Translator, tokens, translate_and_remember

_KEYS: Final = ("group", "meaning", "own")
_FUNCTION_WORDS: Final = frozenset(("an", "and", "by", "for", "from", "in", "of", "on", "or", "the", "to", "with"))
_PLURAL: Final = re.compile(r"(?<=[a-z]{2}[^s\W])s$|(?<=sh|ch|ss)es$|(?<=[xz])es$")


class English:
    """Reads texts in English and splits them into words; a translator puts each term under its preferred name."""

    def __init__(self, translator: Translator | None, store: Store) -> None:
        self._translator, self._store = translator, store

    def words(self, texts: pl.Series, language: str) -> pl.DataFrame:
        """Returns (text, language, words): the sorted distinct words of each distinct text, none in an unreadable language."""
        known = self.read(texts, language)
        words = [[] if english is None else content_words(english) for english in known["english"]]
        return known.select("text", pl.lit(language).alias("language")).with_columns(
            pl.Series("words", words, dtype=pl.List(pl.String))
        )

    def read(self, texts: pl.Series, language: str) -> pl.DataFrame:
        """Returns (text, english) of each distinct text; `english` is null in a language that can't be read."""
        texts = texts.unique().sort()
        if self._translator is not None and self._translator.can(language, "en"):
            known, _ = translate_and_remember(self._translator, self._store, texts, language, "en")
            return known.select("text", english="translation")
        return pl.DataFrame(
            {"text": texts, "english": texts if language == "en" else None}, schema_overrides={"english": pl.String}
        )


def content_words(english: str) -> list[str]:
    """Returns the sorted distinct content words of an English text: no function words, no plural endings."""
    words = (word for word, _, _ in tokens(english, "en"))
    return sorted({_PLURAL.sub("", word) for word in words if word not in _FUNCTION_WORDS and (len(word) > 1 or word.isdigit())})


class Guards:
    """The rules that leave a candidate out, with the labels and words that they need of all queries and targets.

    `targets` has the columns `target` and `place`, numbered from 0 in order.
    """

    def __init__(
        self,
        train: pl.DataFrame,
        targets: pl.DataFrame,
        mine: MineSettings,
        task: Task,
        english: English,
    ) -> None:
        self._duplicate, self._task = mine.duplicate_similarity, task
        self._queries = _query_words(train, english)
        titles = targets.join(english.words(targets["target"], "en"), left_on="target", right_on="text", how="left").sort("place")
        self._holds = titles.select("place", word="words").explode("word").drop_nulls("word")
        said = titles.select(pl.when(pl.col("words").list.len() > 0).then(pl.col("words").list.join(" ")))["words"]
        self._same = said.rank("dense")  # the same number for the same words, null for none
        known = _known(train.join(self._queries, on=["query", "language"], how="left"), targets)
        positives = known.filter(label=1).select("key", "place")
        self._labelled = known.select("key", "place").unique()
        self._relatives = (_relatives(positives, targets) if task == "QC" else positives.clear()).unique()
        self._twins = positives.select("key", place=self._same.gather(positives["place"])).drop_nulls().unique()

    def judge(self, candidates: pl.DataFrame) -> pl.Series:
        """Returns for each of `candidates` the first rule that leaves it out, null for a usable one."""
        judged = candidates.join(self._queries, on=["query", "language"], how="left", maintain_order="left")
        judged = judged.with_columns(own=_OWN, same=self._same.gather(candidates["candidate"])).with_row_index("row")
        held, asked = _overlap(judged, self._holds, "candidate"), _overlap(judged, self._holds, "positive")
        reason = (
            pl.when(_forbidden(judged, self._labelled, "candidate"))
            .then(pl.lit("labelled"))
            .when(_forbidden(judged, self._relatives, "candidate"))
            .then(pl.lit("related category"))
            .when(_forbidden(judged, self._twins, "same"))
            .then(pl.lit("near duplicate"))
            .when(pl.col("similarity") >= self._duplicate)
            .then(pl.lit("near duplicate"))
            .when(pl.Series(held > asked if self._task == "QC" else (held >= asked) & (asked > 0)))
            .then(pl.lit("as good a match"))
            .when(pl.Series(np.zeros_like(asked, dtype=bool) if self._task == "QC" else asked == 0))
            .then(pl.lit("no evidence"))
        )
        return judged.select(reason.alias("reason"))["reason"]


_OWN = pl.concat_str(pl.lit("text "), "language", pl.lit(" "), "query")


def _query_words(train: pl.DataFrame, english: English) -> pl.DataFrame:
    """Returns (query, language, words, meaning) of the distinct queries; `meaning` is null for a query without a readable word."""
    by_language = train.sort("language").group_by("language", maintain_order=True)
    read = pl.concat([english.words(rows["query"], str(language)) for (language,), rows in by_language]).rename({"text": "query"})
    return read.with_columns(
        meaning=pl.when(pl.col("words").list.len() > 0).then(pl.lit("means ") + pl.col("words").list.join(" "))
    )


def _known(rows: pl.DataFrame, targets: pl.DataFrame) -> pl.DataFrame:
    """Returns (key, place, label): every labelled target of a query, under its group, its meaning and its own text."""
    placed = rows.join(targets.select("target", "place"), on="target").with_columns(own=_OWN)
    keys = [placed.select("place", "label", key=pl.col(key)) for key in _KEYS]
    return pl.concat(keys).drop_nulls("key").unique(maintain_order=True)


def _forbidden(judged: pl.DataFrame, pairs_of_keys: pl.DataFrame, column: str) -> pl.Series:
    """Tells for each row whether (key, `column`) is among the distinct (key, place), under any of the query's keys."""
    marked = pairs_of_keys.with_columns(hit=pl.lit(True))
    hit = pl.repeat(False, len(judged), dtype=pl.Boolean, eager=True)
    for key in _KEYS:
        joined = judged.join(marked, left_on=[key, column], right_on=["key", "place"], how="left", maintain_order="left")
        hit |= joined["hit"].fill_null(False)
    return hit


def _relatives(positives: pl.DataFrame, targets: pl.DataFrame) -> pl.DataFrame:
    """Returns (key, place): the ancestors of every positive category of a query, and the descendants of its most specific ones.

    Most specific: without another positive of the query below them. Levels are joined by commas. A query with the positives `home`
    and `home,kitchen,knives` asks for knives, so that other categories of `home` may be negatives.
    """
    places = dict(targets.select("target", "place").iter_rows())
    above: list[tuple[int, int]] = []
    for path, place in places.items():
        levels = path.split(",")
        above += [(place, places[upper]) for n in range(1, len(levels)) if (upper := ",".join(levels[:n])) in places]
    ancestors = pl.DataFrame(above, schema={"below": pl.Int64, "above": pl.Int64}, orient="row")
    upwards = positives.join(ancestors, left_on="place", right_on="below").select("key", place="above")
    lowest = positives.join(upwards, on=["key", "place"], how="anti")
    return pl.concat([upwards, lowest.join(ancestors, left_on="place", right_on="above").select("key", place="below")])


def _overlap(judged: pl.DataFrame, holds: pl.DataFrame, place: str) -> NDArray[np.int64]:
    """Counts (n,) the query's words that the target at `place` holds.

    Args:
        judged: the candidates, with `row` and the query's `words`.
        holds: (place, word) of every target.
        place: the column of `judged` with the target's place.
    """
    asked = judged.select("row", pl.col(place).alias("place"), word="words").explode("word").drop_nulls("word")
    counts = asked.join(holds, on=["place", "word"]).group_by("row").len()
    found = np.zeros(len(judged), dtype=np.int64)
    found[counts["row"].to_numpy()] = counts["len"].to_numpy()
    return found
