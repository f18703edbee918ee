"""The documents that the builtin base is pretrained on: one query and four candidates, each answered yes or no.

Nobody labelled them. A query's positives are the targets that were clicked for it (or that a training label calls relevant); its
negatives come from the catalogue. What makes a target a negative follows from the task:

QC  a category that is neither a known one of the query, nor above or below one: half of them siblings of a known one.
QI  an item that lacks what the query states. A query word *states* something if the items clicked for it nearly all hold one of a
    few words (`amarilla`: yellow; `vestido`: dress or dresses), the word's associates. An item that has none of a stated word's
    associates was not clicked for a reason; half of the negatives lack exactly one. Items that lack nothing are never negatives.

Early documents are short: the last level of a category, a few words of an item. BPE dropout needs real words and typos alike to be
known by their parts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from relevance_core.models.tiny_text import Corpus, words

CANDIDATES = 4
_SUPPORT = 5
_ASSOCIATE_SHARE, _ASSOCIATE_LIFT, _STATED = 0.05, 3.0, 0.7
_POOL = 4096


class Row(NamedTuple):
    """A candidate of a document: its label, and for each comma-separated level of its target whether it is still right there."""

    task: str
    query: str
    target: str
    english: str | None
    label: int
    levels: tuple[int, ...]


@dataclass(frozen=True)
class Query:
    """A query of one task with the targets that it was clicked for."""

    text: str
    english: str | None
    positives: tuple[str, ...]


def sampler(task: str, corpus: Corpus) -> Categories | Items | None:
    """What draws the documents of a task; None when the corpus has no positives of it."""
    positives = corpus.positives.filter(pl.col("task") == task)
    if positives.is_empty():
        return None
    targets = corpus.catalogue.filter(pl.col("task") == task)["target"]
    catalogue = sorted(set(targets.to_list()) | set(positives["target"].to_list()))
    queries = [
        Query(text, english, tuple(sorted(found)))
        for text, english, found in positives.group_by("query", "english").agg("target").sort("query", "english").iter_rows()
    ]
    return (Categories if task == "QC" else Items)(queries, catalogue)


def prefixes(path: str) -> list[str]:
    """A category and all above it, the top first."""
    return list(accumulate(path.split(","), lambda above, level: f"{above},{level}"))


class Categories:
    """Draws QC documents."""

    def __init__(self, queries: Sequence[Query], catalogue: Sequence[str]) -> None:
        self.queries, self.catalogue = queries, catalogue
        self.right = [frozenset(p for target in query.positives for p in prefixes(target)) for query in queries]
        self.below: dict[str, list[str]] = defaultdict(list)
        for path in sorted({p for target in catalogue for p in prefixes(target)}):
            self.below[path.rpartition(",")[0]].append(path)

    def document(self, random: Random, short: bool) -> list[Row]:
        """One query and its candidates."""
        at = random.randrange(len(self.queries))
        query, right = self.queries[at], self.right[at]
        rows = []
        for _ in range(CANDIDATES):
            target = self._positive(random, query) if random.random() < 0.5 else self._negative(random, query, right)
            levels = tuple(int(p in right) for p in prefixes(target))
            if short:
                keep = 1 if random.random() < 0.7 else 2
                target, levels = ",".join(target.split(",")[-keep:]), levels[-keep:]
            rows.append(Row("QC", query.text, target, query.english, levels[-1], levels))
        return rows

    def _positive(self, random: Random, query: Query) -> str:
        target = random.choice(query.positives)
        return target if random.random() < 0.85 else random.choice(prefixes(target))

    def _negative(self, random: Random, query: Query, right: frozenset[str]) -> str:
        known = random.choice(query.positives)
        if random.random() < 0.5:
            parent = known.rpartition(",")[0]
            for above in (parent, parent.rpartition(",")[0]):
                near = self.below[above]
                target = random.choice(near)
                if target not in right:
                    return target
        for _ in range(20):
            target = random.choice(self.catalogue)
            if target not in right and not target.startswith(tuple(f"{p}," for p in query.positives)):
                return target
        return known


class Items:
    """Draws QI documents."""

    def __init__(self, queries: Sequence[Query], catalogue: Sequence[str]) -> None:
        self.catalogue = catalogue
        self.number = {target: n for n, target in enumerate(catalogue)}
        self.words = [words(target) for target in catalogue]
        self.holders = _holders(self.words)
        self.associates = self._associates(queries)
        everything = np.random.default_rng(0).permutation(len(catalogue))[:_POOL]
        self.queries = [self._candidates(query, everything) for query in queries]

    def document(self, random: Random, short: bool) -> list[Row]:
        """One query and its candidates."""
        query, stated, right, near, far = random.choice(self.queries)
        rows = []
        part = tuple(sorted(random.sample(range(len(stated)), min(len(stated), random.choice((1, 1, 2, 2, 3)))))) if short else ()
        for _ in range(CANDIDATES):
            group = right if random.random() < 0.5 or not (near or far) else near if near and random.random() < 0.6 else far or near
            item = random.choice(group)
            if part:
                rows.append(self._short(random, [stated[n] for n in part], item))
            else:
                label = int(group is right)
                rows.append(Row("QI", query.text, self.catalogue[item], query.english, label, (label,)))
        return rows

    def _short(self, random: Random, stated: list[str], item: int) -> Row:
        """Some of the words that the query states against some of the item's words."""
        holding = {v for w in stated for v in self.associates[w]}
        kept = [v for v in self.words[item] if v in holding or random.random() < 0.4] or self.words[item]
        label = int(all(not self.associates[w].isdisjoint(kept) for w in stated))
        return Row("QI", " ".join(stated), " ".join(kept), None, label, (label,))

    def _associates(self, queries: Sequence[Query]) -> dict[str, frozenset[str]]:
        """Query word → the target words of which its clicked targets nearly all hold one; only words that state something."""
        seen: dict[str, list[int]] = defaultdict(list)
        for query in queries:
            for word in sorted(set(words(query.text))):
                seen[word].extend(self.number[target] for target in query.positives)
        stated = {word: self._stated(np.array(targets)) for word, targets in seen.items() if len(targets) >= _SUPPORT}
        return {word: found for word, found in stated.items() if found}

    def _stated(self, targets: NDArray[np.int64]) -> frozenset[str]:
        """The fewest words, best first, that nearly all of the targets hold; empty when there are none."""
        counts: dict[str, int] = defaultdict(int)
        for target in targets:
            for word in set(self.words[target]):
                counts[word] += 1
        n, size = len(targets), len(self.catalogue)
        scored = []
        for word, count in counts.items():
            lift = count / n / (len(self.holders[word]) / size)
            if count >= 3 and count / n >= _ASSOCIATE_SHARE and lift >= _ASSOCIATE_LIFT:
                scored.append((-count / n * np.log(lift), word))
        covered, chosen = np.zeros(n, bool), []
        for _, word in sorted(scored)[:12]:
            more = covered | np.isin(targets, self.holders[word])
            if more.mean() - covered.mean() >= _ASSOCIATE_SHARE:
                covered = more
                chosen.append(word)
        return frozenset(chosen) if covered.mean() >= _STATED else frozenset()

    def _candidates(self, query: Query, everything: NDArray[np.int64]) -> tuple[Query, list[str], list[int], list[int], list[int]]:
        """The query, what it states, and the items that have it all, lack one of it, lack more."""
        stated = [word for word in dict.fromkeys(words(query.text)) if word in self.associates]
        clicked = [self.number[target] for target in query.positives]
        if not stated:
            far = np.setdiff1d(everything, clicked)
            return query, [], clicked, [], far[:64].tolist()
        pool = np.union1d(everything, clicked)
        has = sum(self._holding(word)[pool].astype(np.int8) for word in stated)
        right = [n for n in clicked if n in set(pool[has == len(stated)].tolist())]
        near, far = pool[has == len(stated) - 1], pool[has < len(stated) - 1]
        if len(stated) == 1:
            near, far = far[:0], near
        spread = np.random.default_rng(len(query.text))
        return query, stated, right or clicked, *(spread.permutation(part)[:48].tolist() for part in (near, far))

    def _holding(self, word: str) -> NDArray[np.bool_]:
        if not hasattr(self, "_cache"):
            self._cache: dict[str, NDArray[np.bool_]] = {}
        if word not in self._cache:
            flags = np.zeros(len(self.catalogue), bool)
            for associate in self.associates[word]:
                flags[self.holders[associate]] = True
            self._cache[word] = flags
        return self._cache[word]


def _holders(texts: Sequence[Sequence[str]]) -> dict[str, NDArray[np.int64]]:
    """Word → the numbers of the texts that hold it."""
    found: dict[str, list[int]] = defaultdict(list)
    for number, text in enumerate(texts):
        for word in set(text):
            found[word].append(number)
    return {word: np.array(numbers) for word, numbers in found.items()}


def summary(samplers: Sequence[Any]) -> dict[str, int]:
    """How many queries each task's documents are drawn from."""
    return {type(s).__name__: len(s.queries) for s in samplers}
