"""The simulated marketplace that makes labelled logs for the demo and the tests: deterministic by seed and day."""

from relevance_core.tools.simulator.market import Day, Market, Spoil, catalogue, day, spoil, terms, write

__all__ = ["Day", "Market", "Spoil", "catalogue", "day", "spoil", "terms", "write"]
