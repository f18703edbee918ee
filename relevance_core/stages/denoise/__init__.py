"""*denoise*: find wrong labels."""

from relevance_core.stages.denoise.stage import run

__all__ = ["run"]
