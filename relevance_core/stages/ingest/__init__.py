"""*ingest*: read the labelled logs, a day at a time, and merge the days of window and history."""

from relevance_core.stages.ingest.stage import fingerprint, run

__all__ = ["fingerprint", "run"]
