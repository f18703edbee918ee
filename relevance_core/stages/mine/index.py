"""The nearest vectors by cosine: exact search for a small shop, approximate search for a large one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple

import faiss
import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Places = NDArray[np.int64]
Kind = Literal["flat", "ivf"]

_SAMPLE: Final = 1000
_TIE: Final = 1e-6
"""Rounding error of a similarity: vectors whose similarities differ by less are the same neighbour."""


class Near(NamedTuple):
    """The neighbours that a search found.

    places, similarity: (m, k), nearest first; the place -1 means none. recall: share of the exact neighbours found, on a sample; 1
    for exact search.
    """

    places: Places
    similarity: Vectors
    recall: float


def neighbours(vectors: Vectors, rows: Places, count: int, kind: Kind = "flat", threads: int = 1) -> Near:
    """Finds the nearest of the unit `vectors` to each of the vectors at `rows`, itself left out.

    Args:
        vectors: (n, d) unit vectors.
        rows: (m,) places of the vectors to search from.
        count: neighbours of each; min(count, n - 1) are returned.
        kind: flat is exact. ivf looks into the nearest of √n clusters (Sivic and Zisserman 2003); its recall is measured against
            flat for 1,000 of the rows.
        threads: of FAISS. The same vectors give the same neighbours.
    """
    found = search(build(vectors, kind, threads), vectors, rows, count)
    if kind == "flat":
        return Near(*found, 1.0)
    sample = np.unique(np.linspace(0, len(rows) - 1, min(_SAMPLE, len(rows)), dtype=np.int64))
    _, exact = search(build(vectors, "flat", threads), vectors, rows[sample], count)
    # By similarity, not by place: an index may name any of several equal vectors.
    hits = (found[1][sample] >= exact[:, -1:] - _TIE).sum()
    return Near(*found, float(hits) / exact.size if exact.size else 1.0)


def build(vectors: Vectors, kind: Kind, threads: int = 1) -> Any:
    """Builds the FAISS index of (n, d) unit vectors."""
    faiss.omp_set_num_threads(threads)
    return _INDEXES[kind](np.ascontiguousarray(vectors))


def search(index: Any, vectors: Vectors, rows: Places, count: int) -> tuple[Places, Vectors]:
    """Finds the nearest of `vectors` to each of those at `rows`, itself left out.

    Args:
        index: a FAISS index that holds `vectors`.
        vectors: (n, d) unit vectors.
        rows: (m,) places of the vectors to search from.
        count: neighbours of each, k = min(count, n - 1).

    Returns:
        Places and similarities, (m, k) each.
    """
    reach = min(count + 1, len(vectors))
    similarity, found = index.search(np.ascontiguousarray(vectors[rows]), reach)
    # A text may have a duplicate with the same vector, so the row itself is not always first; each row loses exactly one neighbour.
    own = found == rows[:, None]
    own[~own.any(axis=1), -1] = True
    shape = (len(rows), reach - 1)
    return found[~own].reshape(shape).astype(np.int64), similarity[~own].reshape(shape).astype(np.float32)


def similarities(left: Vectors, rows: NDArray[Any], right: Vectors, others: NDArray[Any]) -> Vectors:
    """Returns (n,) cosines: of each unit vector in `left[rows]` with the vector at the same position in `right[others]`."""
    found = np.empty(len(rows), dtype=np.float32)
    for start in range(0, len(rows), _AT_A_TIME):
        some = slice(start, start + _AT_A_TIME)
        found[some] = np.einsum("nd,nd->n", left[rows[some]], right[others[some]])
    return found


def _flat(vectors: Vectors) -> Any:
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return index


def _ivf(vectors: Vectors) -> Any:
    clusters = max(1, min(round(len(vectors) ** 0.5), len(vectors) // _TRAINED))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(vectors.shape[1]), vectors.shape[1], clusters, faiss.METRIC_INNER_PRODUCT)
    index.cp.max_points_per_centroid, index.cp.min_points_per_centroid = _TRAINED, 1
    index.cp.seed = _SEED
    index.train(vectors)
    index.add(vectors)
    index.nprobe = min(PROBED, clusters)
    return index


_INDEXES: Final[dict[Kind, Callable[[Vectors], Any]]] = {"flat": _flat, "ivf": _ivf}
_AT_A_TIME: Final = 20_000
"""Pairs of vectors gathered at a time: about 60 MB at 384 dimensions."""
_SEED: Final = 17
_TRAINED: Final = 40
"""Vectors to train a cluster on; FAISS warns below 39."""
PROBED: Final = 16
"""Clusters searched: on vectors made of a title's attributes 16 find all neighbours, 8 miss one in a hundred."""
