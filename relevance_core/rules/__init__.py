"""The rules that rows and windows are held to, and their check by Great Expectations."""

from relevance_core.rules.expectations import (
    BATCH_RULES,
    BROKEN,
    MERGED_RULES,
    ROW_RULES,
    Checked,
    Rule,
    broken_rules,
    check,
    known_languages,
)

__all__ = ["BATCH_RULES", "BROKEN", "MERGED_RULES", "ROW_RULES", "Checked", "Rule", "broken_rules", "check", "known_languages"]
