"""Loading of settings: a file, the environment and overrides, merged and built into `Settings`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from relevance_core.config.dotted import merge, nest
from relevance_core.config.history import refuse, translate_record
from relevance_core.config.settings import Settings
from relevance_core.errors import SettingsError


def load(file: str | Path | None = None, overrides: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> Settings:
    """Loads settings from a TOML or YAML `file`, the environment's RELEVANCE_SETTINGS and `key=value` overrides; the later wins.

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
    """Parses `key.of.a.part=value` texts into nested plain values. Raises SettingsError for a text without '='."""
    values: dict[str, Any] = {}
    for item in overrides:
        key, found, text = item.partition("=")
        if not found:
            raise SettingsError(f"setting {item!r} has no '='", expected="key=value, for example --set train.epochs=1")
        values = merge(values, nest(key.strip(), _parse(text)))
    return values


def build(values: Mapping[str, Any]) -> Settings:
    """Builds settings from nested plain values. Raises SettingsError; for a renamed or removed setting it carries the remedy."""
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
    """Returns `settings` with the window's end set to `end`: a moment, or the start of a day (UTC)."""
    values = settings.model_dump()
    values["window"]["end"] = datetime(end.year, end.month, end.day) if not isinstance(end, datetime) else end
    return build(values)
