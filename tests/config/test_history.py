"""Settings that are no more: refused by name where people give them, read where an old run recorded them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from relevance_core import config
from relevance_core.config.history import OLD_DEFAULTS, REMOVED, RENAMED
from relevance_core.errors import SettingsError
from tests.support.setting_names import setting_names


@pytest.mark.parametrize(
    ("given", "where", "do"),
    [
        ({"base": {"hidden": 64}}, "base.hidden", "set base.builtin.hidden"),
        ({"train": {"shared": False}}, "train.shared", "leave it out: one adapter for all tasks gained nothing"),
    ],
)
def test_a_setting_that_is_no_more_is_refused_by_name(given: dict[str, Any], where: str, do: str, tmp_path: Path) -> None:
    """In a file, in RELEVANCE_SETTINGS and with --set it is named, and the error says what to do."""
    ((part, values),) = given.items()
    ((name, value),) = values.items()
    file = tmp_path / "settings.toml"
    file.write_text(f"[{part}]\n{name} = {json.dumps(value)}\n")
    ways: list[dict[str, Any]] = [
        {"file": file},
        {"environment": {"RELEVANCE_SETTINGS": json.dumps(given)}},
        {"overrides": [f"{part}.{name}={json.dumps(value)}"]},
    ]
    for way in ways:
        with pytest.raises(SettingsError) as error:
            config.load(**way)
        assert error.value.where == where
        assert error.value.do.startswith(do)


def test_what_is_said_of_a_lost_setting_is_true() -> None:
    """A renamed setting leads to a setting that there is; neither it nor a removed one, nor a removed value, is taken any more."""
    known = set(setting_names())
    assert set(RENAMED.values()) <= known
    for old in (*RENAMED, *REMOVED):
        name, _, value = old.partition("=")
        assert value or not any(setting == name or setting.startswith(f"{name}.") for setting in known)
        with pytest.raises(SettingsError):
            config.build(config.nested([f"{name}={value}"]))


def test_the_record_of_an_old_run_is_read() -> None:
    """Renamed settings keep their values under today's names, removed ones go, whatever their value; the record stays as it is."""
    old = {"seed": 3, "base": {"model": "builtin:tiny", "hidden": 64, "layers": 1}, "train": {"r": 8, "shared": True}}
    given = json.dumps(old)
    found = config.of_record(old)
    assert (found.seed, found.train.r) == (3, 8)
    assert (found.base.builtin.hidden, found.base.builtin.layers, found.base.builtin.documents) == (64, 1, None)
    assert config.of_record(found.model_dump(mode="json", exclude={"source"})) == found
    assert json.dumps(old) == given


def test_a_value_that_is_no_more_leaves_the_default_in_an_old_record() -> None:
    """Of a setting whose other values stay only the removed value goes, alone or in a list."""
    old = {"train": {"tapt": "text"}, "translate": {"sources": ["auto"]}, "mine": {"index": "hnsw", "top_k": 5}}
    found = config.of_record(old)
    assert (found.train.tapt, found.translate.sources, found.mine.index, found.mine.top_k) == ("off", (), "auto", 5)
    kept = config.of_record({"train": {"tapt": "other-task"}, "translate": {"sources": ["es"]}, "mine": {"index": "ivf"}})
    assert (kept.train.tapt, kept.translate.sources, kept.mine.index) == ("other-task", ("es",), "ivf")


def test_a_removed_setting_that_mattered_is_lost() -> None:
    """Of an old record the removed values, and removed settings off their old default, are named; the others changed nothing."""
    old = {"train": {"shared": True, "warm_start": False}, "mine": {"index": "hnsw", "skip_ranks": 0, "ratios": {"QI": {"de": 1}}}}
    assert config.lost(old) == ("mine.index=hnsw", "train.shared=true", 'mine.ratios={"QI": {"de": 1}}')
    assert config.lost({"augment": {"enabled": True, "share": 0.2}}) == ("augment.enabled=true",)
    assert config.lost({"augment": {"enabled": False}, "base": {"hidden": 64}, "mine": {"index": "ivf"}}) == ()
    assert config.lost(config.Settings().model_dump(mode="json")) == ()


def test_every_removed_setting_has_its_old_default() -> None:
    """A removed setting is in the table of old defaults; a removed part is there by its switch, a removed value not at all."""
    named = {next(old for old in REMOVED if name == old or name.startswith(f"{old}.")) for name in OLD_DEFAULTS}
    assert named == {old for old in REMOVED if "=" not in old}
