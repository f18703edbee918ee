"""The command `relevance`: every stage, the whole loop, and the tools around it."""

from relevance_core.cli.main import main

__all__ = ["main"]
