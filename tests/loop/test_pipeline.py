"""What a stage of a run reads, by the run's settings."""

from __future__ import annotations

from typing import Any

import pytest

from relevance_core import config, loop


def before(name: str) -> set[str]:
    """Every stage that has finished when a stage begins, by the arrows that the DAG draws."""
    found = set(loop.NEEDS[name])
    return found.union(*(before(need) for need in found))


def test_by_default_a_stage_reads_what_the_picture_says() -> None:
    """Without further strategies nothing is read but NEEDS, so that what a store has finished keeps its names."""
    settings = config.Settings()
    assert {name: loop.needs(name, settings) for name in loop.NEEDS} == loop.NEEDS


@pytest.mark.parametrize(
    ("values", "stage", "more"),
    [
        ({"train": {"tapt": "other-task"}}, "train", "translate"),
    ],
)
def test_a_strategy_adds_no_arrow(values: dict[str, Any], stage: str, more: str) -> None:
    """What one stage reads besides has always finished before it, and no other stage reads anything else."""
    settings = config.build(values)
    changed = {name: loop.needs(name, settings) for name in loop.NEEDS if loop.needs(name, settings) != loop.NEEDS[name]}
    assert changed == {stage: (*loop.NEEDS[stage], more)}
    assert more in before(stage)
