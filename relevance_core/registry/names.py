"""The immutable name of a version: the only thing about it that a server is told, and that ever becomes a key of the store."""

import re
from typing import Final

VERSION_HEX: Final = 16
"""Hexadecimal digits of a version's id."""

NAME: Final = re.compile(rf"relevance-([a-z][a-z0-9]{{0,15}})@([0-9a-f]{{{VERSION_HEX}}})")


def parse(name: object) -> tuple[str, str] | None:
    """The task (upper case) and version that a name such as `relevance-qc@0123456789abcdef` means; None for any other value."""
    match = NAME.fullmatch(name) if isinstance(name, str) else None
    return (match[1].upper(), match[2]) if match else None


def name_of(task: str, version: str) -> str:
    """The name under which servers know a version."""
    return f"relevance-{task.lower()}@{version}"
