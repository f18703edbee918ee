"""The evidence of two nights and a rollback, before and after the package was laid out anew."""

from __future__ import annotations

from typing import Final

from benchmarks.prove.house import differences, read
from tests.support.places import PROJECT

RESULTS: Final = PROJECT / "benchmarks" / "results"
FIELDS: Final = {"base.digest", "base.uri", "digest", "dtype", "format", "requires", "schema_version"}
"""The fields of a version's manifest that are new, gone, or computed from such a field; `base.uri` holds the key of the base."""


def test_the_new_layout_changed_no_row_and_no_weight() -> None:
    """At default settings every table, adapter and release is the same; only keys, reports and named manifest fields differ."""
    found = differences(read(RESULTS / "house-8fc7c25.json"), read(RESULTS / "house.json"))
    assert found.data == []
    assert found.releases == []
    assert set(found.manifest) <= FIELDS
