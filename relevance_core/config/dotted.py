"""Dotted names of settings, `train.epochs`: the value at a name, nested values of a name, and the merging of nested values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_REQUIRED: Final = object()


def value_at(values: Any, name: str, default: Any = _REQUIRED) -> Any:
    """Returns the value at a dotted name; "" names the whole.

    Args:
        values: nested plain values or settings.
        name: dotted.
        default: the answer where a step of the name is missing. Without it, KeyError or AttributeError is raised.
    """
    found = values
    for step in name.split(".") if name else ():
        try:
            found = found[step] if isinstance(found, Mapping) else getattr(found, step)
        except (KeyError, AttributeError):
            if default is _REQUIRED:
                raise
            return default
    return found


def nest(name: str, value: Any) -> dict[str, Any]:
    """Returns nested values with `value` at a dotted name: `{"train": {"epochs": 1}}`."""
    first, dot, rest = name.partition(".")
    return {first: nest(rest, value) if dot else value}


def merge(into: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `into` overlaid with `values`, merged at every level."""
    merged = dict(into)
    for key, value in values.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged
