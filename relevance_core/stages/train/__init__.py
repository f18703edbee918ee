"""*train*: train the adapter."""

from relevance_core.stages.train.stage import run

__all__ = ["run"]
