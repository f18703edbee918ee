"""The immutable name of a version on a server; nothing else ever becomes a key of the store or a path."""

import re

NAME = re.compile(r"relevance-([a-z][a-z0-9]{0,15})@([0-9a-f]{16})")


def parse(name: object) -> tuple[str, str] | None:
    """The task (upper case) and version that a name such as `relevance-qc@0123456789abcdef` means; None for any other value."""
    match = NAME.fullmatch(name) if isinstance(name, str) else None
    return (match[1].upper(), match[2]) if match else None


def name_of(task: str, version: str) -> str:
    """The name under which servers know a version."""
    return f"relevance-{task.lower()}@{version}"
