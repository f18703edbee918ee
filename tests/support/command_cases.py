"""The parser's commands, and a command that is run here."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from relevance_core.cli.main import build_parser, main
from relevance_core.registry import Registry
from tests.support.registry_cases import make_adapter, make_meta


class Ran(NamedTuple):
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """The last line of stderr."""
        return self.err.splitlines()[-1]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> Ran:
    """Runs `relevance …` in this process."""
    capsys.readouterr()
    try:
        code = main(arguments)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    printed = capsys.readouterr()
    return Ran(code, printed.out, printed.err)


def parsers(parser: argparse.ArgumentParser | None = None) -> Iterator[argparse.ArgumentParser]:
    """The parser of `relevance` and those of all commands in it."""
    parser = parser or build_parser()
    yield parser
    # argparse has no public list of the commands of a parser.
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from parsers(below)


def leaves() -> list[argparse.ArgumentParser]:
    """Those of the commands that do something, without the groups of commands."""
    return [parser for parser in parsers() if parser.get_default("called") and parser._subparsers is None]


def published(registry: Registry, folder: Path, task: str = "QC", *names: str) -> list[str]:
    """Publishes a version a name, which is its training data's digest. Returns the ids."""
    adapter = make_adapter(folder / f"adapter-{task}")
    return [registry.publish(task, adapter, make_meta(data={"train": name})).version for name in names or ("one",)]
