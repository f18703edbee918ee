"""A real S3 server for tests: Ceph's gateway over one memory-backed OSD, all on loopback (about 470 MB, up in some 15 s).

Needs Debian's `ceph-mon ceph-mgr ceph-osd radosgw ceph-common`, installed with `--no-install-recommends`. As a script,
`python -m tests.support.ceph_rgw FOLDER` starts one, prints its endpoint and keeps it up until it is interrupted.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from relevance_core.machine import free_port
from tests.support.registry_cases import KEYS, wait_for

#: A program of each Debian package that is needed.
PACKAGES = {
    "ceph-mon": "ceph-mon",
    "ceph-mgr": "ceph-mgr",
    "ceph-osd": "ceph-osd",
    "radosgw": "radosgw",
    "ceph-common": "radosgw-admin",
}

CONF = """\
[global]
fsid = {fsid}
mon_host = [v2:127.0.0.1:{mon_v2},v1:127.0.0.1:{mon_v1}]
mon_initial_members = a
public_network = 127.0.0.0/8
ms_bind_ipv6 = false
keyring = {root}/keyring
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
osd_pool_default_pg_num = 1
osd_pool_default_pgp_num = 1
osd_pool_default_pg_autoscale_mode = off
mon_max_pg_per_osd = 2000
osd_objectstore = memstore
memstore_device_bytes = 1073741824
admin_socket = {root}/run/$name.asok
log_file = {root}/log/$name.log
pid_file = {root}/run/$name.pid
[mon.a]
mon_data = {root}/mon.a
[osd.0]
osd_data = {root}/osd.0
[mgr.x]
mgr_data = {root}/mgr.x
[client.rgw]
rgw_frontends = beast endpoint=127.0.0.1:{port}
rgw_data = {root}/rgw
"""

ALL = {"mon": "allow *", "osd": "allow *", "mgr": "allow *"}
CAPABILITIES = {
    "mon.": {"mon": "allow *"},
    "client.admin": ALL,
    "mgr.x": {**ALL, "mon": "allow profile mgr"},
    "osd.0": {**ALL, "mon": "allow profile osd", "mgr": "allow profile osd"},
    "client.rgw": {"mon": "allow rwx", "osd": "allow rwx", "mgr": "allow rw"},
}


def missing_packages() -> list[str]:
    """Debian packages whose programs are not installed."""
    return [package for package, program in PACKAGES.items() if not shutil.which(program)]


def require_packages() -> None:
    """Skip the test by name where Ceph is not installed; in CI, where it must be, fail."""
    missing = missing_packages()
    if missing:
        message = f"Ceph's gateway can't be started: apt-get install --no-install-recommends {' '.join(missing)}"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)


@contextmanager
def ceph_gateway(root: Path) -> Iterator[str]:
    """The endpoint of a gateway that lives in `root`; its one user has the keys `registry_cases.KEYS`."""
    cluster = _Cluster(root)
    with ExitStack() as stack:
        cluster.prepare()
        stack.enter_context(cluster.daemon("ceph-mon", "-i", "a"))
        cluster.run("ceph", "auth", "import", "-i", str(root / "keyring"))
        stack.enter_context(cluster.daemon("ceph-mgr", "-i", "x"))
        cluster.make_osd()
        stack.enter_context(cluster.daemon("ceph-osd", "-i", "0"))
        cluster.wait_for_osd()
        gateway = stack.enter_context(cluster.daemon("radosgw", "-n", "client.rgw"))
        wait_for(cluster.endpoint, gateway)
        keys = (f"--access-key={KEYS['AWS_ACCESS_KEY_ID']}", f"--secret-key={KEYS['AWS_SECRET_ACCESS_KEY']}")
        cluster.run("radosgw-admin", "user", "create", "--uid=test", "--display-name=test", *keys)
        yield cluster.endpoint


class _Cluster:
    def __init__(self, root: Path) -> None:
        self.root, self.fsid, self.mon_v2, self.mon_v1, port = root, str(uuid.uuid4()), free_port(), free_port(), free_port()
        self.endpoint = f"http://127.0.0.1:{port}"
        for name in ("mon.a", "mgr.x", "osd.0", "rgw", "run", "log"):
            (root / name).mkdir(parents=True)
        values = {"fsid": self.fsid, "mon_v2": self.mon_v2, "mon_v1": self.mon_v1, "port": port, "root": root}
        (root / "ceph.conf").write_text(CONF.format_map(values))

    def run(self, *command: str, stdin: str = "") -> str:
        """A Ceph command's output; raises with what it wrote when it fails."""
        done = subprocess.run(
            [command[0], "-c", str(self.root / "ceph.conf"), *command[1:]], input=stdin, text=True, capture_output=True, timeout=120
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    @contextmanager
    def daemon(self, *command: str) -> Iterator[subprocess.Popen[bytes]]:
        """A daemon in the foreground, stopped at the end."""
        output = (self.root / "log" / f"{command[0]}.out").open("wb")
        arguments = [command[0], "-f", "-c", str(self.root / "ceph.conf"), *command[1:]]
        with output, subprocess.Popen(arguments, stdout=output, stderr=output) as process:
            try:
                yield process
            finally:
                process.kill()  # everything lies in memory or in a folder that is thrown away

    def prepare(self) -> None:
        """The keyring, the monitor's map and its data folder."""
        keyring, monmap = str(self.root / "keyring"), str(self.root / "monmap")
        subprocess.run(["ceph-authtool", "--create-keyring", keyring], check=True, capture_output=True)
        for name, capabilities in CAPABILITIES.items():
            caps = [text for service, grant in capabilities.items() for text in ("--cap", service, grant)]
            subprocess.run(["ceph-authtool", keyring, "-n", name, "--gen-key", *caps], check=True, capture_output=True)
        address = f"[v2:127.0.0.1:{self.mon_v2},v1:127.0.0.1:{self.mon_v1}]"
        monitor = ["monmaptool", "--create", "--addv", "a", address, "--fsid", self.fsid, monmap]
        subprocess.run(monitor, check=True, capture_output=True)
        self.run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)

    def make_osd(self) -> None:
        """Register the one OSD and make its data folder."""
        keyring, osd = str(self.root / "keyring"), str(uuid.uuid4())
        secret = subprocess.run(["ceph-authtool", "-p", "-n", "osd.0", keyring], check=True, capture_output=True, text=True)
        self.run("ceph", "osd", "new", osd, "-i", "-", stdin=json.dumps({"cephx_secret": secret.stdout.strip()}))
        self.run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)

    def wait_for_osd(self, seconds: float = 120) -> None:
        """Return when the OSD is up and in."""
        end = time.monotonic() + seconds
        while json.loads(self.run("ceph", "osd", "stat", "-f", "json"))["num_up_osds"] < 1:
            assert time.monotonic() < end, f"the OSD is not up after {seconds} s; see {self.root}/log"
            time.sleep(0.2)


def main() -> None:
    """Start a gateway by hand."""
    root = Path(sys.argv[1]).absolute() if len(sys.argv) > 1 else Path(tempfile.mkdtemp(prefix="ceph-rgw-"))
    with ceph_gateway(root) as endpoint:
        sys.stdout.write(json.dumps({"AWS_ENDPOINT_URL_S3": endpoint, **KEYS}) + "\n")
        sys.stdout.flush()
        while True:
            time.sleep(60)


if __name__ == "__main__":
    main()


@dataclass(frozen=True)
class Gateway:
    """Where it answers, and its cluster's folder."""

    endpoint: str
    root: Path
