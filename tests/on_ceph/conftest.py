"""One cluster of Ceph with its gateway for every test of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.ceph_rgw import Gateway, ceph_gateway, require_packages


@pytest.fixture(scope="package")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A running gateway; its one user has the keys `registry_cases.KEYS`."""
    require_packages()
    root = tmp_path_factory.mktemp("ceph") / "cluster"
    with ceph_gateway(root) as endpoint:
        yield Gateway(endpoint, root)
