"""The dotted names of all settings."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from relevance_core.config import Settings


def setting_names(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[str]:
    """The names of a part's settings and of those in its parts, `base.builtin.hidden`."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from setting_names(kind, f"{prefix}{name}.")
        else:
            yield prefix + name
