"""A run's record: opened, found again, and refused where today's stages would do something else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relevance_core import config, loop
from relevance_core.errors import SettingsError
from relevance_core.runs.artifacts import Report, Rows
from relevance_core.runs.run import open_run, pin
from relevance_core.store import Store

SETTINGS = config.build({"tasks": "QC", "window": {"end": "2026-10-08"}})


def recorded(store: Store, part: str, **values: Any) -> None:
    """Begins the run *old*, and leaves these settings of a part in its record."""
    pin(SETTINGS, store, "old")
    record = json.loads(store.read("runs/old/run.json"))
    record["settings"].setdefault(part, {}).update(values)
    store.write("runs/old/run.json", json.dumps(record).encode())


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stages that were run, each in place of its own code."""
    names: list[str] = []

    def function(name: str) -> Any:
        return lambda settings, inputs, store: names.append(name) or Report(Rows(), stage=name)

    monkeypatch.setattr(loop, "stage_function", function)
    return names


def test_no_stage_of_a_run_with_a_lost_setting_is_run(store: Store, ran: list[str]) -> None:
    """A run begun with train.warm_start on is opened and reported on; its stages are refused with the setting's name."""
    recorded(store, "train", warm_start=True)
    for run in (open_run(store, "old", config.Settings()), pin(SETTINGS, store, "old")):
        with pytest.raises(SettingsError, match=r"run old was begun with settings that were removed") as error:
            loop.run_stage(run, "ingest")
        assert error.value.where == "train.warm_start=true"
        loop.run_stage(run, "report")
    assert ran == ["report", "report"]


def test_a_removed_setting_at_its_default_stops_nothing(store: Store, ran: list[str]) -> None:
    """A run of an earlier release that left the setting off goes on."""
    recorded(store, "train", warm_start=False)
    loop.run_stage(open_run(store, "old", config.Settings()), "ingest")
    assert ran == ["ingest"]
