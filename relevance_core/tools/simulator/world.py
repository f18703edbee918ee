"""The stock of the simulated marketplace: leaf categories and items, and the items that fit a need."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from random import Random

import numpy as np
from numpy.typing import NDArray

from relevance_core.pairs import Task
from relevance_core.tools.simulator.leaves import LEAVES
from relevance_core.tools.simulator.lexicon import BRANDS, COLOURS, SIZE_UNITS
from relevance_core.tools.simulator.wording import AUDIENCE_NAMES, MATERIAL_NAMES, UNSTATED, Features, item_title


@dataclass(frozen=True)
class World:
    """The stock: `items` is (n, 6), a row a `Features`; `titles` are the items', `categories` the paths.

    `nodes` is (leaves, 3): the categories of a leaf's department, group and itself, as positions in `categories`.
    `siblings` holds, per leaf, the other leaves of its group.
    """

    items: NDArray[np.int32]
    titles: tuple[str, ...]
    categories: tuple[str, ...]
    nodes: NDArray[np.int32]
    siblings: tuple[tuple[int, ...], ...]

    def rows_of(self, leaf: int) -> slice:
        """Returns the rows of `items` that lie in a leaf."""
        per_leaf = len(self.items) // len(LEAVES)
        return slice(leaf * per_leaf, (leaf + 1) * per_leaf)

    def targets(self, task: Task) -> tuple[tuple[str, ...], list[str]]:
        """Returns the texts of a task's targets and, in the same order, their ids."""
        texts, name = (self.categories, "c{:03d}") if task == "QC" else (self.titles, "i{:05d}")
        return texts, [name.format(n) for n in range(len(texts))]


def differences(need: Features, items: NDArray[np.int32]) -> NDArray[np.int64]:
    """Counts, for each of the (n, 6) items, the features stated by `need` in which it differs: (n,), 0 for a relevant one."""
    asked = np.asarray(need, dtype=np.int32)
    differs: NDArray[np.bool_] = (asked != UNSTATED) & (items != asked)
    counted: NDArray[np.int64] = np.count_nonzero(differs, axis=1)
    return counted


def relevant(need: Features, item: Features) -> bool:
    """Tells whether the item matches the noun and every attribute that the need states; an attribute it lacks does not match."""
    return bool(differences(need, np.asarray([item], dtype=np.int32))[0] == 0)


@lru_cache(maxsize=4)
def world(seed: int, items: int) -> World:
    """Makes the categories of a marketplace and its items, as many in each leaf, `items` at most."""
    rng = Random(f"{seed} world")
    departments = list(dict.fromkeys(leaf.path[0] for leaf in LEAVES))
    brands = {department: sorted(rng.sample(range(len(BRANDS)), 8)) for department in departments}
    rows, titles = [], []
    for n, leaf in enumerate(LEAVES):
        for item, title in _items(n, brands[leaf.path[0]], items // len(LEAVES), rng):
            rows.append(item)
            titles.append(title)
    paths = sorted({",".join(leaf.path[: n + 1]) for leaf in LEAVES for n in range(3)})
    nodes = [[paths.index(",".join(leaf.path[: n + 1])) for n in range(3)] for leaf in LEAVES]
    siblings = tuple(
        tuple(m for m, other in enumerate(LEAVES) if m != n and other.path[:2] == leaf.path[:2]) for n, leaf in enumerate(LEAVES)
    )
    return World(np.array(rows, np.int32), tuple(titles), tuple(paths), np.array(nodes, np.int32), siblings)


def _items(leaf: int, brands: list[int], count: int, rng: Random) -> Iterator[tuple[Features, str]]:
    """Yields `count` items of a leaf, each with another title: products, and variants of them that differ in one feature."""
    seen_items: set[Features] = set()
    seen_titles: set[str] = set()
    base = _product(leaf, brands, rng)
    while len(seen_items) < count:
        if rng.random() < 0.2:
            base = _product(leaf, brands, rng)
        item = _variant(base, _product(leaf, brands, rng), rng)
        title = item_title(item, rng)
        if item in seen_items or title in seen_titles:
            base = _product(leaf, brands, rng)
            continue
        seen_items.add(item)
        seen_titles.add(title)
        yield item, title


def _product(leaf: int, brands: list[int], rng: Random) -> Features:
    kind = LEAVES[leaf]

    def some(values: list[int], probability: float) -> int:
        return rng.choice(values) if values and rng.random() < probability else UNSTATED

    return Features(
        leaf,
        some(brands, 0.95),
        some([COLOURS.index(name) for name in kind.colours], 0.9),
        some([MATERIAL_NAMES.index(name) for name in kind.materials], 0.8),
        some([AUDIENCE_NAMES.index(name) for name in kind.audiences], 0.75),
        some(list(kind.sizes), 0.7),
    )


def _variant(base: Features, other: Features, rng: Random) -> Features:
    """Returns `base` with one feature, where the two differ, taken from `other`, a product of the same leaf."""
    places = [n for n in range(1, len(base)) if base[n] != other[n]]
    at = rng.choice(places) if places else 0
    return _sold(Features(*(other[n] if n == at else value for n, value in enumerate(base))))


def _sold(item: Features) -> Features:
    """Returns `item` as it can be on sale: the sizes of clothes and shoes are those of adults, so children's have none."""
    for_children = item.audience != UNSTATED and AUDIENCE_NAMES[item.audience] in ("kids", "baby")
    return item._replace(size=UNSTATED) if for_children and LEAVES[item.leaf].unit in SIZE_UNITS else item
