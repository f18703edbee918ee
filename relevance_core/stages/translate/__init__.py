"""*translate*: make training rows for new markets."""

from relevance_core.stages.translate.stage import run

__all__ = ["run"]
