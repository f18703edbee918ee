"""Adapters, races and servers that the store's and the registry's tests share."""

import json
import multiprocessing
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier, BrokenBarrierError
from typing import Any, TypeVar

import numpy as np
import pytest
from safetensors.numpy import save_file

from relevance_core.errors import Conflict
from relevance_core.machine import free_port
from relevance_core.pairs import Task
from relevance_core.processes import forked, take_on
from relevance_core.registry import AdapterMeta, BaseInfo, Manifest, PromptInfo, Registry, Release
from relevance_core.store import Store, open_store

WRITERS = 16
KEYS = {"AWS_ACCESS_KEY_ID": "test-access", "AWS_SECRET_ACCESS_KEY": "test-secret", "AWS_REGION": "us-east-1"}
TARGET = "base_model.model.model.layers.0.self_attn.q_proj"
T = TypeVar("T")


def answering_no(registry: Registry, task: Task, version: str, folder: Path, **changes: Any) -> Manifest:
    """A copy of a version that answers no to everything, by its threshold of 1: any other is better. changes: of its meta."""
    adapter = registry.fetch(task, version, folder / task)
    (adapter / "manifest.json").unlink()
    values = {name: value for name, value in registry.resolve(task, version).to_json().items() if name in AdapterMeta.model_fields}
    return registry.publish(task, adapter, AdapterMeta.model_validate(values | {"threshold": 1.0} | changes))


def make_adapter(folder: Path, *, golden: bool = True) -> Path:
    """A LoRA adapter of rank 2 and one layer whose numbers are all 1."""
    folder.mkdir(parents=True)
    tensors = {
        f"{TARGET}.lora_A.weight": np.ones((2, 4), np.float32),
        f"{TARGET}.lora_B.weight": np.ones((4, 2), np.float32),
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {
        "peft_type": "LORA",
        "r": 2,
        "lora_alpha": 4,
        "target_modules": ["q_proj"],
        "base_model_name_or_path": "tiny",
        "bias": "none",
        "modules_to_save": None,
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    if golden:
        (folder / "golden.json").write_text('{"answers": [0, 0], "rows": []}')
    return folder


def make_meta(**changes: object) -> AdapterMeta:
    """What a publisher states about `make_adapter`'s adapter."""
    fields: dict[str, object] = {
        "base": BaseInfo(id="tiny", digest="b1"),
        "prompt": PromptInfo(name="compact", version="1"),
        "threshold": 0.4,
        "languages": ("es", "en"),
        "data": {"train": "d1"},
        "created": "2026-01-31T00:00:00+00:00",
    }
    return AdapterMeta.model_validate(fields | changes)


def together(work: Callable[[int, Callable[[], object]], T], meanwhile: Callable[[], None] | None = None) -> list[T]:
    """What 16 threads return from `work(number, wait)`, where `wait` lets them go on at the same moment.

    meanwhile: called once whenever all of them have come to wait. An error in one stops all, and is the one that is raised.
    """
    barrier = Barrier(WRITERS, meanwhile, timeout=600)

    def thread(number: int) -> T:
        try:
            return work(number, barrier.wait)
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(WRITERS) as pool:
        futures = [pool.submit(thread, number) for number in range(WRITERS)]
    causes = [error for future in futures if (error := future.exception()) and not isinstance(error, BrokenBarrierError)]
    if causes:
        raise causes[0]
    return [future.result() for future in futures]


def race_creates(store: Store, rounds: int) -> list[int]:
    """Winners per round when 16 writers create one key at the same moment."""

    def writer(number: int, wait: Callable[[], object]) -> list[bool]:
        wins = []
        for turn in range(rounds):
            wait()
            wins.append(store.create(f"race/{turn:04d}", f"writer {number}".encode()))
        return wins

    return [sum(wins) for wins in zip(*together(writer), strict=True)]


def publisher(
    registry: Registry,
    folder: Path,
    number: int,
    rounds: int,
    wait: Callable[[], object],
    look: Callable[[], Release | None] | None = None,
) -> list[tuple[str, str, int]]:
    """One of 16 publishers: in each round a new version of its task, then an attempt to make it the champion.

    Even numbers publish QC, odd ones QI. look: what serves before they go on; default: it asks for itself. Returns (task, version,
    number of the release or 0 for a conflict) per round.
    """
    task, outcomes = ("QC", "QI")[number % 2], []
    for turn in range(rounds):
        meta = make_meta(data={"train": f"writer {number} round {turn}"})
        wait()
        current = (look or registry.current)()
        expect = {task: current.versions.get(task) if current else None}
        wait()
        version = registry.publish(task, folder, meta).version
        try:
            release = registry.promote({task: version}, who=f"writer {number}", why=f"round {turn}", expect=expect)
            outcomes.append((task, version, release.number))
        except Conflict:
            outcomes.append((task, version, 0))
    return outcomes


def race_publishers(registry: Registry, folder: Path, rounds: int) -> list[list[tuple[str, str, int]]]:
    """The outcomes of 16 publishers in threads, for all of which one has looked what serves."""
    serving: list[Release | None] = [None]

    def look() -> None:
        serving[0] = registry.current()

    return together(lambda number, wait: publisher(registry, folder, number, rounds, wait, lambda: serving[0]), look)


def race_processes(uri: str, folder: Path, rounds: int) -> list[list[tuple[str, str, int]]]:
    """The outcomes of 16 publishers in processes of their own."""
    context = forked()
    barrier = context.Barrier(WRITERS, timeout=600)
    outcomes: multiprocessing.Queue[list[tuple[str, str, int]]] = context.Queue()
    publishers = [
        context.Process(target=_publish_there, args=(dict(os.environ), uri, folder, n, rounds, barrier, outcomes))
        for n in range(WRITERS)
    ]
    for process in publishers:
        process.start()
    found = [outcomes.get(timeout=600) for _ in publishers]
    for process in publishers:
        process.join()
    return found


def _publish_there(
    environment: dict[str, str], uri: str, folder: Path, number: int, rounds: int, barrier: Any, outcomes: Any
) -> None:
    take_on(environment)
    outcomes.put(publisher(Registry(open_store(uri)), folder, number, rounds, barrier.wait))


def check_race(registry: Registry, outcomes: list[list[tuple[str, str, int]]], rounds: int) -> None:
    """One winner a task and round, its entry the only one with that number; every version there and whole; the log without gaps."""
    for turn in range(rounds):
        for task in ("QC", "QI"):
            assert sum(1 for each in outcomes if each[turn][0] == task and each[turn][2]) == 1
    winners = {number: (task, version) for each in outcomes for task, version, number in each if number}
    assert sorted(winners) == list(range(1, 2 * rounds + 1))
    for release in registry.history():
        task, version = winners[release.number]
        assert release.versions[task] == version
    for task in ("QC", "QI"):
        published = sorted(version for each in outcomes for name, version, _ in each if name == task)
        assert len(published) == WRITERS // 2 * rounds
        assert registry.version_ids(task) == published
        assert registry.verify(task, published[0]) == []


def wait_for(url: str, process: subprocess.Popen[bytes], seconds: float = 120) -> None:
    """Return when something answers at `url`, with whatever status."""
    end = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(url, timeout=2).close()  # noqa: S310 - a loopback address made here
            return
        except urllib.error.HTTPError as error:
            error.close()
            return
        except OSError:
            assert process.poll() is None, f"the server ended with {process.returncode}"
            assert time.monotonic() < end, f"{url} did not answer within {seconds} s"
            time.sleep(0.1)


@contextmanager
def moto_server(page: int = 1000) -> Iterator[str]:
    """The endpoint of moto in server mode, in its own process; it lists `page` keys a request."""
    port = free_port()
    command = [sys.executable, str(Path(__file__).with_name("moto_one_write.py")), "-H", "127.0.0.1", "-p", str(port)]
    environment = os.environ | KEYS | {"MOTO_S3_DEFAULT_MAX_KEYS": str(page)}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/moto-api/", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def use_server(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Let `open_store` find this endpoint, and nothing of the machine's own AWS settings."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)


def make_bucket(endpoint: str, name: str) -> None:
    """Create a bucket with the credentials of the environment."""
    import boto3

    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    client.create_bucket(Bucket=name)
    client.close()


def put_objects(endpoint: str, bucket: str, objects: dict[str, bytes]) -> None:
    """Store objects as any program may name them."""
    import boto3

    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    for key, data in objects.items():
        client.put_object(Bucket=bucket, Key=key, Body=data)
    client.close()
