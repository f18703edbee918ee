"""Where tests and their helpers lie, and how long they take."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from tests.support.times import FolderTimes, table

TESTS = Path(__file__).parent
MOST_AT_THE_TOP = 3
"""Files of tests about the whole project. All others lie in the folder of what they test."""


def imported(source: str) -> Iterator[str]:
    """Every module that the source imports, and every name that it takes from a module as if it were one below it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module or ''}.{name.name}" for name in node.names)


def borrowed(source: str) -> list[str]:
    """The imports that reach into a module of tests, or into a conftest, which pytest loads by itself."""
    return [name for name in imported(source) if any(part.startswith("test_") or part == "conftest" for part in name.split("."))]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from tests.support.clock import Clock", []),
        ("from tests.serving.test_resolver import Clock", ["tests.serving.test_resolver.Clock"]),
        ("from tests.sources import test_sql", ["tests.sources.test_sql"]),
        ("def f():\n    import tests.ui.test_ui_run", ["tests.ui.test_ui_run"]),
        ("from .conftest import Gateway", ["conftest.Gateway"]),
    ],
)
def test_a_borrowed_name_is_seen(source: str, found: list[str]) -> None:
    """An import is found at the top and in a function, of a module and of a name in it, absolute and relative."""
    assert borrowed(source) == found


def test_no_test_borrows_from_another() -> None:
    """What two files of tests share lies in tests/support/, so that each of them can be changed, moved and run by itself."""
    files = sorted(TESTS.rglob("*.py"))
    assert len(files) > 100
    assert {str(path.relative_to(TESTS)): found for path in files if (found := borrowed(path.read_text()))} == {}


PATCHED = {
    "tests/runs/test_review.py": ["_scores"],
    "tests/stages/test_denoise.py": ["_scores"],
    "tests/stages/test_train.py": ["_checkpoints"],
}
"""Private names that tests replace, because a parameter would be there for the tests alone: the scores of *denoise*'s models, which
would have to be trained to say what a test is about, and a GPU's lack of memory on a machine without a GPU."""


def patched(source: str) -> list[str]:
    """The private names that the source replaces with `monkeypatch.setattr`, `mock.patch` or `mock.patch.object`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ("setattr", "patch", "object"):
            words = [value.value for value in node.args[:2] if isinstance(value, ast.Constant) and isinstance(value.value, str)]
            found += [name for word in words if (name := word.rpartition(".")[2]).startswith("_") and not name.startswith("__")]
    return found


def test_a_private_name_that_is_patched_is_seen() -> None:
    """By object and name, by the whole name, and with mock; public names and methods of the language are passed over."""
    assert patched('monkeypatch.setattr(module, "_A", 1); patch.setattr("package.module._b", 2); mock.patch("m._c")') == [
        "_A",
        "_b",
        "_c",
    ]
    assert patched('monkeypatch.setattr(module, "A", "_a"); monkeypatch.setattr(kind, "__enter__", 1)') == []


def test_no_private_name_is_patched_where_a_parameter_would_do() -> None:
    """A test that patches another private name says here why no parameter and no public name will do."""
    found = {str(path.relative_to(TESTS.parent)): patched(path.read_text()) for path in sorted(TESTS.rglob("*.py"))}
    assert {path: names for path, names in found.items() if names} == PATCHED


ELSEWHERE = {
    "ground": "the modules of relevance_core that lie in no folder",
    "loop": "loop.py and plan.py, which run every folder",
    "benchmarks": "the folder of that name beside relevance_core/",
    "docker": "the folder of that name beside relevance_core/",
    "plugins": "plugins/ and dags/",
    "in_airflow": "a running Airflow",
    "on_ceph": "a running Ceph",
    "support": "helpers of tests",
}
"""Folder of tests/ that no folder of relevance_core/ answers to → what it is about."""


def folders(place: Path) -> set[str]:
    """The names of the packages in a folder."""
    return {path.parent.name for path in place.glob("*/__init__.py")}


def test_tests_lie_beside_what_they_test() -> None:
    """Each folder of relevance_core/ has its folder in tests/, every other one there is in ELSEWHERE; three files lie above."""
    assert folders(TESTS) == folders(TESTS.parent / "relevance_core") | set(ELSEWHERE)
    assert len(list(TESTS.glob("test_*.py"))) <= MOST_AT_THE_TOP


def test_the_time_of_each_folder() -> None:
    """Two tests of one folder took 1.5 and 2 seconds, one of another 4: the other comes first, and all took 7.5."""
    times = FolderTimes()
    took = {"tests/a/test_x.py::test_1[a/b]": 1.5, "tests/b/test_z.py::test_3": 4.0, "tests/a/test_y.py::test_2": 2.0}
    for nodeid, seconds in took.items():
        times.pytest_runtest_logreport(cast("pytest.TestReport", SimpleNamespace(nodeid=nodeid, duration=seconds)))
    assert table(times.seconds) == ["     4.0 s  tests/b", "     3.5 s  tests/a", "     7.5 s  in all, of all processes together"]


def test_times_are_told_with_several_processes(tmp_path: Path) -> None:
    """Two processes run a test of 0.2 seconds each, in two folders: both folders and their sum are told once."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"test_{folder}.py").write_text("import time\ndef test_it():\n    time.sleep(0.2)\n")
    (tmp_path / "conftest.py").write_text(
        "from tests.support.times import FolderTimes\n"
        "def pytest_configure(config):\n"
        "    config.pluginmanager.register(FolderTimes())\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "xdist",
        "-p",
        "no:cacheprovider",
        "--numprocesses",
        "2",
        "--rootdir",
        str(tmp_path),
    ]
    environment = os.environ | {"PYTHONPATH": str(TESTS.parent), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = {folder: float(seconds) for seconds, folder in re.findall(r"^ +([\d.]+) s  ([ab])$", done.stdout, re.MULTILINE)}
    assert told == {"a": pytest.approx(0.2, abs=0.15), "b": pytest.approx(0.2, abs=0.15)}
    assert len(re.findall(r"in all, of all processes together$", done.stdout, re.MULTILINE)) == 1
