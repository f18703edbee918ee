"""The two committed files of evidence about two nights: by commit 8fc7c25, and by the commit after all modules were moved."""

from __future__ import annotations

from typing import Final

from benchmarks.prove.house import differences, read
from tests.support.places import PROJECT

RESULTS: Final = PROJECT / "benchmarks" / "results"
FIELDS: Final = {"base.digest", "base.uri", "digest", "dtype", "format", "requires", "schema_version"}
"""Fields of a version's manifest that were added or removed between the two commits, or that hold a digest or key of these."""


def test_both_committed_nights_have_the_same_rows_and_weights() -> None:
    """The files agree on every table, adapter and release; besides keys and reports only the manifest fields of FIELDS differ."""
    found = differences(read(RESULTS / "house-8fc7c25.json"), read(RESULTS / "house-5801862.json"))
    assert found.data == []
    assert found.releases == []
    assert set(found.manifest) <= FIELDS
