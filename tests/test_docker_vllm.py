"""The service `vllm` of docker/compose.yaml, without the container: its command, environment, key and health check."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from relevance_core import golden
from relevance_core.config import EngineSettings
from relevance_core.prompts import Prompt
from relevance_core.serving import fleet
from relevance_core.stages.base import print_nothing
from relevance_core.store import AdapterMeta, BaseInfo, Manifest, PromptInfo, Registry, Store
from relevance_core.store.signing import Key
from tests.registry_cases import free_port, use_server
from tests.serving_cases import make_tensors, save_adapter, save_base
from tests.test_docker import DOCKER, first_start, gateway_with_accounts, make_the_bucket, store_of

PROJECT = DOCKER.parent
SERVICE = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]["vllm"]
SECONDS = 600.0

pytestmark = [pytest.mark.serving, pytest.mark.ceph, pytest.mark.slow]


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    return first_start(tmp_path / "secrets")


@pytest.fixture
def loop(secrets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """The bucket after its first start, with the loop's key."""
    with gateway_with_accounts(tmp_path / "ceph", secrets) as endpoint:
        use_server(monkeypatch, endpoint)
        make_the_bucket(tmp_path)
        yield store_of("airflow", secrets, monkeypatch)


def _publish(store: Store, folder: Path, key: Key) -> Manifest:
    """A signed champion of QC on a random base that lies in `folder`, as one in /models does, with its golden pairs."""
    from relevance_core.models.scorer import Scorer

    base, prompt = save_base(folder / "base"), Prompt("compact", 1, False, 64)
    adapter = save_adapter(folder / "adapter", make_tensors(scale=0.1), base="random-base")
    scorer = Scorer(str(base), adapter, prompt, EngineSettings())
    golden.write(adapter, [("QC", f"query {n}", f"Shoes > Kind {n}", None) for n in range(4)], scorer, print_nothing)
    meta = AdapterMeta(
        base=BaseInfo(id="random-base", digest="b1", uri=str(base)),
        prompt=PromptInfo(name="compact", version="1", max_tokens=64),
        threshold=0.5,
        languages=("en",),
        data={"train": "d1"},
        created="2026-01-31T00:00:00+00:00",
    )
    manifest = Registry(store).publish("QC", adapter, meta, key)
    Registry(store).promote({"QC": manifest.version}, who="test", why="first")
    return manifest


def _here(text: str, names: Mapping[str, str]) -> str:
    """A text of the compose file with what it names in a container as it is here; variables at their defaults."""
    text = re.sub(r"\$\{\w+:?-([^}]*)\}", r"\1", text)
    for there, here in names.items():
        text = text.replace(there, here)
    return text


def test_vllm_comes_up_as_composed(loop: Store, secrets: Path, tmp_path: Path) -> None:
    """With the servers' key and the public half of the signing key, it serves a signed champion, is healthy by its own check, and
    leaves the list of servers when it is stopped.
    """
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
