"""Items and queries of a shop that is larger than the simulated one: every brand, every leaf, any combination of attributes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from random import Random

import polars as pl

from relevance_core.tools.simulator.leaves import LEAVES
from relevance_core.tools.simulator.lexicon import BRANDS, COLOURS
from relevance_core.tools.simulator.wording import AUDIENCE_NAMES, MATERIAL_NAMES, UNSTATED, Features, item_title, query_text

LANGUAGES = ("en", "es", "fr", "pt")


@cache
def items(count: int) -> list[tuple[Features, str]]:
    """`count` items, each with a title of its own; the first are the same whatever the count."""
    found = {title: item for item, title in _some(count)}
    return [(item, title) for title, item in found.items()]


def _some(count: int) -> Iterator[tuple[Features, str]]:
    rng, seen = Random("assortment"), set[str]()  # noqa: S311 - a function of its seed
    while len(seen) < count:
        item = _item(rng)
        title = item_title(item, rng)
        if title not in seen:
            seen.add(title)
            yield item, title


def _item(rng: Random) -> Features:
    leaf = rng.randrange(len(LEAVES))
    kind = LEAVES[leaf]

    def some(values: list[int]) -> int:
        return rng.choice(values) if values and rng.random() < 0.8 else UNSTATED

    return Features(
        leaf,
        some(list(range(len(BRANDS)))),
        some([COLOURS.index(name) for name in kind.colours]),
        some([MATERIAL_NAMES.index(name) for name in kind.materials]),
        some([AUDIENCE_NAMES.index(name) for name in kind.audiences]),
        some(list(kind.sizes)),
    )


def positives(count: int, among: int) -> pl.DataFrame:
    """`count` rows (language, query, target): a query that states some of the attributes of one of the first `among` items."""
    rng, shop = Random(f"positives of {among}"), items(among)  # noqa: S311 - likewise
    rows = []
    for _ in range(count):
        item, title = rng.choice(shop)
        need = Features(item.leaf, *(value if rng.random() < 0.5 else UNSTATED for value in item[1:]))
        language = rng.choice(LANGUAGES)
        rows.append((language, query_text(need, language, rng), title))
    return pl.DataFrame(rows, schema=["language", "query", "target"], orient="row").unique(maintain_order=True)
