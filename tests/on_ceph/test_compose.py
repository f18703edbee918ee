"""The store and the service `vllm` of docker/compose.yaml, without the containers: what the first start makes, each account's
rights, and vLLM's command, environment, key and health check.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from relevance_core.config import EngineSettings
from relevance_core.errors import StoreError
from relevance_core.machine import free_port
from relevance_core.prompts import Prompt
from relevance_core.registry import AdapterMeta, BaseInfo, Manifest, PromptInfo, Registry, golden
from relevance_core.registry.signing import Key
from relevance_core.serving import fleet
from relevance_core.store import Store, open_store
from tests.support.ceph_rgw import Gateway
from tests.support.docker_cases import BUCKET, DOCKER, POLICY, credentials, first_start, load
from tests.support.registry_cases import make_adapter, make_meta, use_server
from tests.support.serving_cases import make_tensors, save_adapter, save_base

PROJECT = DOCKER.parent
SERVICE = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]["vllm"]
SECONDS = 600.0

pytestmark = [pytest.mark.ceph, pytest.mark.slow]


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return first_start(tmp_path_factory.mktemp("first") / "secrets")


@pytest.fixture(scope="module")
def accounts(gateway: Gateway, secrets: Path) -> None:
    """The accounts that first-start.sh made, at the gateway; its root account is `registry_cases.KEYS`."""
    for name, account in json.loads((secrets / "store_users.json").read_text())["accessAccounts"].items():
        keys = [f"--access-key={account['access']}", f"--secret={account['secret']}"]
        command = ["radosgw-admin", "-c", gateway.root / "ceph.conf", "user", "create", f"--uid={name}", f"--display-name={name}"]
        subprocess.run([*command, *keys], check=True, capture_output=True)


@pytest.fixture
def bucket(gateway: Gateway, accounts: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bucket after store-init, which runs twice, with the policy in Ceph's spelling of a principal."""
    use_server(monkeypatch, gateway.endpoint)
    policy = tmp_path / "policy.json"
    policy.write_text(re.sub(r'"(relevance-\w+)"', r'"arn:aws:iam:::user/\1"', json.dumps(POLICY)))
    assert [load("store_init").main(BUCKET, policy) for _ in range(2)] == [0, 0]


def store_of(who: str, secrets: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The bucket, opened with an account's key."""
    access, secret = credentials(secrets / f"store_{who}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", access)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    store = open_store(f"s3://{BUCKET}")
    store.list()  # a connection is made by the first call
    return store


def test_the_first_start_of_the_store(bucket: None, secrets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a real store the bucket is made and tried, twice without harm; then the loop publishes, a server reads and puts itself on
    the list, and what a key must not do is refused.
    """
    loop, server, client = (store_of(who, secrets, monkeypatch) for who in ("airflow", "serving", "client"))
    version = Registry(loop).publish("QC", make_adapter(tmp_path / "adapter"), make_meta()).version
    Registry(loop).promote({"QC": version}, who="test", why="first")
    loop.write("stages/ingest/0/rows", b"private")
    for name, reader in {"server": server, "client": client}.items():
        assert Registry(reader).current() == Registry(loop).current()
        assert (Registry(reader).fetch("QC", version, tmp_path / name) / "adapter_config.json").is_file()
        with pytest.raises(StoreError, match="AccessDenied"):
            reader.read("stages/ingest/0/rows")
        with pytest.raises(StoreError, match="AccessDenied"):
            reader.write("aliases/champion/00000002.json", b"{}")
    server.write("servers/vllm-8000.json", b"{}")
    server.delete("servers/vllm-8000.json")
    with pytest.raises(StoreError, match="AccessDenied"):
        loop.delete(f"adapters/qc/{version}/manifest.json")


def _publish(store: Store, folder: Path, key: Key) -> Manifest:
    """A signed champion of QC on a random base that lies in `folder`, as one in /models does, with its golden pairs."""
    from relevance_core.scoring.scorer import Scorer

    base, prompt = save_base(folder / "base"), Prompt("compact", 1, False, 64)
    adapter = save_adapter(folder / "adapter", make_tensors(scale=0.1), base="random-base")
    scorer = Scorer(str(base), adapter, prompt, EngineSettings())
    golden.write(adapter, [("QC", f"query {n}", f"Shoes > Kind {n}", None) for n in range(4)], scorer)
    meta = AdapterMeta(
        base=BaseInfo(id="random-base", revision="b1", uri=str(base)),
        prompt=PromptInfo(name="compact", version="1", max_tokens=64),
        threshold=0.5,
        languages=("en",),
        data={"train": "d1"},
        created="2026-01-31T00:00:00+00:00",
    )
    manifest = Registry(store).publish("QC", adapter, meta, key)
    Registry(store).promote({"QC": manifest.version}, who="test", why="served")
    return manifest


def _here(text: str, names: Mapping[str, str]) -> str:
    """A text of the compose file with what it names in a container as it is here; variables at their defaults."""
    text = re.sub(r"\$\{\w+:?-([^}]*)\}", r"\1", text)
    for there, here in names.items():
        text = text.replace(there, here)
    return text


@pytest.mark.serving
def test_vllm_comes_up_as_composed(bucket: None, secrets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the servers' key and the public half of the signing key, it serves a signed champion, is healthy by its own check, and
    leaves the list of servers when it is stopped.
    """
    loop = store_of("airflow", secrets, monkeypatch)
    manifest = _publish(loop, tmp_path, Key.load(secrets / "sign_key.pem"))
    names = {
        "0.0.0.0": "127.0.0.1",  # noqa: S104 - replaced, not bound
        "8000": str(free_port()),
        "http://store:7070": os.environ["AWS_ENDPOINT_URL_S3"],
        "/run/secrets": str(secrets),
        "/etc/relevance": str(tmp_path),
        "/var/lib/relevance": str(tmp_path / "cache"),
    }
    (tmp_path / "settings.toml").write_text(_here((DOCKER / "settings.toml").read_text(), names))
    environment = {name: _here(value, names) for name, value in SERVICE["environment"].items()} | {"PATH": os.environ["PATH"]}
    command, check = ([_here(word, names) for word in words] for words in (SERVICE["command"], SERVICE["healthcheck"]["test"][1:]))
    assert command[0] == check[0] == "relevance"
    command[0] = check[0] = str(PROJECT / ".venv-serving" / "bin" / "relevance")
    log = tmp_path / "vllm.log"
    with log.open("wb") as out:
        started = subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True)
    try:
        deadline = time.monotonic() + SECONDS
        while not fleet.registered(loop):
            assert started.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(1)
        assert f"{manifest.name}: p(yes) within" in log.read_text()
        assert subprocess.run(check, env=environment, check=False, capture_output=True).returncode == 0
        started.send_signal(signal.SIGTERM)
        assert started.wait(60) == 0
        assert fleet.registered(loop) == []
    finally:
        started.kill()
        started.wait()
