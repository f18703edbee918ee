"""What has been computed once and is kept for ever: tables of results in the store, appended to and never changed.

A memory is a prefix of the store that holds Parquet segments, each named by the digest of its bytes and created once, so that any
number of runs can write to it at the same time: two that computed the same thing leave two segments and a reader takes either.
What the results depend on besides the text (a translator's version, a model's weights) is part of the prefix.
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
    """The table of results below a prefix of the store, one row a `key`.

    key: the name of the column that holds what was asked; every other column is the answer.
    """

    store: Store
    prefix: str
    key: str

    def recall(self, wanted: pl.Series) -> pl.DataFrame | None:
        """The rows whose key is in `wanted`, one a key, sorted by key; None while the memory is empty.

        All segments are read: a memory is looked up in bulk, never text by text. Raises StoreError for a damaged segment.
        """
        wanted = wanted.unique()
        return self._rows(pl.col(self.key).is_in(wanted.implode()))

    def everything(self) -> pl.DataFrame | None:
        """All rows, as `recall` gives them: for a process that is asked text by text and can hold them."""
        return self._rows(pl.lit(True))

    def learn(self, rows: pl.DataFrame) -> None:
        """Keeps `rows`; none is no segment."""
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
