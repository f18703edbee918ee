"""A view of the settings that shows a stage's body only the settings its stage names."""

from __future__ import annotations

import types
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from relevance_core.errors import ProgramError


class UnnamedSetting(ProgramError, AttributeError):
    """A body read a setting that its stage does not name; the output's key would not have covered it."""


class Narrowed:
    """The settings of a part, or of all parts, that lie at or below one of `names` (dotted).

    Reading any other raises UnnamedSetting. Methods of the part work as long as they read named settings.
    """

    def __init__(self, part: BaseModel, names: frozenset[str], reader: str, path: str = "") -> None:
        self._part, self._names, self._reader, self._path = part, names, reader, path

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        kind = type(self._part)
        if name not in kind.model_fields:
            method = getattr(kind, name)
            return types.MethodType(method, self) if callable(method) else method.__get__(self)
        dotted = f"{self._path}{name}"
        if any(f"{dotted}.".startswith(f"{named}.") for named in self._names):
            return getattr(self._part, name)
        if any(named.startswith(f"{dotted}.") for named in self._names):
            return Narrowed(getattr(self._part, name), self._names, self._reader, f"{dotted}.")
        raise UnnamedSetting(
            f"{self._reader} reads the setting {dotted}, which it does not name",
            expected=", ".join(sorted(self._names)) or "no setting",
            do="name it in `uses` of the stage's decorator, or in `machine` if its output does not depend on it",
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return Narrowed, (self._part, self._names, self._reader, self._path)

    def values(self) -> dict[str, Any]:
        """Returns the named fields of this part with their values."""
        fields = (name for name in type(self._part).model_fields if self._shows(name))
        return {name: getattr(self, name) for name in fields}

    def _shows(self, name: str) -> bool:
        dotted = f"{self._path}{name}."
        return any(dotted.startswith(f"{named}.") or named.startswith(dotted) for named in self._names)


def narrow(settings: BaseModel, names: Iterable[str], reader: str) -> Any:
    """Returns a view of `settings` that shows only those at or below `names`. reader: named in the error on reading any other."""
    return Narrowed(settings, frozenset(names), reader)
