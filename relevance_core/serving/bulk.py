"""Bulk scoring: a whole table of pairs, scored on servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import polars as pl
from tqdm import tqdm

from relevance_core.config import ServingSettings
from relevance_core.pairs import Task
from relevance_core.registry import Manifest
from relevance_core.serving.client import Pair, ScoringClient
from relevance_core.store import Store


def score_rows(
    store: Store, version: Manifest, rows: pl.DataFrame, endpoints: Sequence[str], settings: ServingSettings
) -> pl.Series:
    """Scores rows on servers with a published version, with a progress bar on a terminal; returns p(yes) in the rows' order.

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
    with ScoringClient(store, endpoints, settings) as client, tqdm(total=len(pairs), unit=" pairs", disable=None) as bar:
        scores = client.score(
            cast("Task", version.task), pairs, version=version.version, done=lambda finished: bar.update(finished - bar.n)
        )
    return pl.Series(scores.p, dtype=pl.Float64)
