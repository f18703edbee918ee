"""Memories: tables of computed results in the store, which are appended to and never changed.

A memory is a prefix of the store that holds Parquet segments, each named by the digest of its bytes and created once, so that any
number of runs can write at the same time. Two runs that computed the same result leave two segments; readers take either.
The prefix names all else that the results depend on: a translator's version, a model's weights.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass

import polars as pl

from relevance_core.errors import StoreError
from relevance_core.store import Store

_SUFFIX = ".parquet"
_DIGITS = 32


@dataclass(frozen=True)
class Memory:
    """The table of results below a prefix of the store, one row per `key`.

    key: the name of the column that was looked up; every other column is the result.
    """

    store: Store
    prefix: str
    key: str

    def recall(self, wanted: pl.Series) -> pl.DataFrame | None:
        """Returns the rows whose key is in `wanted`, one per key, sorted by key; None while the memory is empty.

        All segments are read, so look keys up in bulk, never singly. Raises StoreError for a damaged segment.
        """
        wanted = wanted.unique()
        return self._rows(pl.col(self.key).is_in(wanted.implode()))

    def everything(self) -> pl.DataFrame | None:
        """Returns all rows, in the form of `recall`, for a process that looks keys up singly and has room for the table."""
        return self._rows(pl.lit(True))

    def learn(self, rows: pl.DataFrame) -> None:
        """Appends `rows` as one segment; no rows, no segment."""
        if rows.is_empty():
            return
        stream = io.BytesIO()
        rows.sort(self.key).write_parquet(stream, compression="zstd")
        data = stream.getvalue()
        self.store.create(f"{self.prefix}/{_digest(data)}{_SUFFIX}", data)

    def _rows(self, which: pl.Expr) -> pl.DataFrame | None:
        segments = [entry.key for entry in self.store.list(self.prefix + "/") if entry.key.endswith(_SUFFIX)]
        found = [self._segment(key).filter(which) for key in segments]
        return pl.concat(found).unique(self.key, keep="first", maintain_order=True).sort(self.key) if found else None

    def _segment(self, key: str) -> pl.DataFrame:
        data = self.store.read(key)
        if key != f"{self.prefix}/{_digest(data)}{_SUFFIX}":
            raise StoreError(
                "a segment of a memory is damaged",
                where=self.store.uri_of(key),
                expected="content whose sha256 begins with the file's name",
                do="delete the file: what it held is computed again",
            )
        return pl.read_parquet(io.BytesIO(data))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:_DIGITS]
