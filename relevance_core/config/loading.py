"""Loading of settings: a file, the environment and overrides, merged and built into `Settings`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from relevance_core.config.dotted import merge, nest
from relevance_core.config.history import refuse, translate_record
from relevance_core.config.refusals import told
from relevance_core.config.settings import Settings
from relevance_core.errors import SettingsError

VARIABLE: Final = "RELEVANCE_SETTINGS"
"""The variable of the environment that holds settings."""


def load(file: str | Path | None = None, overrides: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> Settings:
    """Loads settings from a TOML or YAML `file`, the environment's RELEVANCE_SETTINGS and `key=value` overrides; the later wins.

    Raises SettingsError that names the setting, the value and what was expected.
    """
    values = {} if file is None else _read_file(Path(file))
    text = (environment or {}).get(VARIABLE, "")
    if text:
        values = merge(values, _table(lambda: json.loads(text.encode(), object_pairs_hook=_once), VARIABLE, "one JSON object"))
    return build(merge(values, nested(overrides)))


def nested(overrides: Sequence[str]) -> dict[str, Any]:
    """Parses `key.of.a.part=value` texts into nested plain values. Raises SettingsError for a text without a name or '='."""
    values: dict[str, Any] = {}
    for item in overrides:
        key, found, text = item.partition("=")
        if not found or ".." in f".{key.strip()}.":
            problem = "has no name" if found else "has no '='"
            raise SettingsError(f"setting {item!r} {problem}", expected="key=value, for example --set train.epochs=1")
        values = merge(values, nest(key.strip(), _parse(text)))
    return values


def build(values: Mapping[str, Any]) -> Settings:
    """Builds settings from nested plain values. Raises SettingsError; for a renamed or removed setting it carries the remedy."""
    refuse(values)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        unknown = first["type"] == "extra_forbidden"
        what, expected = ("there is no such setting", f"known: {', '.join(_siblings(first['loc']))}") if unknown else told(first)
        where = ".".join(str(part) for part in first["loc"]) or "settings"
        raise SettingsError(what, where=where, expected=expected, do="see docs/settings.md for every setting") from error


def of_record(values: Mapping[str, Any]) -> Settings:
    """Builds settings from a run's record, which has the names of the release that began the run. Raises SettingsError."""
    return build(translate_record(values))


def _siblings(loc: tuple[int | str, ...]) -> list[str]:
    model: Any = Settings
    for part in loc[:-1]:
        model = model.model_fields[str(part)].annotation
    return list(model.model_fields)


def _parse(text: str) -> Any:
    """Parses a --set value as JSON, or takes it as text where it is not JSON."""
    try:
        return json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return text


def _read_file(path: Path) -> dict[str, Any]:
    """Reads a settings file. Raises SettingsError, whatever the reason why it can't be read."""
    return _table(
        lambda: (_toml if path.suffix == ".toml" else _yaml)(path.read_bytes().decode()), str(path), "a TOML or YAML file"
    )


def _toml(text: str) -> Any:
    import tomllib

    return tomllib.loads(text)


def _yaml(text: str) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """Takes no name twice in a mapping."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            _distinct([key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)])
            return super().construct_mapping(node, deep)

    try:
        found = yaml.load(text, Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(error) from error
    return {} if found is None else found


def _table(read: Callable[[], Any], where: str, expected: str) -> dict[str, Any]:
    """Returns what `read` returns, a table. Raises SettingsError for anything else, and where it can't be read."""
    do = "correct it; docs/settings.md has every setting"
    try:
        found = read()
    except OSError as error:
        what = "there is no such file" if isinstance(error, FileNotFoundError) else f"the file can't be read: {error.strerror}"
        raise SettingsError(what, where=where, expected=expected, do="correct the path, or the file's rights") from error
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"it can't be parsed: {error}", where=where, expected=expected, do=do) from error
    if not isinstance(found, dict):
        raise SettingsError("it holds no table of settings", where=where, expected=expected, do=do)
    return found


def _once(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """Returns a JSON object. Raises ValueError for a name that stands there twice."""
    _distinct([name for name, _ in pairs])
    return dict(pairs)


def _distinct(names: list[Any]) -> None:
    if twice := [repr(name) for name in names if names.count(name) > 1]:
        raise ValueError(f"{twice[0]} stands there twice")


def window_until(settings: Settings, end: date | datetime) -> Settings:
    """Returns `settings` with the window's end set to `end`: a moment, or the start of a day (UTC)."""
    values = settings.model_dump()
    values["window"]["end"] = datetime(end.year, end.month, end.day) if not isinstance(end, datetime) else end
    return build(values)
