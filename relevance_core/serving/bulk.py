"""Bulk scoring: a whole table of pairs, scored on servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import polars as pl

from relevance_core.config import ServingSettings
from relevance_core.pairs import Task
from relevance_core.processes import open_progress
from relevance_core.registry import Manifest
from relevance_core.serving.client import Pair, ScoringClient
from relevance_core.store import Store


def score_rows(
    store: Store, version: Manifest, rows: pl.DataFrame, endpoints: Sequence[str], settings: ServingSettings
) -> pl.Series:
    """Scores rows on servers with a published version, as long work that shows its progress; returns p(yes) in the rows' order.

    Args:
        store: holds the registry and the list of servers.
        version: the version to score with.
        rows: `language`, `query` and `target`.
        endpoints: the servers; empty for those of the settings and those that registered themselves.
        settings: of serving.

    Raises:
        ServingError: and the other errors of `ScoringClient.score`.
    """
    pairs = [Pair(*row) for row in rows.select("language", "query", "target").iter_rows()]
    with ScoringClient(store, endpoints, settings) as client, open_progress("scored", len(pairs)) as progress:
        scores = client.score(cast("Task", version.task), pairs, version=version.version, done=progress.at)
    return pl.Series(scores.p, dtype=pl.Float64)
