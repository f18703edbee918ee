"""Settings: checked when built, merged in a documented order, and documented."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from relevance_core import config
from relevance_core.config.table import as_markdown
from relevance_core.errors import SettingsError
from tests.support.places import DOCS

HEAVY = (
    *("torch", "transformers", "peft", "numpy", "polars", "pandas", "pyarrow"),
    *("boto3", "great_expectations", "sqlalchemy", "airflow", "faiss", "vllm"),
)


def test_the_later_source_of_a_setting_wins(tmp_path: Path) -> None:
    """A file is laid over the defaults, the environment over the file, --set over both."""
    file = tmp_path / "loop.toml"
    file.write_text("seed = 1\n[train]\nepochs = 1\nr = 8\n")
    settings = config.load(file, ["train.r=4"], {"RELEVANCE_SETTINGS": '{"seed": 2, "train": {"r": 6}}'})
    assert (settings.seed, settings.train.epochs, settings.train.r) == (2, 1, 4)


@pytest.mark.parametrize(
    ("override", "where"),
    [("train.epoch=1", "train.epoch"), ("gate.min_f1=3", "gate.min_f1"), ("tasks=QX", "tasks.0"), ("onboard=German", "onboard.0")],
)
def test_a_setting_that_cannot_be_meant_is_refused_by_name(override: str, where: str) -> None:
    """An unknown name or a value out of bounds raises an error that names the setting."""
    with pytest.raises(SettingsError) as caught:
        config.load(overrides=[override])
    assert caught.value.where == where


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    """A misspelt setting's error lists the names beside it."""
    with pytest.raises(SettingsError, match="known: r, alpha, dropout"):
        config.load(overrides=["train.epoch=1"])


def test_the_window_ends_where_it_is_told() -> None:
    """Without a start the fresh window is `days` long and history reaches `history_days` before it."""
    window = config.load(overrides=["window.end=2026-10-08", "window.days=2", "window.history_days=3"]).window
    assert window.bounds() == (datetime(2026, 10, 6, tzinfo=UTC), datetime(2026, 10, 8, tzinfo=UTC))
    assert window.history_start() == datetime(2026, 10, 3, tzinfo=UTC)


def test_a_window_is_never_derived_from_the_clock() -> None:
    """A run without a window end is refused."""
    with pytest.raises(SettingsError, match="no end"):
        config.load().window.bounds()


def test_a_database_password_is_never_dumped() -> None:
    """The connection's URL is masked wherever settings are printed or stored."""
    settings = config.load(overrides=["source.connection=postgresql://u:hunter2@db/x"])
    assert "hunter2" not in settings.model_dump_json() + repr(settings)


def test_strategies_that_are_off_are_not_written() -> None:
    """Settings that came later leave a store's runs and outputs their names: off, they are not dumped; on, they are read again."""
    written = config.build({"train": {"tapt": "off"}, "mine": {"easy_top": 100}}).model_dump(mode="json", exclude={"source"})
    assert written == config.Settings().model_dump(mode="json", exclude={"source"})
    assert {"tapt", "tapt_epochs"}.isdisjoint(written["train"])
    on = {"train": {"tapt": "other-task", "tapt_epochs": 2}}
    again = config.build(config.build(on).model_dump(mode="json", exclude={"source"}))
    assert (again.train.tapt, again.train.tapt_epochs) == ("other-task", 2)


def test_settings_import_nothing_heavy() -> None:
    """A DAG file may import the settings: none of the package's modules brings in a library that takes long to load."""
    modules = [f"relevance_core.config.{path.stem}" for path in Path(config.__file__).parent.glob("[!_]*.py")]
    assert "relevance_core.config.table" in modules
    code = f"import sys, {', '.join(modules)}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_settings_page_is_what_the_code_says() -> None:
    """docs/settings.md is the output of `relevance settings`."""
    page = DOCS / "settings.md"
    assert page.read_text(encoding="utf-8") == as_markdown()


def test_a_value_is_found_by_its_dotted_name() -> None:
    """In settings and in plain values; "" names the whole, and a name that leads nowhere raises or gives the default."""
    settings, plain = config.build({"train": {"r": 8}}), {"train": {"r": 8, "text": "r"}}
    assert config.value_at(settings, "train.r") == config.value_at(plain, "train.r") == 8
    assert config.value_at(plain, "") is plain
    assert [config.value_at(plain, name, None) for name in ("train.q", "q.r", "train.r.q")] == [None, None, None]
    with pytest.raises(KeyError):
        config.value_at(plain, "train.q")
    with pytest.raises(AttributeError):
        config.value_at(settings, "train.q")


def test_a_dotted_name_is_nested() -> None:
    """A name with three steps gives three levels, a name with a single step a single one."""
    assert (config.nest("a.b.c", 1), config.nest("a", {})) == ({"a": {"b": {"c": 1}}}, {"a": {}})
