"""Notifiers as a deployment may name them: one that keeps what it is told in a file, and one that never gets through."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow.sdk import BaseNotifier


class Recorder(BaseNotifier):
    """Writes its message, rendered as a template like those of the providers, as a line of a file."""

    template_fields: Sequence[str] = ("message",)

    def __init__(self, file: str, message: str, context: Any = None) -> None:
        super().__init__(context)
        self.file, self.message = file, message

    def notify(self, context: Any) -> None:
        with Path(self.file).open("a") as lines:
            lines.write(f"{self.message}\n")


class Broken(BaseNotifier):
    """Fails to send."""

    def __init__(self, message: str, context: Any = None) -> None:
        super().__init__(context)
        self.message = message

    def notify(self, context: Any) -> None:
        raise OSError("no route to the people")
