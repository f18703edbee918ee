"""A run's record: opened, found again, and refused where today's stages would do something else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from relevance_core import config, loop
from relevance_core.errors import NotFound, SettingsError
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


def counted(method: Callable[[Store, str], Any], asked: list[str]) -> Callable[[Store, str], Any]:
    """The method of a store, which also notes the keys that it is called with."""

    def call(store: Store, key: str) -> Any:
        asked.append(key)
        return method(store, key)

    return call


def test_a_run_is_opened_by_a_single_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a run reads its record once and asks for nothing else; Airflow's name of the run is part of it."""
    pin(SETTINGS, store, "a", dag_run="manual__1")
    asked: list[str] = []
    for name in ("stream", "exists", "list"):
        monkeypatch.setattr(type(store), name, counted(getattr(type(store), name), asked))
    run = open_run(store, "a", config.Settings())
    assert (run.settings, run.dag_run) == (SETTINGS, "manual__1")
    assert asked == ["runs/a/run.json"]


def test_a_run_of_a_database_is_opened_without_its_url(store: Store) -> None:
    """The record holds no database URL: pages open such a run without any, and a stage gets this machine's."""
    with_url = config.build({"window": {"end": "2026-10-08"}, "source": {"sql": "SELECT 1", "connection": "sqlite:///a"}})
    pin(with_url, store, "a")
    assert "sqlite" not in store.read("runs/a/run.json").decode()
    assert open_run(store, "a", config.Settings()).settings.source.connection.get_secret_value() == ""
    assert open_run(store, "a", with_url).settings == with_url


def test_a_run_that_has_not_begun_is_named_with_the_newest(store: Store) -> None:
    """Opening a run that nobody began tells which runs there are."""
    pin(SETTINGS, store, "a")
    with pytest.raises(NotFound, match=r"no run 'b'.*expected: a"):
        open_run(store, "b", config.Settings())
