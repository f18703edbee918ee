"""docs/serving.md and docs/deploying.md say what the code does."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from relevance_core.cli.main import build_parser
from relevance_core.config import ServingSettings
from relevance_core.registry import BaseInfo
from relevance_core.registry.golden import ROWS
from relevance_core.serving import readiness
from relevance_core.serving.server import ServerSpec, command, environment
from tests.support.places import DOCS

PAGES = [DOCS / "serving.md", DOCS / "deploying.md"]
SERVING = PAGES[0].read_text()


def _blocks(page: str) -> list[str]:
    return [block.replace("\\\n", " ") for block in re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)]


def _spec(gpus: int) -> ServerSpec:
    return ServerSpec(
        store="s3://bucket/prefix",
        base=BaseInfo(id="Qwen/Qwen3-14B-Base", revision="a1b2c3d4"),
        folder=Path("/models/Qwen3-14B-Base"),
        host="0.0.0.0",  # noqa: S104 - text
        port=8000,
        device="cuda" if gpus else "cpu",
        gpus=gpus,
        dtype="bfloat16",
        max_tokens=512,
        settings=ServingSettings(),
        work=Path("/work"),
    )


@pytest.mark.parametrize("gpus", [1, 4])
def test_the_guide_has_the_command_that_runs(gpus: int) -> None:
    """The command lines for Qwen3-14B on one and on several GPUs are those that `relevance serve` starts."""
    assert command(_spec(gpus), Path("python")) in [shlex.split(block, comments=True) for block in _blocks(SERVING)]


def test_the_guide_has_the_variables_that_are_set() -> None:
    """Its table names the variables of a server's process, and what the plugin is told."""
    names = {name for gpus in (0, 1) for name in environment(_spec(gpus), {})}
    table = {name for row in re.findall(r"^\| (`[A-Z_`, ]+`) \|", SERVING, re.MULTILINE) for name in re.findall(r"\w+", row)}
    assert names == table


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_the_guides_are_commands(page: Path) -> None:
    """Every `relevance` command line that a guide shows is one."""
    lines = [line for block in _blocks(page.read_text()) for line in block.splitlines()]
    commands = [
        words[words.index("relevance") + 1 :] for line in lines if "relevance" in (words := shlex.split(line, comments=True))
    ]
    assert commands
    for words in commands:
        build_parser().parse_args(words)


def test_the_settings_of_the_guide_are_settings() -> None:
    """The guide names every serving setting, and no other."""
    assert set(re.findall(r"`serving\.(\w+)", SERVING)) == set(ServingSettings.model_fields)


def test_the_numbers_of_the_guide_are_the_codes() -> None:
    """Tolerances, golden pairs and waits are those in force."""
    assert readiness.TOLERANCE == {"float32": 1e-3, "bfloat16": 3e-2}
    assert f"up to {ROWS} training pairs" in SERVING


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every link to another page finds it."""
    for target in re.findall(r"\]\(([\w./-]+)(?:#[\w-]+)?\)", page.read_text()):
        assert (page.parent / target).is_file(), target
