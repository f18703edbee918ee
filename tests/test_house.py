"""The house: which room may know which, what lies in each, and what is said in one place only."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

from relevance_core.runs.steps import REPORT, STEPS
from tests.support.places import PROJECT

PACKAGE: Final = PROJECT / "relevance_core"
GROUND: Final = {"errors", "pairs", "prompts", "metrics", "processes", "machine"}
BELOW_RUNS: Final = GROUND | {"config", "store", "languages", "registry"}
BELOW_STAGES: Final = BELOW_RUNS | {"rules", "sources", "models", "translators", "runs", "scoring", "serving", "reporting"}

ALLOWED: Final[Mapping[str, set[str]]] = {
    "errors": set(),
    "config": {"errors"},
    "pairs": {"errors"},
    "metrics": {"errors"},
    "processes": {"errors"},
    "machine": {"errors", "config"},
    "prompts": {"errors", "config", "pairs"},
    "languages": {"errors", "config", "pairs"},
    "store": {"errors"},
    "registry": GROUND | {"store"},
    "sources": GROUND | {"config", "store", "languages"},
    "rules": {"errors", "config", "pairs", "languages"},
    "models": GROUND | {"config", "store", "languages"},
    "translators": GROUND | {"config", "store", "languages", "sources", "models"},
    "runs": BELOW_RUNS,
    "scoring": BELOW_RUNS | {"models", "translators", "runs"},
    "serving": BELOW_RUNS | {"models", "translators", "runs", "scoring"},
    "reporting": BELOW_RUNS | {"runs"},
    "stages": BELOW_STAGES,
    "plan": BELOW_STAGES | {"stages"},
    "loop": BELOW_STAGES | {"stages", "plan"},
    "ui": BELOW_RUNS | {"runs", "reporting"},
    "tools": BELOW_STAGES | {"stages", "plan", "loop"},
    "cli": BELOW_STAGES | {"stages", "plan", "loop", "tools"},
    "__main__": {"cli"},
}
"""Room → the rooms that its modules may import, at their top or later. `ui` shows what there is and runs nothing."""


def rooms() -> set[str]:
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    return folders | {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_every_arrow_is_allowed() -> None:
    """No module imports from a room that its own room may not know."""
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for name in imported(path):
            package, _, rest = name.partition(".")
            target = rest.partition(".")[0]
            if package == "relevance_core" and target in rooms() and target != room and target not in ALLOWED.get(room, set()):
                wrong.append(f"{room} may not know {target}: {path.relative_to(PROJECT)} imports {name}")
    assert wrong == []


def test_the_allowed_arrows_have_no_cycle() -> None:
    """Every room of the package is in the table, and no two rooms may know each other, not even by way of others."""
    assert rooms() == set(ALLOWED)
    assert set(graphlib.TopologicalSorter(ALLOWED).static_order()) == set(ALLOWED)


def test_the_package_knows_no_airflow() -> None:
    """Airflow, and the half of the product that runs in it, are imported by plugins/ and dags/ alone."""
    found = [
        path for path in PACKAGE.rglob("*.py") for name in imported(path) if name.split(".")[0] in {"airflow", "relevance_airflow"}
    ]
    assert found == []


def test_the_root_has_few_loose_modules() -> None:
    """A newcomer meets eight modules or fewer beside the rooms."""
    loose = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert loose == GROUND | {"loop", "plan"}


def test_stages_are_stages() -> None:
    """Each module and folder in stages/ is a step of the table, and each step has one."""
    found = {path.stem for path in (PACKAGE / "stages").iterdir() if path.stem not in {"__init__", "__pycache__"}}
    assert found == {step.name for step in (*STEPS, REPORT)}


@pytest.mark.parametrize(
    ("literal", "owner"),
    [
        ("runs/", "runs/folder.py"),
        ("stages/", "runs/artifacts.py"),
        ("review/decisions/", "runs/review.py"),
        ("adapters/", "registry/"),
        ("aliases/", "registry/"),
        ("translators/", "translators/kept.py"),
        ("memory/", "translators/memory.py"),
        ("embeddings/", "models/embedder.py"),
    ],
)
def test_a_key_is_built_in_one_place(literal: str, owner: str) -> None:
    """A string that begins with a folder of the store stands in the folder's owner, and in no other module of the package."""
    begins = re.compile(rf"""[frb]*["']{re.escape(literal)}""")
    found = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if begins.search(path.read_text(encoding="utf-8"))}
    assert found
    assert [name for name in found if not name.startswith(owner)] == []


def test_a_stage_never_logs_its_own_name() -> None:
    """Each logger of a stage is a PartLogger, so that the name of the stage and its task begins every line in the same way."""
    made = [line for path in (PACKAGE / "stages").rglob("*.py") for line in path.read_text().splitlines() if "getLogger(" in line]
    assert set(made) == {"log = PartLogger(logging.getLogger(__name__))"}


def test_dotted_names_are_walked_in_one_place() -> None:
    """Only relevance_core/config/dotted.py takes the name of a setting apart at its dots."""
    files = [path for folder in ("relevance_core", "plugins", "dags") for path in (PROJECT / folder).rglob("*.py")]
    found = [str(path.relative_to(PROJECT)) for path in files if '.split(".")' in path.read_text(encoding="utf-8")]
    assert found == ["relevance_core/config/dotted.py"]


def test_a_search_service_loads_no_stage() -> None:
    """Importing the client brings no stage, no torch and no Great Expectations into the process."""
    heavy = ("torch", "peft", "great_expectations", "relevance_core.stages", "relevance_core.loop")
    code = f"import sys; from relevance_core.serving import ScoringClient; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
