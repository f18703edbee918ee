"""Where settings come from: a file, the environment, overrides; merged and built into `Settings`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from relevance_core.config.history import refuse, translate_record
from relevance_core.config.settings import Settings
from relevance_core.errors import SettingsError


def load(file: str | Path | None = None, overrides: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> Settings:
    """The settings from a TOML or YAML `file`, the environment's RELEVANCE_SETTINGS and `key=value` overrides, in that order.

    Raises SettingsError that names the setting, the value and what was expected.
    """
    values: dict[str, Any] = _read(Path(file)) if file else {}
    text = (environment or {}).get("RELEVANCE_SETTINGS", "")
    if text:
        try:
            values = merge(values, json.loads(text))
        except json.JSONDecodeError as error:
            raise SettingsError(f"RELEVANCE_SETTINGS is not JSON: {error}", expected="one JSON object") from error
    return build(merge(values, nested(overrides)))


def nested(overrides: Sequence[str]) -> dict[str, Any]:
    """The plain values that `key.of.a.part=value` texts stand for. Raises SettingsError for one without '='."""
    values: dict[str, Any] = {}
    for item in overrides:
        key, found, text = item.partition("=")
        if not found:
            raise SettingsError(f"setting {item!r} has no '='", expected="key=value, for example --set train.epochs=1")
        value: Any = _parse(text)
        for name in reversed(key.strip().split(".")):
            value = {name: value}
        values = merge(values, value)
    return values


def build(values: Mapping[str, Any]) -> Settings:
    """Settings from nested plain values. Raises SettingsError; for a renamed or removed setting it says what to do."""
    refuse(values)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "settings"
        given = "" if first["type"] == "extra_forbidden" else f" (given: {first['input']!r})"
        known = f"; known: {', '.join(_siblings(first['loc']))}" if first["type"] == "extra_forbidden" else ""
        raise SettingsError(f"{first['msg']}{given}{known}", where=name, do="see docs/settings.md for every setting") from error


def of_record(values: Mapping[str, Any]) -> Settings:
    """Settings from the nested plain values of a run's record, under the names of the time when it began. Raises SettingsError."""
    return build(translate_record(values))


def merge(into: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """`into` with `values` laid over it, part by part."""
    merged = dict(into)
    for key, value in values.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _siblings(loc: tuple[int | str, ...]) -> list[str]:
    model: Any = Settings
    for part in loc[:-1]:
        model = model.model_fields[str(part)].annotation
    return list(model.model_fields)


def _parse(text: str) -> Any:
    """A --set value: JSON where it is JSON, else the text itself."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise SettingsError("no such settings file", where=str(path), expected="a TOML or YAML file")
    text = path.read_text(encoding="utf-8")
    try:
        if path.suffix == ".toml":
            import tomllib

            return tomllib.loads(text)
        import yaml

        return dict(yaml.safe_load(text) or {})
    except (ValueError, TypeError) as error:
        raise SettingsError(f"cannot be parsed: {error}", where=str(path), expected="a TOML or YAML mapping") from error


def window_until(settings: Settings, end: date | datetime) -> Settings:
    """`settings` with the window's end set."""
    values = settings.model_dump()
    values["window"]["end"] = datetime(end.year, end.month, end.day) if not isinstance(end, datetime) else end
    return build(values)
