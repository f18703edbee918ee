"""The committed evidence of two nights before and after the house was rebuilt."""

from __future__ import annotations

from typing import Final

from benchmarks.prove.house import differences, read
from tests.support.places import PROJECT

RESULTS: Final = PROJECT / "benchmarks" / "results"
FIELDS: Final = {"base.digest", "base.uri", "digest", "dtype", "format", "requires", "schema_version"}
"""The fields of a version's manifest that came, went, or follow from these; `base.uri` holds the key of the base."""


def test_rebuilding_the_house_changed_no_row_and_no_weight() -> None:
    """At default settings every table, adapter and release is the same; only keys, reports and named manifest fields differ."""
    found = differences(read(RESULTS / "house-8fc7c25.json"), read(RESULTS / "house.json"))
    assert found.data == []
    assert found.releases == []
    assert set(found.manifest) <= FIELDS
