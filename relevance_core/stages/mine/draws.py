"""The draw of negatives from the usable candidates: without replacement, and the same on every machine."""

from __future__ import annotations

from typing import Final

import polars as pl

from relevance_core import pairs
from relevance_core.config import MineSettings, NegativeKind
from relevance_core.stages.mine.index import Vectors, similarities

_KINDS: Final[tuple[NegativeKind, ...]] = ("random", "easy", "hard")
"""The order in which the kinds are drawn: hard negatives, drawn last, fill what the others lack."""
_ONCE: Final = ("query", "language", "candidate")


def sample(usable: pl.DataFrame, train: pl.DataFrame, mine: MineSettings, seed: int = 0) -> pl.DataFrame:
    """Draws from `usable` in each language `mine.ratio` times its positives, as far as there are hard candidates.

    Of that number each kind gets its share of `mine.mix`; hard candidates fill what the other kinds lack, so that the mix does not
    change the number. No (query, language, candidate) is drawn twice, and every positive gets its first negative before any gets a
    second. Hard candidates are drawn in proportion to 1 / rank², easy and random ones evenly, by the keys -ln(u) / weight of
    Efraimidis and Spirakis (2006), smallest first; u in (0, 1] is a hash of positive and candidate, for random ones also of the
    seed.

    Args:
        usable: the candidates that the guards let through.
        train: the training rows, for the number of positives.
        mine: ratio and mix.
        seed: of random negatives.
    """
    rows = usable.with_columns(kind=kind_of(mine.top_k))
    pools = {kind: _in_order(rows.filter(kind=kind), "mine" if kind != "random" else f"random {seed}") for kind in _KINDS}
    wanted = quotas(train, pools["hard"], mine)
    chosen = [usable.clear()]
    for kind, pool in pools.items():
        seen = pl.concat([frame.select(_ONCE) for frame in chosen])
        already = _by_language(pl.concat(chosen)) if kind == "hard" else {}
        missing = {language: max(0, number - already.get(language, 0)) for language, number in wanted[kind].items()}
        left = pool.join(seen, on=_ONCE, how="anti", maintain_order="left")
        first = pl.int_range(pl.len()).over("language") < pl.col("language").replace_strict(missing, default=0)
        chosen.append(left.filter(first).select(usable.columns))
    return pl.concat(chosen)


def at_random(positives: pl.DataFrame, vectors: Vectors, each: int, seed: int) -> pl.DataFrame:
    """Draws up to `each` candidates of every positive evenly from all targets: `positives` with `candidate similarity rank`.

    A draw is a hash of the positive's id, the draw's number and the seed; a draw that hits the positive itself, or the same target
    again, is discarded. `rank` is null.

    Args:
        positives: `origin_id` and `positive`, the place of its target.
        vectors: (n, d) unit vectors of the targets by place.
        each: draws for a positive.
        seed: of the draws.
    """
    drawn = positives.with_columns(number=pl.lit(list(range(each)))).explode("number")
    names = drawn.select(pl.concat_str("origin_id", "number", separator=" ")).to_series()
    place = (pairs.shares_of(names, f"candidate {seed}") * len(vectors)).floor().cast(pl.Int64).clip(0, len(vectors) - 1)
    drawn = drawn.with_columns(candidate=place).filter(pl.col("candidate") != pl.col("positive")).drop("number")
    drawn = drawn.unique(["origin_id", "candidate"], keep="first", maintain_order=True)
    similarity = similarities(vectors, drawn["positive"].to_numpy(), vectors, drawn["candidate"].to_numpy())
    return drawn.with_columns(similarity=similarity, rank=pl.lit(None, pl.Int32))


def kind_of(top_k: int) -> pl.Expr:
    """Returns the kind of a candidate by its `rank`: null is random, up to `top_k` hard, beyond easy."""
    kind = pl.when(pl.col("rank").is_null()).then(pl.lit("random")).when(pl.col("rank") <= top_k).then(pl.lit("hard"))
    return kind.otherwise(pl.lit("easy"))


def quotas(train: pl.DataFrame, hard: pl.DataFrame, mine: MineSettings) -> dict[NegativeKind, dict[str, int]]:
    """Returns the number of negatives of each kind by language; the key "hard" holds the sum of all kinds.

    Args:
        train: the training rows.
        hard: the distinct usable hard candidates.
        mine: ratio and mix. Shares are rounded together: a mix of 0.5 random and 0.3 easy makes 3 random and 1 easy of 5.
    """
    found: dict[NegativeKind, dict[str, int]] = {kind: {} for kind in _KINDS}
    usable = _by_language(hard)
    for language, positives in _by_language(train.filter(label=1)).items():
        total = min(int(positives * mine.ratio), usable.get(language, 0))
        random = int(total * mine.mix.get("random", 0) + 0.5)
        easy = int(total * (mine.mix.get("random", 0) + mine.mix.get("easy", 0)) + 0.5) - random
        found["random"][language], found["easy"][language], found["hard"][language] = random, easy, total
    return found


def _in_order(pool: pl.DataFrame, salt: str) -> pl.DataFrame:
    """Returns the distinct candidates of one kind in the order in which they are drawn."""
    once = pool.unique(_ONCE, keep="first", maintain_order=True)
    u = pairs.shares_of(once.select(pl.concat_str("origin_id", "target", separator=" ")).to_series(), salt)
    far = pl.when(pl.col("kind") == "hard").then(pl.col("rank") ** 2).otherwise(1)
    drawn = once.with_columns(order=-(1 - u).log() * far)
    drawn = drawn.sort("order", "origin_id", "rank").with_columns(turn=pl.int_range(pl.len()).over("origin_id"))
    return drawn.sort("turn", "order", "origin_id", "rank")


def _by_language(rows: pl.DataFrame) -> dict[str, int]:
    return dict(rows.group_by("language").len().iter_rows())
