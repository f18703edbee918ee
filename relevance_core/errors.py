"""The package's errors: one root; each kind also inherits the standard library's error that it specialises.

A message answers four questions in one line: what was wrong, where, what was expected, what to do. `exit_code` is the status with
which a command ends; `permanent` marks an error that is not retryable, so that a scheduler gives up at once.
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
    """An invalid setting, parameter or argument."""

    exit_code = 64


class DataError(RelevanceError, ValueError):
    """Input rows that can't be read as labelled pairs."""

    exit_code = 65


class ValidationFailed(DataError):
    """A window that breaks a batch rule of the *validate* stage."""


class NotFound(RelevanceError, LookupError):
    """A named thing that does not exist: a key, a version, a run, a stage's output."""

    exit_code = 66


class ModelError(RelevanceError, RuntimeError):
    """A base model, adapter or tokenizer that is missing, damaged or does not fit its use."""

    exit_code = 67


class RegistryError(RelevanceError, ValueError):
    """A version or alias that breaks the registry's contract."""

    exit_code = 68


class ProgramError(RelevanceError, AssertionError):
    """A stage that breaks a rule of the loop, whatever its rows and settings: its code has to be changed."""

    exit_code = 70


class StoreError(RelevanceError, OSError):
    """The object store refused or failed: credentials, network, a full disk."""

    exit_code = 74
    permanent = False


class Conflict(StoreError):
    """Somebody else changed the state that this call was about to change."""

    exit_code = 75
    permanent = True


class ServingError(RelevanceError, ConnectionError):
    """A vLLM server that is unreachable, refuses a request, or answers with wrong scores."""

    exit_code = 69
    permanent = False
