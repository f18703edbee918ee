"""Serving of the registry's versions by vLLM: the plugin that resolves a version's name, servers, rollouts, the client."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relevance_core.serving.client import AsyncScoringClient, Pair, Scores, ScoringClient

__all__ = ["AsyncScoringClient", "Pair", "Scores", "ScoringClient"]


def __getattr__(name: str) -> Any:
    # vLLM imports this package for its plugin, in each of its processes: the client is loaded on first use.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from relevance_core.serving import client

    return getattr(client, name)
