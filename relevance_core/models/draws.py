"""Which of the usable candidates become negatives: a draw without replacement that is the same on every machine."""

from __future__ import annotations

import polars as pl

from relevance_core import pairs


def sample(usable: pl.DataFrame, train: pl.DataFrame, ratio: float) -> pl.DataFrame:
    """The rows of `usable` that become negatives: in each language `ratio` times its positives, as far as there are.

    A first one is drawn for each positive before any second one. A draw is without replacement and proportional to 1 / rank², by
    the keys -ln(u) × rank² of Efraimidis and Spirakis (2006), smallest first; u in (0, 1] is a hash of positive and candidate.
    """
    once = usable.unique(["query", "language", "candidate"], keep="first", maintain_order=True)
    u = pairs.shares_of(once.select(pl.concat_str("origin_id", "target", separator=" ")).to_series(), "mine")
    drawn = once.with_columns(order=-(1 - u).log() * pl.col("rank") ** 2)
    drawn = drawn.sort("order", "origin_id", "rank").with_columns(turn=pl.int_range(pl.len()).over("origin_id"))
    share = (pl.col("len") * ratio).floor().cast(pl.Int64)
    quota = train.filter(label=1).group_by("language").len().select("language", quota=share)
    placed = drawn.sort("turn", "order", "origin_id", "rank").join(quota, on="language", how="left", maintain_order="left")
    placed = placed.with_columns(nth=pl.int_range(pl.len()).over("language"))
    return placed.filter(pl.col("nth") < pl.col("quota")).select(usable.columns)
