"""*validate*: check the window with Great Expectations."""

from relevance_core.stages.validate.stage import run

__all__ = ["run"]
