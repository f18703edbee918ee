"""The *mine* stage: semantic hard negatives of a task."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from relevance_core import pairs
from relevance_core.config import MineSettings, Settings
from relevance_core.models.translators import Machine, Translator, open_translator, remembered, tokens
from relevance_core.pairs import Task
from relevance_core.stages.base import Artifact, Inputs, Output, Report, Rows, stage
from relevance_core.store import Store

if TYPE_CHECKING:
    from relevance_core.models.index import Kind

_KEYS: Final = ("group", "meaning", "own")
_TEXTS: Final = dict.fromkeys(("language", "query", "positive", "negative"), pl.String)
_SHOWN: Final = {**_TEXTS, "similarity": pl.Float32, "rank": pl.Int32}
_LEDGER: Final = {"pair_id": pl.String, "origin_id": pl.String, **_SHOWN}
_EXAMPLE: Final = {"reason": pl.String, **_SHOWN}
_EXAMPLES: Final = 8
_NAMED: Final = {"positive": pl.col("positive_text"), "negative": pl.col("target")}
_SLICE: Final = 20_000
"""Positives whose candidates are judged at a time."""
_FUNCTION_WORDS: Final = frozenset(("an", "and", "by", "for", "from", "in", "of", "on", "or", "the", "to", "with"))
_PLURAL: Final = re.compile(r"(?<=[a-z]{2}[^s\W])s$|(?<=sh|ch|ss)es$|(?<=[xz])es$")


@stage("mine", uses=("mine",), version=2, by_task=True)
def run(settings: Settings, inputs: Inputs, out: Output) -> Report:
    """Semantic hard negatives (arXiv 2510.21671, strategy 2): targets that are near a positive and are not relevant.

    How it works. The distinct targets of the catalogue and the training rows are embedded, and the `top_k` nearest of each
    positive's target are its candidates. Every candidate that may be relevant is left out; the first rule that says so is counted:

    - *labelled*: the query has a label for it, in whatever language or translation: the rows of its group, and those of any query
      that means the same (the same English words);
    - *related category* (QC): an ancestor of a positive of that query, or a descendant of its most specific ones;
    - *near duplicate*: its title has the same words as a positive's, or is as good as identical to it by cosine;
    - *as good a match*: it holds as many of the query's words, read in English, as the positive does (QI), or more of them (QC,
      where a category rarely holds more than the noun);
    - *no evidence* (QI): the positive holds none of the query's words, for a typing error or a wrong label.

    Of what is left, `ratio` negatives a positive are drawn in each language, near ones rather than far ones, a first one for each
    positive before any second one. A negative takes the query, language, group, English translation and event time of its positive.

    What it does not do. It never asks a model whether a candidate is relevant, and never sees a dev row.

    Known limits. The packaged embedder reads English: targets in other languages need another one. Without a translator only
    English queries can be compared with a title, and QI makes negatives for no others. Search is exact below `index_from` targets,
    where its time grows with positives × targets; above, the figures tell how many of the nearest it finds.
    """
    task = cast(Task, inputs.task)
    translated = inputs["translate"]
    train = translated.table("train").filter(task=task)
    if not settings.mine.enabled or train.filter(label=1).is_empty():
        return _as_it_is(settings, train, out)
    targets = _targets(inputs["ingest"], train, task)
    found = find(settings, train, targets, out)
    guards = Guards(train, targets, settings.mine, task, English(_translator(settings, translated), out.store))
    fates = _fates(found, targets, guards)
    chosen = sample(fates.usable, train, settings.mine.ratio)
    negatives = _as_rows(chosen, train)
    out.table("train", pl.concat([train, negatives.select(train.columns)]).sort("pair_id"))
    out.table("ledger", negatives.with_columns(**_NAMED).select(list(_LEDGER)).sort("pair_id"))
    out.table("examples", fates.examples)
    candidates = sum(fates.reasons.values()) + len(fates.usable)
    out.say(f"mine {task}: {len(negatives)} negatives of {candidates} candidates")
    figures = {
        "enabled": True,
        "targets": len(targets),
        "positives": len(train.filter(label=1)),
        "index": found.kind,
        "recall": round(found.recall, 4),
        "candidates": candidates,
        "excluded": dict(sorted(fates.reasons.items())),
        "usable": len(fates.usable),
        "added": len(negatives),
        "added_by_language": _counts(negatives, "language"),
    }
    return Report(Rows(incoming=len(train), made=len(negatives), kept=len(train) + len(negatives)), figures)


def _as_it_is(settings: Settings, train: pl.DataFrame, out: Output) -> Report:
    """The output of a task that gets no negatives."""
    out.table("train", train.sort("pair_id"))
    out.table("ledger", pl.DataFrame(schema=_LEDGER))
    out.table("examples", pl.DataFrame(schema=_EXAMPLE))
    nothing: dict[str, Any] = {"targets": 0, "positives": 0, "index": None, "recall": None, "candidates": 0, "excluded": {}}
    nothing |= {"usable": 0, "added": 0, "added_by_language": {}}
    return Report(Rows(incoming=len(train), kept=len(train)), {"enabled": settings.mine.enabled, **nothing})


class English:
    """The words of texts in English, each term under its preferred name where there is a translator."""

    def __init__(self, translator: Translator | None, store: Store) -> None:
        self._translator, self._store = translator, store

    def words(self, texts: pl.Series, language: str) -> pl.DataFrame:
        """(text, language, words): the sorted distinct words of each distinct text; none of a language that can't be read."""
        known = self._known(texts.unique().sort(), language)
        words = [[] if english is None else content_words(english) for english in known["english"]]
        return known.select("text", pl.lit(language).alias("language")).with_columns(
            pl.Series("words", words, dtype=pl.List(pl.String))
        )

    def _known(self, texts: pl.Series, language: str) -> pl.DataFrame:
        if self._translator is not None and self._translator.can(language, "en"):
            known, _ = remembered(self._translator, self._store, texts, language, "en")
            return known.select("text", english="translation")
        return pl.DataFrame(
            {"text": texts, "english": texts if language == "en" else None}, schema_overrides={"english": pl.String}
        )


def content_words(english: str) -> list[str]:
    """The sorted distinct words of an English text that carry meaning: no function words, no plural endings."""
    words = (word for word, _, _ in tokens(english, "en"))
    return sorted({_PLURAL.sub("", word) for word in words if word not in _FUNCTION_WORDS and (len(word) > 1 or word.isdigit())})


def _translator(settings: Settings, translated: Artifact) -> Translator | None:
    ref = translated.report.figures.get("translator")
    return open_translator(ref, translated.store, Machine(settings.serving, settings.engine)) if ref else None


def _targets(ingest: Artifact, train: pl.DataFrame, task: Task) -> pl.DataFrame:
    """The distinct targets (target, target_id), sorted, with `place`, their position; the id is the catalogue's if it has one."""
    catalogue = ingest.table("catalogue").filter(task=task)
    listed = [frame.select("target", "target_id").sort("target", "target_id") for frame in (catalogue, train)]
    distinct = pl.concat(listed).drop_nulls("target").unique("target", keep="first", maintain_order=True).sort("target")
    return distinct.with_columns(place=pl.int_range(pl.len(), dtype=pl.Int64))


class Found(NamedTuple):
    """What the search found; `positive` and `candidate` are places in the targets.

    positives: a row each, `origin_id query language group positive_text positive`, sorted by the first. near: `positive candidate
    similarity rank` for every place of a positive, `rank` from 1. kind: the index that was searched. recall: the share of the exact
    neighbours that it finds.
    """

    positives: pl.DataFrame
    near: pl.DataFrame
    kind: Kind
    recall: float


def find(settings: Settings, train: pl.DataFrame, targets: pl.DataFrame, out: Output) -> Found:
    """The `top_k` nearest targets of each positive's target."""
    from relevance_core.models.embedder import embed, open_embedder
    from relevance_core.models.index import neighbours

    vectors = embed(targets["target"], open_embedder(settings.mine.embedder, settings.engine), out.store, out.say)
    positives = train.filter(label=1).select("query", "language", "group", positive_text="target", origin_id="pair_id")
    positives = positives.join(targets.select(positive_text="target", positive="place"), on="positive_text").sort("origin_id")
    anchors = positives["positive"].unique().sort().to_numpy()
    kind = index_kind(settings.mine, len(targets))
    near, similarity, recall = neighbours(vectors, anchors, settings.mine.top_k, kind, settings.engine.threads)
    if kind != "flat":
        out.say(f"mine: {kind} index of {len(targets)} targets, {recall:.3f} of the nearest found")
    depth = near.shape[1]
    listed = pl.DataFrame(
        {
            "positive": np.repeat(anchors, depth),
            "candidate": near.reshape(-1),
            "similarity": similarity.reshape(-1),
            "rank": np.tile(np.arange(1, depth + 1, dtype=np.int32), len(anchors)),
        }
    )
    listed = listed.filter(pl.col("candidate") >= 0, pl.col("rank") > settings.mine.skip_ranks)
    return Found(positives, listed, kind, recall)


def index_kind(mine: MineSettings, targets: int) -> Kind:
    """The index for that many targets."""
    if mine.index == "auto":
        return "flat" if targets < mine.index_from else "ivf"
    return mine.index


class Fates(NamedTuple):
    """What became of the candidates.

    usable: those that may become negatives. reasons: how many each rule left out. examples: some of every fate, for people.
    """

    usable: pl.DataFrame
    reasons: Counter[str]
    examples: pl.DataFrame


def _fates(found: Found, targets: pl.DataFrame, guards: Guards) -> Fates:
    """Judges the candidates, some thousand positives at a time: all at once they would be the most that this stage ever holds."""
    named = targets.rename({"place": "candidate"})
    usable, examples, reasons = [], [], Counter[str]()
    for positives in found.positives.iter_slices(_SLICE):
        candidates = positives.join(found.near, on="positive").join(named, on="candidate").sort("origin_id", "rank")
        judged = candidates.with_columns(reason=guards.judge(candidates))
        usable.append(judged.filter(pl.col("reason").is_null()).drop("reason"))
        reasons.update(_counts(judged.drop_nulls("reason"), "reason"))
        examples.append(_first_of_each(judged.with_columns(pl.col("reason").fill_null("usable"))))
    shown = _first_of_each(pl.concat(examples)).sort("reason", "origin_id").with_columns(**_NAMED)
    return Fates(pl.concat(usable), reasons, shown.select(list(_EXAMPLE)))


def _first_of_each(judged: pl.DataFrame) -> pl.DataFrame:
    """The first candidate of each of the first positives with that fate."""
    one_each = judged.unique(["reason", "origin_id"], keep="first", maintain_order=True)
    return one_each.group_by("reason", maintain_order=True).head(_EXAMPLES)


class Guards:
    """The rules that leave a candidate out, with what they know of all queries and targets (`target`, `place` from 0, in order)."""

    def __init__(self, train: pl.DataFrame, targets: pl.DataFrame, mine: MineSettings, task: Task, english: English) -> None:
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
        """For each of `candidates` the first rule that leaves it out, null for a usable one."""
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
    """(query, language, words, meaning) of the distinct queries; `meaning` is null for a query of which no word can be read."""
    by_language = train.sort("language").group_by("language", maintain_order=True)
    read = pl.concat([english.words(rows["query"], str(language)) for (language,), rows in by_language]).rename({"text": "query"})
    return read.with_columns(
        meaning=pl.when(pl.col("words").list.len() > 0).then(pl.lit("means ") + pl.col("words").list.join(" "))
    )


def _known(rows: pl.DataFrame, targets: pl.DataFrame) -> pl.DataFrame:
    """(key, place, label): every labelled target of a query, under its group, its meaning and its own text."""
    placed = rows.join(targets.select("target", "place"), on="target").with_columns(own=_OWN)
    keys = [placed.select("place", "label", key=pl.col(key)) for key in _KEYS]
    return pl.concat(keys).drop_nulls("key").unique(maintain_order=True)


def _forbidden(judged: pl.DataFrame, pairs_of_keys: pl.DataFrame, column: str) -> pl.Series:
    """Whether (key, `column`) is among the distinct (key, place), under any of the query's keys."""
    marked = pairs_of_keys.with_columns(hit=pl.lit(True))
    hit = pl.repeat(False, len(judged), dtype=pl.Boolean, eager=True)
    for key in _KEYS:
        joined = judged.join(marked, left_on=[key, column], right_on=["key", "place"], how="left", maintain_order="left")
        hit |= joined["hit"].fill_null(False)
    return hit


def _relatives(positives: pl.DataFrame, targets: pl.DataFrame) -> pl.DataFrame:
    """(key, place): the ancestors of every positive category of a query, and the descendants of those of its positives that have no
    other positive below them; levels are joined by commas.

    A query with the positives `home` and `home,kitchen,knives` asks for knives, so that the rest of the home may be wrong.
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
    """(n,): how many of the query's words the target at `place` holds. holds: (place, word) of every target."""
    asked = judged.select("row", pl.col(place).alias("place"), word="words").explode("word").drop_nulls("word")
    counts = asked.join(holds, on=["place", "word"]).group_by("row").len()
    found = np.zeros(len(judged), dtype=np.int64)
    found[counts["row"].to_numpy()] = counts["len"].to_numpy()
    return found


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


def _as_rows(chosen: pl.DataFrame, train: pl.DataFrame) -> pl.DataFrame:
    """The negatives as training rows, with what the ledger says of them beside."""
    inherited = train.drop("target", "target_id", "label", "origin", "origin_id").rename({"pair_id": "origin_id"})
    rows = chosen.select("origin_id", "positive_text", "target", "target_id", "similarity", "rank").join(inherited, on="origin_id")
    rows = rows.with_columns(pair_id=pl.lit(""), label=pl.lit(0, pl.Int8), origin=pl.lit("negative"))
    return pairs.with_ids(rows).sort("pair_id")


def _counts(frame: pl.DataFrame, column: str) -> dict[str, int]:
    return dict(frame.group_by(column).len().sort(column).iter_rows())
