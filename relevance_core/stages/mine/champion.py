"""The version that serves as a judge of mined candidates, and what people answered about those it doubted."""

from __future__ import annotations

import polars as pl

from relevance_core import pairs
from relevance_core.config import Settings
from relevance_core.pairs import Task
from relevance_core.registry import Registry
from relevance_core.runs import review
from relevance_core.runs.stage import Inputs, Output
from relevance_core.scoring.opened import Opened, machine_of, open_version
from relevance_core.stages.denoise.stage import LEDGER


class Champion:
    """The version of the task that served when the run began, asked about candidates in the languages that it was trained on.

    In any other language its answer says nothing, and would only take negatives from those that have the fewest rows. A candidate
    that people have called not relevant, or whose label they kept, is not asked about again.
    """

    def __init__(self, settings: Settings, task: Task, version: str, decided: pl.DataFrame, out: Output) -> None:
        self._settings, self._task, self._out, self._decided = settings, task, out, decided
        self._manifest = Registry(out.store).manifest(task, version)
        self._opened: Opened | None = None

    @property
    def version(self) -> str:
        """The version's id."""
        return self._manifest.version

    def doubts(self, candidates: pl.DataFrame) -> pl.Series:
        """p(yes) of those of `candidates` (`query language target target_id`) above `mine.champion_review`, null for the others."""
        rows = pairs.with_ids(candidates.select("query", "language", "target", "target_id", task=pl.lit(self._task)))
        asked = pl.col("language").is_in(self._manifest.languages) & ~pl.col("pair_id").is_in(self._decided["pair_id"].implode())
        wanted = rows.with_row_index("row").filter(asked)
        if wanted.is_empty():
            return pl.repeat(None, len(rows), dtype=pl.Float64, eager=True)
        p = wanted.select("row").with_columns(p=self._p(wanted))
        found = pl.col("p") > self._settings.mine.champion_review
        return rows.with_row_index("row").join(p.filter(found), on="row", how="left", maintain_order="left")["p"]

    def asks(self, doubted: pl.DataFrame) -> pl.DataFrame:
        """The rows that people are asked about, as the filter's LEDGER has them; `label` is the 0 that a negative gets.

        doubted: negatives that have their `score`.
        """
        named = doubted.with_columns(
            reason=pl.lit(f"the champion {self.version} calls a candidate for a negative relevant"),
            action=pl.lit(review.ACTION),
            model=pl.lit(self.version),
        )
        return named.select(pl.col(name).cast(kind) for name, kind in LEDGER.items()).sort("pair_id")

    def _p(self, rows: pl.DataFrame) -> pl.Series:
        if self._opened is None:
            self._out.say(f"mine {self._task}: asking the champion {self.version}")
            self._opened = open_version(self._out.store, self._manifest, machine_of(self._settings))
        return self._opened.score(rows, self._out.say)


def open_champion(settings: Settings, task: Task, inputs: Inputs, decided: pl.DataFrame, out: Output) -> Champion | None:
    """The champion that the run pinned, where `mine.champion_review` asks for it and one serves. Raises what the registry does."""
    if settings.mine.champion_review is None or task not in inputs.champion:
        return None
    return Champion(settings, task, inputs.champion[task], decided, out)


def decisions_on(settings: Settings, task: Task, inputs: Inputs, out: Output) -> pl.DataFrame:
    """What people have decided about pairs of the task, where `mine.champion_review` asks them; else nothing."""
    pinned = inputs.decisions if settings.mine.champion_review is not None else ()
    return review.decisions(out.store, pinned).filter(task=task)


def called_relevant(decided: pl.DataFrame, train: pl.DataFrame, targets: pl.DataFrame) -> pl.DataFrame:
    """Rows like those of `train` for the pairs that people called relevant and that it lacks.

    Each takes language, query, group, English and event time of a positive of its query; without one it is left out.
    """
    yes = decided.filter(label=1).join(train, on="pair_id", how="anti").select("query", "language", "target", known="pair_id")
    positives = train.filter(label=1).sort("pair_id").unique(["query", "language"], keep="first", maintain_order=True)
    inherited = positives.drop("target", "target_id", "origin", "origin_id").rename({"pair_id": "origin_id"})
    rows = yes.join(inherited, on=["query", "language"]).join(targets.select("target", "target_id"), on="target")
    rows = pairs.with_ids(rows.with_columns(pair_id=pl.lit(""), origin=pl.lit("negative")))
    return rows.filter(pl.col("pair_id") == pl.col("known")).select(train.columns)
