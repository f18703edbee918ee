"""One root error; each kind also inherits the standard library's error that it specialises.

A message answers four questions in one line: what was wrong, where, what was expected, what to do. `exit_code` is the status with
which a command ends; `permanent` says that trying again can't heal it, so that a scheduler does not.
"""

from __future__ import annotations

import functools
from typing import Any


class RelevanceError(Exception):
    """The root of every error that this package raises on purpose."""

    exit_code = 1
    permanent = True

    def __init__(self, what: str, *, where: str = "", expected: str = "", do: str = "") -> None:
        self.what, self.where, self.expected, self.do = what, where, expected, do
        parts = [what]
        if where:
            parts.append(f"where: {where}")
        if expected:
            parts.append(f"expected: {expected}")
        if do:
            parts.append(f"what to do: {do}")
        super().__init__("; ".join(parts))

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors cross processes: rebuilt from their four answers, not from the joined message.
        return functools.partial(type(self), where=self.where, expected=self.expected, do=self.do), (self.what,)


class SettingsError(RelevanceError, ValueError):
    """A setting, parameter or argument that can't be meant."""

    exit_code = 64


class DataError(RelevanceError, ValueError):
    """Input rows that can't be read as labelled pairs."""

    exit_code = 65


class ValidationFailed(DataError):
    """A batch rule of the *validate* stage that the window breaks."""


class NotFound(RelevanceError, LookupError):
    """Something named that is not there: a key, a version, a run, a stage's output."""

    exit_code = 66


class ModelError(RelevanceError, RuntimeError):
    """A base model, adapter or tokenizer that does not fit what was asked of it."""

    exit_code = 67


class RegistryError(RelevanceError, ValueError):
    """A version or alias that breaks the registry's contract."""

    exit_code = 68


class StoreError(RelevanceError, OSError):
    """The object store refused or failed: credentials, network, a full disk."""

    exit_code = 74
    permanent = False


class Conflict(StoreError):
    """Somebody else changed what this call was about to change."""

    exit_code = 75
    permanent = True


class ServingError(RelevanceError, ConnectionError):
    """A vLLM server that is not there, refuses, or answers with other scores than it should."""

    exit_code = 69
    permanent = False
