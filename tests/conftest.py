"""What every test shares: a store in a temporary folder, and a scratch folder that is nobody's cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from relevance_core.store import Store, open_store


@pytest.fixture(autouse=True)
def _own_scratch(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELEVANCE_SCRATCH", str(tmp_path_factory.getbasetemp() / "scratch"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))
