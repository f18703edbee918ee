"""A marketplace that makes labelled logs, click logs and a catalogue, day by day.

How it works. A world of leaf categories and items follows from the seed. Every day a cohort of people comes with
needs; each types a query, and its judged targets spread over that day and the two after, so that a query comes back
with other targets. A QC target is relevant if it is the leaf of the query's noun or an ancestor of it; a QI target if
the item matches the noun and every attribute that the query states. The query's side (`pairs.side_of`) decides the
rest: train rows have random negatives and flipped labels, dev rows have hard negatives and the truth.
Clicks come from train-side queries of every language, market languages rarely, some of them by accident.

What it does not do. There are no late rows, no seasons and no ranking: `spoil` makes the pathological days.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Final, Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from relevance_core.errors import SettingsError
from relevance_core.pairs import TASKS, Task, query_group, side_of
from relevance_core.tools.simulator.glossary import terms as glossary
from relevance_core.tools.simulator.leaves import LEAVES
from relevance_core.tools.simulator.lexicon import BRANDS, LANGUAGES
from relevance_core.tools.simulator.wording import UNSTATED, Features, query_text, typo
from relevance_core.tools.simulator.world import World, differences, world

Spoil = Literal["shuffled-labels", "missing-column", "empty", "nulls", "all-positive"]

_LIFE_DAYS = 3  # a cohort's pairs spread over this many days
_NEGATIVES_PER_POSITIVE = 0.54  # 65 % of the true labels are 1
_STATED_WEIGHTS: Final[dict[Task, tuple[float, ...]]] = {"QC": (0.25, 0.4, 0.35), "QI": (0.12, 0.38, 0.35, 0.15)}
_POSITIVES_WEIGHTS = (0.3, 0.4, 0.3)  # of one, two and three positives
_LEVEL_WEIGHTS = (0.1, 0.2, 0.7)  # department, group, leaf: of a hard negative and of a click
_CLICK_NOISE = 0.1
_CLICKS_PER_QUERY = 4  # of a day's clicks over the queries of a task that people click on

_BOUNDS: Final = {
    "seed": (0, 2**32),
    "pairs_per_day": (100, 10**7),
    "clicks_per_day": (100, 10**8),
    "items": (10 * len(LEAVES), 100 * len(LEAVES)),  # the smallest leaf has 144 combinations of features
    "dev_share": (0.01, 0.99),
    "noise": (0, 0.5),
    "typos": (0, 1),
    "market_share": (0, 0.15),
    "market_clicks": (0, 0.15),
}

LOG_SCHEMA: Final = {
    "task": pl.String, "language": pl.String, "query": pl.String, "target": pl.String, "target_id": pl.String,
    "label": pl.Int8, "event_time": pl.Datetime("us", "UTC"),
}  # fmt: skip
CLICK_SCHEMA: Final = {
    "task": pl.String, "language": pl.String, "query": pl.String, "target": pl.String, "target_id": pl.String,
    "clicks": pl.Int32, "event_time": pl.Datetime("us", "UTC"),
}  # fmt: skip


@dataclass(frozen=True)
class Market:
    """The settings of a marketplace; the same settings make the same days.

    seed              of everything
    pairs_per_day     labelled rows a day, both tasks together
    clicks_per_day    clicks a day, both tasks together, before the clicks on one (query, target) are counted up
    items             items in the catalogue, rounded down to a multiple of the leaves
    dev_share         share of queries on the dev side, as in `pairs.side_of`
    noise             share of the train labels that are flipped
    typos             share of queries with a typing error
    languages         the languages with training rows and their shares of those rows and of the clicks
    market_languages  the languages with dev rows only
    market_share      share of each market language in the labelled rows
    market_clicks     share of each market language in the clicks
    """

    seed: int = 17
    pairs_per_day: int = 3200
    clicks_per_day: int = 45_000
    items: int = 3000
    dev_share: float = 0.2
    noise: float = 0.09
    typos: float = 0.04
    languages: tuple[tuple[str, float], ...] = (("en", 0.45), ("es", 0.25), ("fr", 0.18), ("pt", 0.12))
    market_languages: tuple[str, ...] = ("de", "it")
    market_share: float = 0.03
    market_clicks: float = 0.02

    def __post_init__(self) -> None:
        for name, (low, high) in _BOUNDS.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise SettingsError(f"{name} is {value}", where="Market", expected=f"{low} to {high}", do=f"set {name} inside it")
        named = [language for language, _ in self.languages] + list(self.market_languages)
        if not self.languages or len(set(named)) != len(named) or not set(named) <= set(LANGUAGES):
            raise SettingsError(
                f"languages are {named}", where="Market", expected=f"each once, of {LANGUAGES}", do="name each language once"
            )
        shares = [share for _, share in self.languages]
        if min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
            raise SettingsError(
                f"the shares of the languages are {shares}", where="Market", expected="positive, 1 in all", do="scale them"
            )

    def shares(self, market_share: float) -> dict[str, float]:
        """Returns language → share: `market_share` for each market language, the rest split among the others."""
        rest = 1 - market_share * len(self.market_languages)
        return {lang: share * rest for lang, share in self.languages} | dict.fromkeys(self.market_languages, market_share)

    @property
    def world(self) -> World:
        """The categories and items for sale, made once for a market's seed and number of items."""
        return world(self.seed, self.items)


class Day(NamedTuple):
    """One day: `logs` (labelled), `clicks` (not), and `truth`, the labels of `logs` before any was flipped."""

    logs: pl.DataFrame
    clicks: pl.DataFrame
    truth: pl.DataFrame


def catalogue(market: Market) -> pl.DataFrame:
    """Returns every target of both tasks: `task, target_id, target`, inner categories too."""
    frames = []
    for task in TASKS:
        texts, ids = market.world.targets(task)
        frames.append(pl.DataFrame({"task": [task] * len(ids), "target_id": ids, "target": texts}))
    return pl.concat(frames)


def terms() -> pl.DataFrame:
    """Returns the glossary: `term_id, language, name`, the preferred name of a term in a language first."""
    return pl.DataFrame(glossary(), schema=["term_id", "language", "name"], orient="row")


class _Query(NamedTuple):
    text: str
    need: Features
    side: str


def _ask(market: Market, task: Task, language: str, side: str, rng: Random) -> _Query:
    """Draws a query of that language on that side ('' for either); a typing error never changes the side of the query meant."""
    shop = market.world
    while True:
        item = Features(*(int(v) for v in shop.items[rng.randrange(len(shop.items))]))
        present = [n for n in range(1, len(item)) if item[n] != UNSTATED]
        weights = _STATED_WEIGHTS[task]
        stated = rng.sample(present, min(len(present), rng.choices(range(len(weights)), weights)[0]))
        need = Features(item.leaf, *(item[n] if n in stated else UNSTATED for n in range(1, len(item))))
        clean = query_text(need, language, rng)
        text = typo(clean, rng) if rng.random() < market.typos else clean
        its_side = side_of(query_group(text), market.dev_share)
        if side in ("", its_side) and (text == clean or side_of(query_group(clean), market.dev_share) == its_side):
            return _Query(text, need, its_side)


def _judge_categories(shop: World, query: _Query, negatives: int, positives: int, rng: Random) -> list[tuple[int, int]]:
    """Draws (category, true label) of so many irrelevant and relevant categories: the leaf first, then its ancestors.

    Args:
        shop: the world.
        query: to judge for.
        negatives: number of irrelevant categories.
        positives: number of relevant categories.
        rng: of the draw.
    """
    path = shop.nodes[query.need.leaf]
    ancestors = [int(path[1]), int(path[0])] if rng.random() < 0.7 else [int(path[0]), int(path[1])]
    relevant_ones = [int(path[2]), *ancestors][:positives]
    own = {int(node) for node in path}
    wrong: set[int] = set()
    while len(wrong) < negatives:
        node = _sibling_node(shop, query.need.leaf, rng) if query.side == "dev" else rng.randrange(len(shop.categories))
        if node not in own:
            wrong.add(node)
    return [(node, 1) for node in relevant_ones] + [(node, 0) for node in sorted(wrong)]


def _sibling_node(shop: World, leaf: int, rng: Random) -> int:
    """Draws a category beside one on the leaf's own path: a sibling leaf, a sibling group or another department."""
    level = rng.choices((0, 1, 2), _LEVEL_WEIGHTS)[0]
    parent = shop.nodes[leaf][level - 1] if level else None
    beside = sorted({int(nodes[level]) for nodes in shop.nodes if parent is None or nodes[level - 1] == parent})
    return rng.choice([node for node in beside if node != shop.nodes[leaf][level]])


def _judge_items(shop: World, query: _Query, negatives: int, positives: int, rng: Random) -> list[tuple[int, int]]:
    """Draws (item, true label) of up to so many irrelevant and relevant items.

    Args:
        shop: the world.
        query: to judge for.
        negatives: number of irrelevant items at most.
        positives: number of relevant items at most.
        rng: of the draw.
    """
    matching = _matching(shop, query.need)
    pairs = [(row, 1) for row in rng.sample(matching, min(positives, len(matching)))]
    wrong = _near_misses(shop, query.need) if query.side == "dev" else range(len(shop.items))
    forbidden = set(matching)
    candidates = rng.sample(wrong, min(len(wrong), negatives + len(forbidden)))
    return pairs + [(row, 0) for row in candidates if row not in forbidden][:negatives]


def _matching(shop: World, need: Features) -> list[int]:
    rows = shop.rows_of(need.leaf)
    return [rows.start + int(row) for row in np.flatnonzero(differences(need, shop.items[rows]) == 0)]


def _near_misses(shop: World, need: Features) -> list[int]:
    """Lists the items that differ from the need in exactly one stated feature.

    The feature is an attribute where some items of the leaf miss only that, and otherwise the noun, replaced by a sibling's.
    """
    for leaves in ((need.leaf,), shop.siblings[need.leaf]):
        rows = np.concatenate([np.arange(shop.rows_of(leaf).start, shop.rows_of(leaf).stop) for leaf in leaves])
        found = rows[differences(need, shop.items[rows]) == 1]
        if len(found):
            return [int(row) for row in found]
    return []


@lru_cache(maxsize=16)
def _cohort(market: Market, born: int) -> pl.DataFrame:
    """Returns the judged pairs of the people who come on day `born`: `offset` in days, task, language, query, side, row, label."""
    rows: list[tuple[int, str, str, str, str, int, int]] = []
    for task in TASKS:
        for language, share in market.shares(market.market_share).items():
            rng = Random(f"{market.seed} cohort {born} {task} {language}")
            side = "dev" if language in market.market_languages else ""
            pairs = list(_pairs(market, task, language, side, round(share * market.pairs_per_day / len(TASKS)), rng))
            # neighbours in the list belong to one query, so counting through the days spreads its targets over them
            rows += [((n + born) % _LIFE_DAYS, task, language, *pair) for n, pair in enumerate(pairs)]
    names = ("offset", "task", "language", "query", "side", "row", "label")
    return pl.DataFrame(rows, schema=names, orient="row").cast({"label": pl.Int8})


def _pairs(market: Market, task: Task, language: str, side: str, count: int, rng: Random) -> Iterator[tuple[str, str, int, int]]:
    """Yields `count` judged pairs (query, side, target row, true label), the pairs of a query together."""
    shop = market.world
    judge = _judge_categories if task == "QC" else _judge_items
    made = 0
    while made < count:
        query = _ask(market, task, language, side, rng)
        positives = rng.choices((1, 2, 3), _POSITIVES_WEIGHTS)[0]
        if task == "QI":
            positives = min(positives, len(_matching(shop, query.need)))
        negatives = int(positives * _NEGATIVES_PER_POSITIVE + rng.random())
        judged = judge(shop, query, negatives, positives, rng)
        rng.shuffle(judged)
        for row, label in judged[: count - made]:
            yield query.text, query.side, row, label
            made += 1


def day(market: Market, at: date) -> Day:
    """Makes the logs, clicks and truth of one day, UTC; a function of the market and that day alone.

    `logs` and `truth` hold the same rows in the same order, by event time.
    """
    ordinal = at.toordinal()
    rng = np.random.default_rng([market.seed, ordinal])
    cohorts = [_cohort(market, ordinal - offset).filter(offset=offset) for offset in range(_LIFE_DAYS)]
    judged = pl.concat(cohorts).unique(["task", "language", "query", "row"], keep="first", maintain_order=True)
    judged = judged.with_columns(_event_times(at, len(judged), rng)).sort("event_time", maintain_order=True)
    train = np.flatnonzero((judged["side"] == "train").to_numpy())
    flipped = np.zeros(len(judged), dtype=bool)
    flipped[rng.choice(train, round(market.noise * len(train)), replace=False)] = True
    judged = judged.with_columns(pl.Series("flipped", flipped))
    named = _with_targets(market, judged)
    truth = named.select("task", "language", "query", "target_id", "label", "event_time")
    seen = pl.when("flipped").then(1 - pl.col("label")).otherwise(pl.col("label")).cast(pl.Int8)
    return Day(named.with_columns(label=seen).select(list(LOG_SCHEMA)), _clicks(market, at, rng), truth)


def _event_times(at: date, count: int, rng: np.random.Generator) -> pl.Series:
    start = int(datetime(at.year, at.month, at.day, tzinfo=UTC).timestamp())
    micros = start * 1_000_000 + rng.integers(0, 86_400_000_000, count)
    return pl.Series("event_time", micros, dtype=pl.Int64).cast(pl.Datetime("us", "UTC"))


def _with_targets(market: Market, frame: pl.DataFrame) -> pl.DataFrame:
    """Adds `target` and `target_id` to `frame`, which has `task` and `row`."""
    listed = catalogue(market).with_columns(row=pl.int_range(pl.len(), dtype=pl.Int64).over("task"))
    return frame.with_columns(pl.col("row").cast(pl.Int64)).join(listed, on=["task", "row"], how="left", maintain_order="left")


class _Clicked(NamedTuple):
    """Queries people click on: (n,) texts, languages and probabilities.

    The targets of query q are `finds[starts[q] : starts[q + 1]]`.
    """

    texts: list[str]
    languages: list[str]
    chance: NDArray[np.float64]
    starts: NDArray[np.int64]
    finds: NDArray[np.int64]


@lru_cache(maxsize=4)
def _clicked(market: Market, task: Task) -> _Clicked:
    shop = market.world
    texts, languages, chances, found = [], [], [], []
    for language, share in market.shares(market.market_clicks).items():
        rng = Random(f"{market.seed} clicks {task} {language}")
        count = max(1, round(share * market.clicks_per_day / _CLICKS_PER_QUERY))
        weights = np.array([rng.lognormvariate(0, 0.8) for _ in range(count)])
        for _ in range(count):
            query = _ask(market, task, language, "train", rng)
            texts.append(query.text)
            found.append(_click_targets(shop, task, query.need))
        languages += [language] * count
        chances.append(share * weights / weights.sum())
    sizes = np.array([len(targets) for targets in found])
    chance = np.concatenate(chances)
    return _Clicked(texts, languages, chance / chance.sum(), np.append(0, sizes.cumsum()), np.concatenate(found))


def _click_targets(shop: World, task: Task, need: Features) -> NDArray[np.int64]:
    """Returns the targets that a click can land on; a category is listed in proportion to the clicks on its level."""
    if task == "QI":
        return np.array(_matching(shop, need), dtype=np.int64)
    return np.repeat(shop.nodes[need.leaf].astype(np.int64), [round(10 * weight) for weight in _LEVEL_WEIGHTS])


def _clicks(market: Market, at: date, rng: np.random.Generator) -> pl.DataFrame:
    frames = []
    for task in TASKS:
        pool = _clicked(market, task)
        count = market.clicks_per_day // len(TASKS)
        query = rng.choice(len(pool.texts), count, p=pool.chance)
        reach = pool.starts[query + 1] - pool.starts[query]
        row = pool.finds[pool.starts[query] + (rng.random(count) * reach).astype(np.int64)]
        accident = rng.random(count) < _CLICK_NOISE
        row = np.where(accident, rng.integers(0, len(market.world.targets(task)[0]), count), row)
        drawn = pl.DataFrame({"query_row": query, "row": row}).with_columns(_event_times(at, count, rng))
        counted = drawn.group_by("query_row", "row", maintain_order=True).agg(
            clicks=pl.len().cast(pl.Int32), event_time=pl.col("event_time").min()
        )
        texts, languages = pl.Series(pool.texts, dtype=pl.String), pl.Series(pool.languages, dtype=pl.String)
        frames.append(
            counted.with_columns(
                task=pl.lit(task), language=languages.gather(counted["query_row"]), query=texts.gather(counted["query_row"])
            )
        )
    named = _with_targets(market, pl.concat(frames))
    # the queries of a language can hold duplicate texts
    keys = ["task", "language", "query", "target", "target_id"]
    summed = named.group_by(keys, maintain_order=True).agg(pl.col("clicks").sum(), pl.col("event_time").min())
    return summed.select(list(CLICK_SCHEMA)).sort("event_time", maintain_order=True)


def write(market: Market, start: date, days: int, out: Path) -> dict[str, int]:
    """Writes `days` days from `start` on, the catalogue, the glossary and the brands under `out`; returns counts of rows.

    Layout: `{logs,clicks,truth}/dt=YYYY-MM-DD/part-0.parquet`, `catalogue.parquet`, `terms.tsv.gz`, `brands.txt`. The
    same arguments write the same bytes.

    Args:
        market: the settings.
        start: the first day.
        days: at least 1.
        out: a folder.

    Raises:
        SettingsError: `days` is below 1.
    """
    if days < 1:
        raise SettingsError(f"{days} days", where="simulator.write", expected="1 or more", do="ask for at least one day")
    listed, words = catalogue(market), terms()
    counts = {"days": days, "logs": 0, "clicks": 0, "truth": 0, "flipped": 0, "catalogue": len(listed), "terms": len(words)}
    for n in range(days):
        at = start + timedelta(days=n)
        made = day(market, at)
        for name, frame in zip(Day._fields, made, strict=True):
            _write_parquet(frame, out / name / f"dt={at.isoformat()}" / "part-0.parquet")
            counts[name] += len(frame)
        counts["flipped"] += int((made.logs["label"] != made.truth["label"]).sum())
    _write_parquet(listed, out / "catalogue.parquet")
    lines = "".join("\t".join(row) + "\n" for row in [tuple(words.columns), *words.iter_rows()])
    (out / "terms.tsv.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))
    (out / "brands.txt").write_text("".join(f"{brand}\n" for brand in BRANDS), encoding="utf-8")
    return counts


def _write_parquet(frame: pl.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(path, compression="zstd")


def spoil(logs: pl.DataFrame, how: Spoil, seed: int = 17) -> pl.DataFrame:
    """Makes a pathological version of a day's labelled logs. Raises SettingsError for an unknown `how`.

    shuffled-labels  the labels change rows, within their task
    missing-column   `label` is gone
    empty            no row
    nulls            40 % of the queries are null
    all-positive     99 % of the labels are 1
    """
    rng = np.random.default_rng([seed, len(logs)])
    if how == "shuffled-labels":
        return logs.with_columns(pl.col("label").shuffle(seed).over("task"))
    if how == "missing-column":
        return logs.drop("label")
    if how == "empty":
        return logs.clear()
    order = pl.Series(rng.permutation(len(logs)))
    if how == "nulls":
        return logs.with_columns(query=pl.when(order < 0.4 * len(logs)).then(None).otherwise(pl.col("query")))
    if how == "all-positive":
        return logs.with_columns(label=(order >= round(0.01 * len(logs))).cast(pl.Int8))
    raise SettingsError(f"no way to spoil logs named {how}", where="simulator.spoil", expected=str(Spoil), do="name one of these")
