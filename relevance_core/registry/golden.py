"""Golden pairs: a version's p(yes) at training time, stored beside its weights, so that every server can be checked against it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from relevance_core.errors import RegistryError
from relevance_core.prompts import PairText
from relevance_core.registry import Manifest, Registry
from relevance_core.registry.versions import file_key

FILE: Final = "golden.json"
ROWS: Final = 32
_TEXT: Final = ("task", "query", "target", "english")


class Scoring(Protocol):
    """The part of a scorer that golden pairs are made with."""

    answers: tuple[int, int]

    def encode(self, rows: Sequence[PairText]) -> list[list[int]]:
        """Returns the token ids of each row's prompt."""

    def score(self, rows: Sequence[PairText]) -> npt.NDArray[np.float64]:
        """p(yes) of each row."""


@dataclass(frozen=True)
class Golden:
    """Golden pairs of a version.

    Attributes:
        answers: token ids of yes and no.
        prompts: token ids of each prompt.
        p: p(yes) of each prompt, from the trainer's scorer.
        texts: the pairs as text, from which a tokenizer must produce the same ids; empty for versions that recorded none.
    """

    answers: tuple[int, int]
    prompts: tuple[tuple[int, ...], ...]
    p: npt.NDArray[np.float64]
    texts: tuple[PairText, ...] = ()


def choose(rows: pl.DataFrame) -> list[PairText]:
    """Returns at most ROWS training rows, balanced over languages and labels as far as possible, in the order of their ids.

    rows: pair_id, language, label, task, query, target, english.
    """
    turn = pl.int_range(pl.len()).over("language", "label")
    ordered = rows.sort("pair_id").with_columns(turn=turn).sort("turn", "language", "label", "pair_id")
    return ordered.head(ROWS).select(_TEXT).rows()


def write(folder: Path, rows: Sequence[PairText], scorer: Scoring) -> None:
    """Writes `golden.json` into an adapter's folder: the pairs as text, as token ids, and p(yes) of each."""
    prompts, p = scorer.encode(rows), scorer.score(rows)
    pairs = [
        dict(zip(_TEXT, row, strict=True)) | {"ids": ids, "p": score} for row, ids, score in zip(rows, prompts, p, strict=True)
    ]
    text = json.dumps({"answers": scorer.answers, "rows": pairs}, ensure_ascii=False, sort_keys=True)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")


def load(registry: Registry, manifest: Manifest) -> Golden:
    """Returns the golden pairs of a published version. Raises RegistryError when they are missing or damaged."""
    found = find(registry, manifest)
    if found is None:
        where = registry.store.uri_of(file_key(manifest, FILE))
        raise RegistryError(f"{manifest.name} has no golden pairs", where=where, do="train it again with this release")
    return found


def find(registry: Registry, manifest: Manifest) -> Golden | None:
    """Returns what `load` does, or None for a version without golden pairs. Raises RegistryError when they are damaged."""
    if FILE not in manifest.files:
        return None
    key = file_key(manifest, FILE)
    data, stated = registry.store.read(key), manifest.files[FILE].sha256
    if hashlib.sha256(data).hexdigest() != stated:
        raise RegistryError(
            f"the golden pairs of {manifest.name} were changed",
            where=registry.store.uri_of(key),
            expected=f"SHA-256 {stated}",
            do="restore that object from a backup",
        )
    return parse(json.loads(data))


def read(adapter: Path) -> Golden | None:
    """Returns the golden pairs in an adapter's folder, or None where there are none yet."""
    path = adapter / FILE
    return parse(json.loads(path.read_bytes())) if path.exists() else None


def parse(values: dict[str, Any]) -> Golden:
    """Parses the golden pairs of a `golden.json`. Raises RegistryError for values of another shape."""
    try:
        return _parsed(values)
    except (KeyError, TypeError, ValueError) as error:
        raise RegistryError(
            f"golden pairs can't be read: {error!r}", where=FILE, expected='{"answers": [yes, no], "rows": [{"ids", "p", …}]}'
        ) from error


def _parsed(values: dict[str, Any]) -> Golden:
    yes, no = values["answers"]
    rows = values["rows"]
    kept = all(name in row for row in rows for name in _TEXT)
    texts = tuple((row["task"], row["query"], row["target"], row["english"]) for row in rows) if kept else ()
    return Golden(
        (yes, no), tuple(tuple(row["ids"]) for row in rows), np.array([row["p"] for row in rows], dtype=np.float64), texts
    )
