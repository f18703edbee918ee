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


@pytest.mark.parametrize(
    ("override", "what", "expected"),
    [
        ("train.epochs=inf", "'inf' is no finite number", "a number"),
        ("train.epochs=1e400", "inf is no finite number", "a number"),
        ("gate.min_gain=-Infinity", "-inf is no finite number", "a number"),
        ("translate.length_ratio=[0.2,Infinity]", "inf is no finite number", "a number"),
        ("translate.length_ratio=0.2", "0.2 is no list", "a list: a,b or [a, b]"),
        ("translate.length_ratio=5,1", "the low bound 5 is not below the high bound 1, or it is negative", ""),
        ("split.dev_share=0", "0 is out of bounds", "a number > 0"),
        ("split.dev_share=1", "1 is out of bounds", "a number < 1"),
        ("seed=true", "'true' is no whole number", "a whole number"),
        ("seed=-1", "-1 is out of bounds", "a number ≥ 0"),
        ("train.epochs=true", "'true' is no number", "a number"),
        ("train.r=1.5", "1.5 is no whole number", "a whole number"),
        ("train=5", "5 is no table", "a table of settings"),
        ("mine.enabled=maybe", "'maybe' is neither true nor false", "true or false"),
        ("mine.index=tree", "'tree' is unknown", "'auto', 'flat' or 'ivf'"),
        ("onboard=German", "'German' has another form", "a language's two lower-case letters, such as de"),
        ("serving.endpoints=nonsense", "'nonsense' has another form", "an address such as http://10.0.0.5:8000"),
        ("source.uri=5", "5 is no text", "a text in quotes"),
        ("window.end=soon", "'soon' is no date or time", "YYYY-MM-DD, or with a time YYYY-MM-DDTHH:MM"),
        ("base.builtin.hidden=65", "65 is out of bounds", "a multiple of 64"),
        ("=5", "setting '=5' has no name", "key=value, for example --set train.epochs=1"),
        ("train..r=5", "setting 'train..r=5' has no name", "key=value, for example --set train.epochs=1"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_in_plain_words(override: str, what: str, expected: str) -> None:
    """The error says what is wrong with the value and what was expected; every number is finite."""
    with pytest.raises(SettingsError) as caught:
        config.load(overrides=[override])
    assert (caught.value.what, caught.value.expected) == (what, expected)


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("bad.yaml", b"seed: [1", "it can't be parsed: while parsing a flow sequence"),
        ("unsafe.yaml", b"seed: !!python/object/apply:os.getcwd []", "it can't be parsed: could not determine a constructor"),
        ("twice.yaml", b"seed: 1\nseed: 2", "it can't be parsed: 'seed' stands there twice"),
        ("list.yaml", b"- seed", "it holds no table of settings"),
        ("deep.yaml", b"[" * 5000, "it can't be parsed: "),
        ("bad.toml", b"seed = ", "it can't be parsed: "),
        ("latin.toml", b"# f\xfcr", "it can't be parsed: 'utf-8' codec can't decode"),
        ("latin.yaml", b"# f\xfcr", "it can't be parsed: 'utf-8' codec can't decode"),
        ("file/below.yaml", None, "the file can't be read: Not a directory"),
        (".", None, "the file can't be read: Is a directory"),
        ("l" * 300, None, "the file can't be read: File name too long"),
        ("none.yaml", None, "there is no such file"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_wrong_setting(name: str, content: bytes | None, what: str, tmp_path: Path) -> None:
    """Whatever the reason, the error names the file and has the status of settings, 64."""
    (tmp_path / "file").touch()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        config.load(tmp_path / name)
    assert caught.value.what.startswith(what)
    assert (caught.value.where, caught.value.exit_code) == (str(tmp_path / name), 64)


@pytest.mark.parametrize(
    "text", ["[1]", "5", "{", '{"seed": 1, "seed": 2}', "[" * 100_000, '{"seed": "\udcff"}', '{"seed": Infinity}']
)
def test_a_variable_that_is_no_table_is_a_wrong_setting(text: str) -> None:
    """RELEVANCE_SETTINGS is one JSON object with each name once."""
    with pytest.raises(SettingsError) as caught:
        config.load(environment={"RELEVANCE_SETTINGS": text})
    assert caught.value.where in ("RELEVANCE_SETTINGS", "seed")


def test_a_merge_key_of_yaml_is_read(tmp_path: Path) -> None:
    """`<<` takes the names of another mapping; a name beside it wins and is not there twice."""
    (tmp_path / "loop.yaml").write_text("train:\n  <<: {epochs: 1, r: 8}\n  r: 4\n")
    train = config.load(tmp_path / "loop.yaml").train
    assert (train.epochs, train.r) == (1, 4)


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


@pytest.mark.parametrize("number", ["20261015", "1760486400", "1760486400.5"])
def test_a_window_does_not_end_at_a_number(number: str) -> None:
    """20261015 would be a day of August 1970, in seconds."""
    with pytest.raises(SettingsError, match="a number is no moment"):
        config.load(None, [f"window.end={number}"])
