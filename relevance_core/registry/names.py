"""The immutable name of a version: the only part of it that a server is told and that becomes part of a store key."""

import re
from typing import Final

VERSION_HEX: Final = 16
"""Number of hexadecimal digits in a version's id."""

NAME: Final = re.compile(rf"relevance-([a-z][a-z0-9]{{0,15}})@([0-9a-f]{{{VERSION_HEX}}})")


def parse(name: object) -> tuple[str, str] | None:
    """Returns task (upper case) and version of a name such as `relevance-qc@0123456789abcdef`; None for any other value."""
    match = NAME.fullmatch(name) if isinstance(name, str) else None
    return (match[1].upper(), match[2]) if match else None


def name_of(task: str, version: str) -> str:
    """Returns the name under which servers know a version."""
    return f"relevance-{task.lower()}@{version}"
