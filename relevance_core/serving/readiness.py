"""When a server is ready for a version: it is healthy, it lists the version's name, and it gives the golden pairs their scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from relevance_core.config import ServingSettings
from relevance_core.errors import ServingError
from relevance_core.registry import Manifest
from relevance_core.registry.golden import Golden

if TYPE_CHECKING:
    import numpy.typing as npt

    from relevance_core.serving.wire import Server

TOLERANCE = {"float32": 1e-3, "bfloat16": 3e-2}
"""Largest difference of p(yes) to the trainer's, by dtype."""


def tolerance_of(settings: ServingSettings, dtype: str | None, trained: str | None) -> float:
    """The bound in force: `serving.tolerance`, else that of the coarser dtype of the two.

    dtype: the server's. trained: the version's. One that is not told counts as float32.
    """
    return settings.tolerance or max(TOLERANCE[dtype or "float32"], TOLERANCE[trained or "float32"])


def check(server: Server, manifest: Manifest, golden: Golden, settings: ServingSettings) -> tuple[float, float]:
    """Lets a server score the golden pairs of a version under its name, which loads it there.

    Returns the largest difference to the trainer's p(yes), and the bound. Raises ServingError when the server is not healthy,
    refuses the version, does not list it afterwards, or scores a pair further away than the bound.
    """
    if not server.healthy():
        raise ServingError("the server is not healthy", where=server.url, expected="/health with 200")
    tolerance = tolerance_of(settings, server.dtype(), manifest.dtype)
    scores = server.score(manifest.name, golden.prompts, golden.answers)
    largest = compare(scores, manifest, golden, tolerance, server.url)
    if manifest.name not in server.adapters():
        raise ServingError(f"the server answers for {manifest.name} but does not list it", where=server.url)
    return largest, tolerance


def compare(scores: npt.NDArray[np.float64], manifest: Manifest, golden: Golden, tolerance: float, where: str) -> float:
    """The largest difference between scores and golden ones. Raises ServingError above the tolerance, or for a NaN."""
    differences = np.abs(scores - golden.p)
    largest = float(differences.max(initial=0.0))
    if not largest <= tolerance:  # a NaN compares to nothing
        worst = int(np.nanargmax(differences)) if np.isfinite(differences).any() else 0
        raise ServingError(
            f"{manifest.name} answers {scores[worst]:.6f} to golden pair {worst}, where it was trained {golden.p[worst]:.6f}",
            where=where,
            expected=f"a difference of at most {tolerance:g}",
            do="see that the server runs the base of the manifest, in its dtype; the version does not serve before",
        )
    return largest
