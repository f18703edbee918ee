"""Mistyped copies of training rows, which *denoise* makes of the rows that it keeps (`augment.*`).

Not a stage of its own: what trains a version stays one table, by whose digest the registry knows it.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import polars as pl

from relevance_core import pairs
from relevance_core.config import Settings
from relevance_core.languages.slips import corrupted
from relevance_core.runs.stage import Artifact
from relevance_core.scoring.english import with_english

LEDGER: Final = ("pair_id", "origin_id", "language", "query", "typed", "slip", "target", "label", "reason")
"""Columns of the table `augmented`: every copy that was tried; `reason` says why one was left out, null for one that trains."""


class Copies(NamedTuple):
    """rows: the copies that train, with the columns of their originals. ledger: all that were tried, by pair_id."""

    rows: pl.DataFrame
    ledger: pl.DataFrame

    @property
    def dropped(self) -> dict[str, int]:
        """Reason → copies that were left out."""
        left_out = self.ledger.drop_nulls("reason")["reason"]
        return {f"dropped: {reason}": count for reason, count in left_out.value_counts().sort("reason").iter_rows()}

    @property
    def figures(self) -> dict[str, Any]:
        """How many were tried and added, those by language and kind of slip."""
        added = self.ledger.filter(pl.col("reason").is_null())
        by = {name: dict(added.group_by(name).len().sort(name).iter_rows()) for name in ("language", "slip")}
        return {"tried": len(self.ledger), "added": len(added), "by_language": by["language"], "by_slip": by["slip"]}


def copies(rows: pl.DataFrame, known: pl.Series, settings: Settings, translate: Artifact) -> Copies:
    """Mistyped copies of a share of `rows` (training rows with `group` and `english`), with their label, weight and group.

    Which rows is a hash of pair and seed, so that a row that stays from one night to the next is copied again; the slip is that of
    the query (`relevance_core.languages.slips`). The English translation is made anew from the copy's own text. A copy is left out
    if

    - *dev side*: its text would be on the dev side if somebody typed it (`pairs.side_of`), as that of every dev query is;
    - *pair exists*: it is one of the pairs in `known` (pair_ids), or another copy: what the log says of a text holds.
    """
    augment, seed = settings.augment, settings.seed
    chosen = rows.filter(pairs.shares_of(rows["pair_id"], f"augment {seed}") < augment.share)
    typed = corrupted(chosen, seed, augment.slips).rename({"query": "original", "pair_id": "source"})
    made = typed.with_columns(pl.col("source").alias("origin_id"), query="typed", origin=pl.lit("typo"), pair_id=pl.lit(""))
    made = pairs.with_ids(made).sort("pair_id", "source")
    sides = pairs.map_distinct(made["query"], lambda text: pairs.side_of(pairs.query_group(text), settings.split.dev_share), "side")
    twice = (~pl.col("pair_id").is_first_distinct()) | pl.col("pair_id").is_in(known.implode())
    reason = pl.when(sides == "dev").then(pl.lit("mistyped copy: dev side")).when(twice).then(pl.lit("mistyped copy: pair exists"))
    made = made.with_columns(reason=reason)
    added = with_english(made.filter(pl.col("reason").is_null()), settings, translate)
    return Copies(added.select(rows.columns), made.with_columns(query="original").select(LEDGER))
