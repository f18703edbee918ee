"""The Airflow half as it is shipped: in the wheel, in Airflow's plugins folder, or in both."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from relevance_airflow.shipping import copies, first_difference, refuse_other_versions
from relevance_core.errors import SettingsError
from tests.support.places import PROJECT

PLUGINS = PROJECT / "plugins"
STEMS = sorted(file.stem for file in (PLUGINS / "relevance_airflow").glob("*.py"))
DAGS = ["relevance_retrain", "relevance_rollback"]

LOOK = """
import json, sys
from airflow import plugins_manager
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import plugins_manager as of_tasks

plugins = [plugin for plugin in plugins_manager.get_plugin_info() if plugin["name"] == "relevance"]
bag = DagBag(sys.argv[1])
package = sys.modules.get("relevance_airflow")
json.dump({
    "sources": [str(plugin["source"]) for plugin in plugins],
    "in_tasks": len([plugin for plugin in of_tasks._get_plugins()[0] if plugin.name == "relevance"]),
    "views": [view["url_route"] for plugin in plugins for view in plugin["external_views"]],
    "apps": [app["url_prefix"] for app in plugins_manager.get_fastapi_plugins()[0] if app["name"] == "Relevance"],
    "plugin_errors": plugins_manager.get_import_errors(),
    "dag_errors": bag.import_errors,
    "dags": sorted(bag.dags),
    "package": package and package.__path__[0],
    "modules": sorted(sys.modules),
}, open(sys.argv[2], "w"))
"""
"""Prints nothing: Airflow logs to both streams."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment that has the tests' packages, but of this project only the wheel, or nothing."""

    python: Path
    packages: Path

    @classmethod
    def make(cls, folder: Path) -> Environment:
        """Makes it without the wheel."""
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        (packages,) = folder.glob("lib/python*/site-packages")
        for entry in Path(sysconfig.get_path("purelib")).iterdir():
            if "relevance_" not in entry.name:  # an installed package, or the finder of an editable install
                (packages / entry.name).symlink_to(entry)
        return cls(folder / "bin" / "python", packages)

    def install(self, wheel: Path) -> None:
        """Installs the wheel alone, from the file."""
        options = ["--no-deps", "--no-index", "--no-compile", "--quiet", "--disable-pip-version-check"]
        subprocess.run([sys.executable, "-m", "pip", "--python", str(self.python), "install", *options, str(wheel)], check=True)


@dataclass(frozen=True)
class Place:
    """Where a test starts its Airflow: its folder, and the environments with and without the wheel."""

    folder: Path
    with_wheel: Environment
    without: Environment

    def look(self, *, wheel: bool, plugins: Path) -> dict[str, Any]:
        """Plugins, DAGs and modules of a new Airflow process. Without the wheel, relevance_core comes from the checkout."""
        core = self.folder / "core"
        core.mkdir()
        (core / "relevance_core").symlink_to(PROJECT / "relevance_core")
        own = {name: text for name, text in os.environ.items() if not name.startswith(("AIRFLOW", "RELEVANCE_", "PYTHONPATH"))}
        environment = own | {
            "AIRFLOW_HOME": str(self.folder / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(plugins),
            **({} if wheel else {"PYTHONPATH": str(core)}),
        }
        python, out = (self.with_wheel if wheel else self.without).python, self.folder / "out.json"
        command = [str(python), "-c", LOOK, str(PROJECT / "dags"), str(out)]
        done = subprocess.run(command, env=environment, cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return dict(json.loads(out.read_text()))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy, since a build leaves files beside the sources."""
    folder = tmp_path_factory.mktemp("build")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, folder)
    for name in ("relevance_core", "plugins"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--quiet", "--disable-pip-version-check", "--wheel-dir", "dist"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, "."], cwd=folder, check=True)
    (built,) = (folder / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environments(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Environment, Environment]]:
    folder = tmp_path_factory.mktemp("environments")
    with_wheel, without = Environment.make(folder / "with"), Environment.make(folder / "without")
    with_wheel.install(wheel)
    yield with_wheel, without
    shutil.rmtree(folder)


@pytest.fixture
def place(environments: tuple[Environment, Environment], tmp_path: Path) -> Place:
    return Place(tmp_path, *environments)


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A plugins folder without a file."""
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


@pytest.fixture
def edited(tmp_path: Path) -> Path:
    """A plugins folder of another version: one of its modules has a line more."""
    folder = tmp_path / "edited"
    shutil.copytree(PLUGINS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    with (folder / "relevance_airflow" / "params.py").open("a") as module:
        module.write("NEWER = True\n")
    return folder


def assert_whole(seen: dict[str, Any], source: str) -> None:
    """No error, both DAGs, the plugin and its pages once each, and no module under the bare name of one of the package's files."""
    assert seen["plugin_errors"] == {}
    assert seen["dag_errors"] == {}
    assert seen["dags"] == DAGS
    assert [found for found in seen["sources"] if source in found] == seen["sources"]
    assert (len(seen["sources"]), seen["in_tasks"]) == (1, 1)
    assert (seen["views"], seen["apps"]) == (["relevance", "relevance-run"], ["/relevance"])
    assert_no_bare_names(seen)


def assert_no_bare_names(seen: dict[str, Any]) -> None:
    assert {"notices", "operators", "params", "pages"} < set(STEMS)
    assert set(STEMS) & set(seen["modules"]) == set()


def test_the_wheel_holds_both_halves(wheel: Path) -> None:
    """The wheel has every module of both packages under the package's own name, and names the plugin's class to Airflow."""
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.endswith(".py")}
        (listed,) = (name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
        points = archive.read(listed).decode()
    wanted = {
        file.relative_to(root).as_posix()
        for root, package in ((PROJECT, "relevance_core"), (PLUGINS, "relevance_airflow"))
        for file in (root / package).rglob("*.py")
    }
    assert held == wanted
    assert "[airflow.plugins]\nrelevance = relevance_airflow.pages:RelevancePlugin\n" in points


@pytest.mark.airflow
@pytest.mark.slow
def test_wheel_alone(place: Place, empty: Path) -> None:
    """With the wheel and an empty plugins folder Airflow has the plugin once, from the entry point, and reads both DAGs."""
    seen = place.look(wheel=True, plugins=empty)
    assert_whole(seen, "relevance-loop==")
    assert seen["package"] == str(place.with_wheel.packages / "relevance_airflow")


@pytest.mark.airflow
@pytest.mark.slow
def test_folder_alone(place: Place) -> None:
    """With the plugins folder and no wheel Airflow has the plugin once, from the folder's one loose file, and reads both DAGs."""
    seen = place.look(wheel=False, plugins=PLUGINS)
    assert_whole(seen, "$PLUGINS_FOLDER/relevance_plugin.py")
    assert seen["package"] == str(PLUGINS / "relevance_airflow")


@pytest.mark.airflow
@pytest.mark.slow
def test_wheel_and_folder_of_one_version(place: Place) -> None:
    """With both, in one version, the plugin is registered once: the loose file leaves it to the entry point."""
    seen = place.look(wheel=True, plugins=PLUGINS)
    assert_whole(seen, "relevance-loop==")
    assert "relevance_plugin" in seen["modules"], "the folder was not read"


@pytest.mark.airflow
@pytest.mark.slow
def test_wheel_and_folder_of_two_versions(place: Place, edited: Path) -> None:
    """Two versions are refused: no plugin, no DAG, and each of the four errors names both folders and the file that differs."""
    seen = place.look(wheel=True, plugins=edited)
    assert (seen["sources"], seen["in_tasks"], seen["views"], seen["apps"], seen["dags"]) == ([], 0, [], [], [])
    assert set(seen["plugin_errors"]) == {str(edited / "relevance_plugin.py"), "relevance_airflow.pages"}
    assert len(seen["dag_errors"]) == 2
    installed = place.with_wheel.packages / "relevance_airflow"
    for error in [*seen["plugin_errors"].values(), *seen["dag_errors"].values()]:
        assert "relevance_airflow is there in two versions, which differ in params.py" in error
        assert f"where: {installed} and {edited / 'relevance_airflow'}" in error
        assert "expected: the same files in both" in error
        assert "what to do: remove relevance_airflow and relevance_plugin.py from Airflow's plugins folder" in error
    assert_no_bare_names(seen)


def package(folder: Path, **modules: str) -> Path:
    """A package `p` in the folder, with these modules and their texts."""
    (folder / "p").mkdir(parents=True)
    for name, text in {"__init__": "", **modules}.items():
        (folder / "p" / f"{name}.py").write_text(text)
    return folder / "p"


def test_copies_are_other_folders(tmp_path: Path) -> None:
    """A folder twice on the path is one copy, a link to the package is none, nor is a folder that is no package."""
    one, other = package(tmp_path / "a"), package(tmp_path / "b")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "c" / "p").mkdir(parents=True)
    path = [str(tmp_path / name) for name in ("link", "b", "a", "nowhere", "c", "b")]
    assert list(copies(one, path)) == [other]


@pytest.mark.parametrize(
    ("there", "differing"),
    [
        ({"b": "1", "c": "2"}, None),
        ({"b": "1", "c": "3"}, "c.py"),
        ({"b": "1"}, "c.py"),
        ({"a": "", "b": "1", "c": "3"}, "a.py"),
    ],
)
def test_first_difference(tmp_path: Path, there: dict[str, str], differing: str | None) -> None:
    """A module that has another text, is missing or is too many makes another version; the first by name is told."""
    assert first_difference(package(tmp_path / "a", b="1", c="2"), package(tmp_path / "b", **there)) == differing


def test_only_other_versions_are_refused(tmp_path: Path) -> None:
    """A copy of the same version passes, and the third folder on the path, of another version, is named."""
    one, same, other = package(tmp_path / "a"), package(tmp_path / "b"), package(tmp_path / "c", d="1")
    refuse_other_versions(one, [str(tmp_path / "a"), str(same.parent)])
    with pytest.raises(SettingsError, match=r"p is there in two versions, which differ in d\.py") as refused:
        refuse_other_versions(one, [str(folder.parent) for folder in (one, same, other)])
    assert refused.value.where == f"{one} and {other}"
