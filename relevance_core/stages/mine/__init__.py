"""*mine*: find hard negatives."""

from relevance_core.stages.mine.stage import run

__all__ = ["run"]
