"""Golden pairs: what a version answered where it was trained, kept beside its weights, so that every server can be held to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from relevance_core.errors import RegistryError
from relevance_core.prompts import PairText
from relevance_core.registry import Manifest, Registry

FILE: Final = "golden.json"
ROWS: Final = 32
_TEXT: Final = ("task", "query", "target", "english")


class Scoring(Protocol):
    """What a scorer must do to make golden pairs."""

    answers: tuple[int, int]

    def encode(self, rows: Sequence[PairText]) -> list[list[int]]:
        """The token ids of each row's prompt."""

    def score(self, rows: Sequence[PairText], say: Callable[[str], None]) -> npt.NDArray[np.float64]:
        """p(yes) of each row."""


@dataclass(frozen=True)
class Golden:
    """Golden pairs of a version. answers: the ids of yes and no. prompts: token ids. p: p(yes) of each, as the trainer's scorer
    gave it.
    """

    answers: tuple[int, int]
    prompts: tuple[tuple[int, ...], ...]
    p: npt.NDArray[np.float64]


def choose(rows: pl.DataFrame) -> list[PairText]:
    """At most ROWS training rows, as many of each language and label as there are, in the order of their ids.

    rows: pair_id, language, label, task, query, target, english.
    """
    turn = pl.int_range(pl.len()).over("language", "label")
    ordered = rows.sort("pair_id").with_columns(turn=turn).sort("turn", "language", "label", "pair_id")
    return ordered.head(ROWS).select(_TEXT).rows()


def write(folder: Path, rows: Sequence[PairText], scorer: Scoring, say: Callable[[str], None]) -> None:
    """Writes `golden.json` into an adapter's folder: the pairs as text, as token ids, and p(yes) of each."""
    prompts, p = scorer.encode(rows), scorer.score(rows, say)
    pairs = [
        dict(zip(_TEXT, row, strict=True)) | {"ids": ids, "p": score} for row, ids, score in zip(rows, prompts, p, strict=True)
    ]
    text = json.dumps({"answers": scorer.answers, "rows": pairs}, ensure_ascii=False, sort_keys=True)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")


def load(registry: Registry, manifest: Manifest) -> Golden:
    """The golden pairs of a published version. Raises RegistryError for a version without them, or with damaged ones."""
    key = f"adapters/{manifest.task.lower()}/{manifest.version}/{FILE}"
    if FILE not in manifest.files:
        raise RegistryError(
            f"{manifest.name} has no golden pairs", where=registry.store.uri_of(key), do="train it again with this release"
        )
    data = registry.store.read(key)
    found = registry.store.digest(key).sha256
    if found != manifest.files[FILE].sha256:
        raise RegistryError(
            f"the golden pairs of {manifest.name} were changed",
            where=registry.store.uri_of(key),
            expected=f"SHA-256 {manifest.files[FILE].sha256}",
            do="restore that object from a backup",
        )
    return parse(json.loads(data))


def parse(values: dict[str, Any]) -> Golden:
    """The golden pairs of a `golden.json`."""
    yes, no = values["answers"]
    rows = values["rows"]
    return Golden((yes, no), tuple(tuple(row["ids"]) for row in rows), np.array([row["p"] for row in rows], dtype=np.float64))
