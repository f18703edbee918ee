"""What every test shares: a store in a temporary folder, and a scratch folder that is nobody's cache."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any, Final

# Read when huggingface_hub is imported: without it, every look for a model that is not there waits for the network.
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
from xdist.scheduler import LoadFileScheduling

from relevance_core.config import ServingSettings
from relevance_core.machine import python_of
from relevance_core.processes import Progress, collect_rarely, set_progress
from relevance_core.store import Store, open_store
from tests.support.times import FolderTimes

# As the command line does: collecting and importing are a good part of what short tests take.
collect_rarely()


SHARED: Final = {"in_airflow", "on_ceph"}
"""Folders whose tests share one server."""


class ByFile(LoadFileScheduling):  # type: ignore[misc]
    """One process runs a file of tests, or one of the folders whose tests share a server."""

    def _split_scope(self, nodeid: str) -> str:
        file = PurePath(super()._split_scope(nodeid))
        return str(file.parent if file.parent.name in SHARED else file)


def pytest_configure(config: pytest.Config) -> None:
    """Tells at the end how long each folder took."""
    config.pluginmanager.register(FolderTimes())


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """Sends the tests to the processes."""
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the files of slow tests first, those that start servers before all, so that all processes end at about the same time.

    Skips the tests of a real vLLM by name where its environment is not installed; in CI, where it must be, they fail.
    """

    def marked(*names: str) -> set[Path]:
        return {item.path for item in items if any(item.get_closest_marker(name) for name in names)}

    slow, servers = marked("slow"), marked("slow") & marked("airflow", "serving", "ceph")
    items.sort(key=lambda item: (item.path not in servers, item.path not in slow))
    if python_of(ServingSettings()) is None and not os.environ.get("CI"):
        for item in items:
            if item.get_closest_marker("serving"):
                item.add_marker(pytest.mark.skip(reason="no environment with vLLM: make install-serving"))


@pytest.fixture(autouse=True, scope="session")
def _own_scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """For what a module's or a folder's fixtures run, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELEVANCE_SCRATCH", str(tmp_path_factory.getbasetemp() / "scratch"))
        yield


@pytest.fixture(autouse=True, scope="module")
def _root_logging() -> Iterator[None]:
    """Airflow, started in a test's process, sets the root logger; the next file of tests begins without that."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in [handler for handler in root.handlers if handler not in handlers]:
        if not type(handler).__module__.startswith("_pytest"):
            root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """A command that runs in this process sets the package's logging; the next test begins without it."""
    logger = logging.getLogger("relevance_core")
    handlers, level = logger.handlers[:], logger.level
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)
    set_progress(Progress)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))
