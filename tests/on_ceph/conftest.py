"""One cluster of Ceph with its gateway for every test of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.ceph_rgw import ceph_gateway, require_packages


@dataclass(frozen=True)
class Gateway:
    """Where it answers, and its cluster's folder."""

    endpoint: str
    root: Path


@pytest.fixture(scope="package")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A running gateway; its one user has the keys `registry_cases.KEYS`."""
    require_packages()
    root = tmp_path_factory.mktemp("ceph") / "cluster"
    with ceph_gateway(root) as endpoint:
        yield Gateway(endpoint, root)
