"""The documents that the builtin base is pretrained on: one query and four candidates, each answered yes or no.

Nobody labelled them. A query's positives are the targets that were clicked for it (or that a training label calls relevant); its
negatives come from the catalogue. The task decides which targets are negatives:

QC  a category that is neither a known one of the query, nor above or below one: half of them siblings of a known one.
QI  an item that lacks a property that the query states. A query word *states* something if the items clicked for it nearly all hold
    one of a few words (`amarilla`: yellow; `vestido`: dress or dresses), the word's associates. An item that has none of a stated
    word's associates was not clicked for a reason; half of the negatives lack exactly one. Items that lack nothing are never
    negatives.

Early documents are short: the last level of a category, a few words of an item. BPE dropout teaches the parts of words too, for
real words and typing errors alike.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from relevance_core.models.tiny.text import Corpus, words

CANDIDATES = 4
_SUPPORT = 5
_ASSOCIATE_SHARE, _ASSOCIATE_LIFT, _STATED = 0.05, 3.0, 0.7
_POOL = 4096


class Row(NamedTuple):
    """A candidate of a document: its label, and the marks that the probe learns from.

    A mark is (word, question, answer) at the end of a word of the prompt's last field, which is the target of QC and the query of
    QI. Its question is RIGHT (the text so far is right) or MATCH (the item has the property that this word states).
    """

    task: str
    query: str
    target: str
    english: str | None
    label: int
    marks: tuple[tuple[int, int, int], ...]


RIGHT, MATCH = 0, 1
"""The questions that a mark answers."""


def token_words(text: str) -> list[str]:
    """Splits a text into words as its tokens do: at white space, which follows every comma."""
    return text.replace(",", ", ").split()


@dataclass(frozen=True)
class Query:
    """A query of one task with the targets that were clicked for it."""

    text: str
    english: str | None
    positives: tuple[str, ...]

    @property
    def said(self) -> str:
        """The query's last text in a prompt: the translation, where there is one."""
        return self.english or self.text


def sampler(task: str, corpus: Corpus) -> Categories | Items | None:
    """Makes the sampler of a task's documents; None when the corpus has no positives of it."""
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
    """Lists a category and all above it, the top first."""
    return list(accumulate(path.split(","), lambda above, level: f"{above},{level}"))


class Categories:
    """Draws QC documents."""

    task = "QC"

    def __init__(self, queries: Sequence[Query], catalogue: Sequence[str]) -> None:
        self.queries, self.catalogue = queries, catalogue
        self.right = [frozenset(p for target in query.positives for p in prefixes(target)) for query in queries]
        self.below: dict[str, list[str]] = defaultdict(list)
        for path in sorted({p for target in catalogue for p in prefixes(target)}):
            self.below[path.rpartition(",")[0]].append(path)

    def document(self, random: Random, progress: float) -> list[Row]:
        """Draws one query and its candidates. progress: the share of the training that is done."""
        short = random.random() < max(0.4, 1 - progress)
        at = random.randrange(len(self.queries))
        query, right = self.queries[at], self.right[at]
        rows = []
        for _ in range(CANDIDATES):
            target = self._positive(random, query) if random.random() < 0.5 else self._negative(random, query, right)
            levels = [(level, int(p in right)) for level, p in zip(target.split(","), prefixes(target), strict=True)]
            if short:
                levels = levels[-1:] if random.random() < 0.7 else levels[-2:]
            ends = accumulate(len(token_words(level)) for level, _ in levels)
            marks = tuple((end - 1, RIGHT, label) for end, (_, label) in zip(ends, levels, strict=True))
            rows.append(Row("QC", query.text, ",".join(level for level, _ in levels), query.english, levels[-1][1], marks))
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

    task = "QI"

    def __init__(self, queries: Sequence[Query], catalogue: Sequence[str]) -> None:
        self.catalogue = catalogue
        self.number = {target: n for n, target in enumerate(catalogue)}
        self.words = [words(target) for target in catalogue]
        self.holders = _holders(self.words)
        self.associates = self._associates(queries)
        everything = np.random.default_rng(0).permutation(len(catalogue))[:_POOL]
        self.queries = [self._candidates(query, everything) for query in queries]

    def document(self, random: Random, progress: float) -> list[Row]:
        """Draws one query and its candidates. progress: the share of the training that is done."""
        short = random.random() < max(0.15, 1 - 2 * progress)
        query, stated, right, near, far = random.choice(self.queries)
        part = sorted(random.sample(range(len(stated)), min(len(stated), random.choice((1, 1, 2, 2, 3))))) if short else []
        rows = []
        for _ in range(CANDIDATES):
            group = right if random.random() < 0.5 or not (near or far) else near if near and random.random() < 0.6 else far or near
            item = random.choice(group)
            rows.append(
                self._short(random, [stated[n] for n in part], item)
                if part
                else self._row(query, self.catalogue[item], group is right)
            )
        return rows

    def _short(self, random: Random, stated: list[str], item: int) -> Row:
        """Returns some of the words that the query states against some of the item's words."""
        holding = {v for w in stated for v in self.associates[w]}
        kept = [v for v in self.words[item] if v in holding or random.random() < 0.4] or self.words[item]
        return self._row(Query(" ".join(stated), None, ()), " ".join(kept), True)

    def _row(self, query: Query, target: str, clicked: bool) -> Row:
        """Marks every word of the query that states something; a target is right if it has them all.

        A query that states nothing is judged by `clicked`.
        """
        has = set(words(target))
        marks = []
        for n, part in enumerate(token_words(query.said)):
            stated = [word for word in words(part) if word in self.associates]
            if stated:
                marks.append((n, MATCH, int(all(not self.associates[word].isdisjoint(has) for word in stated))))
        label = int(all(answer for _, _, answer in marks) if marks else clicked)
        return Row("QI", query.text, target, query.english, label, (*marks, (len(token_words(query.said)) - 1, RIGHT, label)))

    def _associates(self, queries: Sequence[Query]) -> dict[str, frozenset[str]]:
        """Returns query word → its associates, the target words of which its clicked targets nearly all hold one.

        Only for words that state something.
        """
        seen: dict[str, list[int]] = defaultdict(list)
        for query in queries:
            for word in sorted(set(words(query.said))):
                seen[word].extend(self.number[target] for target in query.positives)
        stated = {word: self._stated(np.array(targets)) for word, targets in seen.items() if len(targets) >= _SUPPORT}
        return {word: found for word, found in stated.items() if found}

    def _stated(self, targets: NDArray[np.int64]) -> frozenset[str]:
        """Returns the fewest words, best first, that nearly all of the targets hold; empty when there are none."""
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
        """Returns the query, its stated words, and the items that have all of them, lack one, and lack more."""
        stated = [word for word in dict.fromkeys(words(query.said)) if word in self.associates]
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
    """Returns word → the numbers of the texts that hold it."""
    found: dict[str, list[int]] = defaultdict(list)
    for number, text in enumerate(texts):
        for word in set(text):
            found[word].append(number)
    return {word: np.array(numbers) for word, numbers in found.items()}
