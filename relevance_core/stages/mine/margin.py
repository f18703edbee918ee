"""The positive-aware margin: how like the query a negative may be, measured by how like it the positive is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import polars as pl

from relevance_core.config import MineSettings
from relevance_core.stages.mine.index import Vectors, similarities
from relevance_core.stages.mine.negatives import English

_QUERY: Final = ("query", "language")


class Margin:
    """NV-Retriever's rule (arXiv 2407.15831): out goes a candidate that is more like the query than its positive less a margin.

    `absolute_margin` and `relative_margin` are those of `sentence_transformers.util.mine_hard_negatives`: a candidate goes when its
    cosine to the query is above p − absolute, or above p − |p| × relative; p is that of the query's positive, of several the least.
    A query is embedded as it reads in English; one that can't be read as it is, which wants an embedder of its language.
    """

    def __init__(
        self,
        train: pl.DataFrame,
        targets: pl.DataFrame,
        vectors: Vectors,
        mine: MineSettings,
        english: English,
        embed: Callable[[pl.Series], Vectors],
    ) -> None:
        """train: labelled rows. targets: `target place`. vectors: (n, d), those of the targets by place. embed: of n texts."""
        positives = train.filter(label=1).select(*_QUERY, "target").unique().join(targets.select("target", "place"), on="target")
        asked = positives.select(_QUERY).unique().sort(_QUERY).with_row_index("asked")
        self._targets, self._queries = vectors, embed(_readings(asked, english))
        placed = positives.join(asked, on=_QUERY)
        least = (
            placed.with_columns(positive=self._likeness(placed, "place")).group_by(*_QUERY, "asked").agg(pl.col("positive").min())
        )
        p = pl.col("positive")
        limits = [p - margin for margin in (mine.absolute_margin,) if margin is not None]
        limits += [p - p.abs() * margin for margin in (mine.relative_margin,) if margin is not None]
        self._limits = least.with_columns(limit=pl.min_horizontal(limits)).select(*_QUERY, "asked", "limit")

    def broken(self, candidates: pl.DataFrame) -> pl.Series:
        """Whether each of `candidates` (`query language candidate`, the query of a positive) is too like its query."""
        placed = candidates.select(*_QUERY, "candidate").join(self._limits, on=_QUERY, how="left", maintain_order="left")
        return self._likeness(placed, "candidate") > placed["limit"]

    def _likeness(self, placed: pl.DataFrame, column: str) -> pl.Series:
        return pl.Series(similarities(self._queries, placed["asked"].to_numpy(), self._targets, placed[column].to_numpy()))


def _readings(asked: pl.DataFrame, english: English) -> pl.Series:
    """The text that stands for each of the queries (`query language`), in their order."""
    languages = asked["language"].unique().sort()
    read = [
        english.read(asked.filter(language=language)["query"], language).select(
            query="text", language=pl.lit(language), text=pl.coalesce("english", "text")
        )
        for language in languages
    ]
    return asked.join(pl.concat(read), on=_QUERY, how="left", maintain_order="left")["text"]
