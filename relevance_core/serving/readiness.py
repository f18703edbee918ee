"""Readiness of a server for a version: it is healthy, lists the version's name, and reproduces the scores of the golden pairs."""

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
    """Returns the bound in force: `serving.tolerance`, else that of the coarser of two dtypes.

    Args:
        settings: of serving.
        dtype: the server's; None counts as float32.
        trained: the version's; None counts as float32.
    """
    return settings.tolerance or max(TOLERANCE[dtype or "float32"], TOLERANCE[trained or "float32"])


def check(server: Server, manifest: Manifest, golden: Golden, settings: ServingSettings) -> tuple[float, float]:
    """Lets a server score the golden pairs of a version under its name, which loads it there.

    Args:
        server: the server to check.
        manifest: of the version.
        golden: its golden pairs.
        settings: of serving.

    Returns:
        The largest difference to the trainer's p(yes), and the bound.

    Raises:
        ServingError: the server is not healthy, refuses the version, does not list it afterwards, or exceeds the bound for a pair.
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
    """Returns the largest difference between scores and golden scores.

    Args:
        scores: p(yes) of the golden pairs.
        manifest: of the version.
        golden: its golden pairs.
        tolerance: the bound.
        where: the server, for the error.

    Raises:
        ServingError: a difference is above the tolerance, or a score is NaN.
    """
    differences = np.abs(scores - golden.p)
    largest = float(differences.max(initial=0.0))
    if not largest <= tolerance:  # every comparison with a NaN is false
        worst = int(np.nanargmax(differences)) if np.isfinite(differences).any() else 0
        raise ServingError(
            f"{manifest.name} answers {scores[worst]:.6f} to golden pair {worst}, where it was trained {golden.p[worst]:.6f}",
            where=where,
            expected=f"a difference of at most {tolerance:g}",
            do="see that the server runs the base of the manifest, in its dtype; the version does not serve before",
        )
    return largest
