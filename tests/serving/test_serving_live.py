"""The whole way: the loop, a registry on an S3 protocol server, vLLM (the CPU build), the client; swaps under load; failures."""

from __future__ import annotations

import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil
import pytest
from safetensors.numpy import load_file, save_file

from relevance_core import machine
from relevance_core.config import EngineSettings, build
from relevance_core.machine import free_port
from relevance_core.registry import AdapterMeta, Manifest, Registry, Release, golden
from relevance_core.registry.adapter_files import WEIGHTS
from relevance_core.scoring.bases import base_of
from relevance_core.scoring.opened import prompt_of
from relevance_core.scoring.scorer import Scorer
from relevance_core.serving import fleet
from relevance_core.serving.client import ScoringClient
from relevance_core.serving.prompts import Pair
from relevance_core.serving.rollout import roll_out
from relevance_core.serving.wire import Server
from relevance_core.sources import read_labelled
from relevance_core.stages.evaluate import score_with
from relevance_core.store import Store, open_store
from tests.support.loop import Done, command, environment, relevance, retrain, small_shop
from tests.support.registry_cases import make_bucket, moto_server, use_server

pytestmark = [pytest.mark.serving, pytest.mark.slow]

STORE = "s3://shop/relevance"
CLIENTS, SWAPS, PAIRS = 16, 20, 200
ASKED = 4
"""Pairs of a request under load."""
QUICK = ("--set", "denoise.enabled=false")
"""For a night whose versions are only to be served."""
SETTINGS = build({"serving": {"drain_seconds": 0.6, "staleness_seconds": 0.4, "timeout_seconds": 60}})


class Serve:
    """A running `relevance serve`."""

    def __init__(self, store: Store, folder: Path, port: int) -> None:
        self.store = store
        self.log = folder / f"serve-{port}.log"
        self.url = f"http://127.0.0.1:{port}"
        arguments = command("serve", "--store", STORE, "--port", str(port))
        with self.log.open("ab") as stream:
            self.process = subprocess.Popen(arguments, stdout=stream, stderr=stream, env=environment(), start_new_session=True)

    def ready(self) -> Serve:
        """Waits for it."""
        deadline = time.monotonic() + 300
        while not any(entry.url == self.url for entry in fleet.registered(self.store)):
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.3)
        return self

    def kill(self) -> None:
        """SIGKILL to vLLM's processes, then to it."""
        for process in psutil.Process(self.process.pid).children(recursive=True):
            process.kill()
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """SIGTERM, as a process manager does it."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four days of a small market."""
    return small_shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A bucket of an S3 protocol server."""
    with moto_server() as endpoint, pytest.MonkeyPatch.context() as patch:
        use_server(patch, endpoint)
        patch.setenv("RELEVANCE_SCRATCH", str(tmp_path_factory.mktemp("scratch")))
        make_bucket(endpoint, "shop")
        opened = open_store(STORE)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def night(store: Store, shop: Path) -> Done:
    """The first night, which publishes both tasks."""
    done = retrain(STORE, shop, "2026-10-04", *QUICK)
    assert done.code == 0, done.log
    return done


@pytest.fixture(scope="module")
def server(night: Done, store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """A vLLM server of what was published."""
    running = Serve(store, tmp_path_factory.mktemp("serve"), free_port())
    try:
        yield running.ready()
    finally:
        running.stop()


@pytest.fixture(scope="module")
def rows(shop: Path) -> pl.DataFrame:
    """Logged QC pairs of every language."""
    read = read_labelled(str(shop / "logs" / "dt=2026-10-04" / "part-0.parquet")).filter(task="QC")
    return read.unique("pair_id", maintain_order=True).head(PAIRS)


def pairs_of(rows: pl.DataFrame) -> list[Pair]:
    return [Pair(*row) for row in rows.select("language", "query", "target").iter_rows()]


def other_version(registry: Registry, manifest: Manifest, folder: Path, **changes: float) -> Manifest:
    """A version on the same base whose scores differ: half the low-rank update, its own golden pairs, and `changes` of its meta."""
    source = registry.fetch(manifest.task, manifest.version, folder / "fetched")
    adapter = folder / "adapter"
    adapter.mkdir()
    tensors = load_file(source / WEIGHTS)
    save_file({name: values / 2 if "lora_B" in name else values for name, values in tensors.items()}, adapter / WEIGHTS)
    (adapter / "adapter_config.json").write_bytes((source / "adapter_config.json").read_bytes())
    texts = [(manifest.task, "red shoes", "Sports,Shoes", None), (manifest.task, "zapatos rojos", "Home,Kitchen", None)]
    scorer = Scorer(base_of(registry.store, manifest).source, adapter, prompt_of(manifest.prompt), EngineSettings())
    golden.write(adapter, texts, scorer)
    values = {name: value for name, value in manifest.to_json().items() if name in AdapterMeta.model_fields}
    return registry.publish(manifest.task, adapter, AdapterMeta.model_validate(values | changes))


def truth(store: Store, manifest: Manifest, rows: pl.DataFrame) -> Any:
    """p(yes) by the trainer's scorer."""
    return score_with(store, manifest, rows, SETTINGS).to_numpy()


def test_the_client_agrees_with_the_trainer(server: Serve, store: Store, rows: pl.DataFrame) -> None:
    """Loop → S3 → vLLM → client: p(yes) of 200 pairs within 1e-3 of the trainer's scorer, with the version and its decision."""
    champion = Registry(store).resolve("QC", "champion")
    with ScoringClient(store) as client:
        scores = client.score("QC", pairs_of(rows))
    expected = truth(store, champion, rows)
    assert len(expected) == PAIRS
    assert np.abs(scores.p - expected).max() < 1e-3
    assert scores.version == champion.version
    assert scores.relevant.tolist() == (scores.p >= champion.threshold).tolist()


@dataclass
class Load:
    """Clients that score all the time, and what they got."""

    expected: dict[str, Any]
    pairs: list[Pair]
    pause: float = 0.0
    """Seconds between two requests of a client."""
    stop: threading.Event = field(default_factory=threading.Event)
    answers: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Load:
        self.threads = [threading.Thread(target=self._score, args=(number,)) for number in range(CLIENTS)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def _score(self, number: int) -> None:
        draw = random.Random(number)
        with ScoringClient(STORE, settings=SETTINGS.serving) as client:
            while not self.stop.wait(self.pause):
                places = draw.sample(range(len(self.pairs)), ASKED)
                try:
                    scores = client.score("QC", [self.pairs[place] for place in places])
                except Exception as error:
                    self.failed.append(repr(error))
                    continue
                self.answers[scores.version] = self.answers.get(scores.version, 0) + 1
                off = np.abs(scores.p - self.expected[scores.version][places]).max()
                if not off < 1e-3:
                    self.wrong.append(f"{scores.version}: {off}")


def swaps(registry: Registry, versions: list[Manifest], between: Callable[[int], None] = lambda number: None) -> None:
    """Lets the versions serve in turns, each proved on the servers before."""
    for number in range(SWAPS):
        chosen = versions[number % len(versions)]

        def move(chosen: Manifest = chosen) -> Release:
            return registry.promote({"QC": chosen.version}, who="test", why="swap")

        roll_out(registry, {"QC": chosen.version}, move, SETTINGS)
        between(number)


@pytest.fixture(scope="module")
def versions(server: Serve, store: Store, tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    """The version that serves, and one whose scores differ."""
    registry = Registry(store)
    champion = registry.resolve("QC", "champion")
    return [other_version(registry, champion, tmp_path_factory.mktemp("other")), champion]


def test_swaps_under_load(server: Serve, store: Store, rows: pl.DataFrame, versions: list[Manifest]) -> None:
    """16 clients during 20 swaps: no request fails, no score matches neither version, and both versions answered many."""
    expected = {manifest.version: truth(store, manifest, rows) for manifest in versions}
    assert np.abs(np.subtract(*expected.values())).max() > 0.01
    with Load(expected, pairs_of(rows)) as load:
        swaps(Registry(store), versions)
    assert (load.failed, load.wrong) == ([], [])
    assert set(load.answers) == set(expected)
    assert min(load.answers.values()) > 100
    release = Registry(store).current()
    assert release is not None
    assert release.number == 1 + SWAPS


def test_a_killed_server_comes_back_under_load(
    server: Serve, store: Store, rows: pl.DataFrame, versions: list[Manifest], tmp_path: Path
) -> None:
    """The same with a second server that is killed at the fifth swap and started again: nothing fails, nothing is wrong.

    Clients pause between requests here: else they leave a server that starts on the same two cores nothing to start on.
    """
    port = free_port()
    second = [Serve(store, tmp_path, port).ready()]
    expected = {manifest.version: truth(store, manifest, rows) for manifest in versions}

    def between(number: int) -> None:
        if number == 5:
            second[0].kill()
            second[0] = Serve(store, tmp_path, port)
        if number == 12:
            second[0].ready()

    try:
        with Load(expected, pairs_of(rows), pause=1.0) as load:
            swaps(Registry(store), versions, between)
        assert (load.failed, load.wrong) == ([], [])
        assert set(load.answers) == set(expected)
        assert {entry.url for entry in fleet.registered(store)} == {server.url, second[0].url}
    finally:
        second[0].stop()


def test_rollback_is_proved_and_quick(server: Serve, store: Store, versions: list[Manifest]) -> None:
    """`relevance registry rollback` lets the version before serve, proved on the server, in less than 10 s beside the drain."""
    champion = versions[1]
    current = Registry(store).promote({"QC": versions[0].version}, who="test", why="to go back from")
    started = time.monotonic()
    drain = ("--set", "serving.drain_seconds=0")
    done = relevance("registry", "rollback", "--store", STORE, "--who", "test", "--why", "worse since noon", "--json", *drain)
    assert done.code == 0, done.log
    assert time.monotonic() - started < 10
    assert "proved on" in done.log
    assert (current.versions["QC"], done.result["versions"]["QC"]) == (versions[0].version, champion.version)
    assert (done.result["who"], done.result["why"]) == ("test", "worse since noon")


def test_a_new_base_comes_up_beside_the_old_one(
    server: Serve, store: Store, shop: Path, rows: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A night on another base starts a server for it and moves both tasks in one release, which the client follows; gone back from,
    that server ends by itself.
    """
    registry = Registry(store)
    # A champion that says no to everything, so that the night's versions are better.
    champions = [registry.resolve(task, "champion") for task in ("QC", "QI")]
    worse = [other_version(registry, champion, tmp_path_factory.mktemp("worse"), threshold=1.0) for champion in champions]
    before = registry.promote({manifest.task: manifest.version for manifest in worse}, who="test", why="to be beaten")
    blue_green = ("seed=18", "serving.start_servers=1", "serving.python=auto", "serving.drain_seconds=1")
    settings = [*QUICK, *(part for setting in blue_green for part in ("--set", setting))]
    with ScoringClient(store, settings=SETTINGS.serving) as client:
        old = client.score("QC", pairs_of(rows))
        done = retrain(STORE, shop, "2026-10-05", *settings)
        assert done.code == 0, done.log
        after = registry.current()
        assert after is not None
        assert after.number == before.number + 1, done.log
        assert set(after.bases.values()).isdisjoint(before.bases.values())
        assert len(set(after.bases.values())) == 1
        time.sleep(SETTINGS.serving.staleness_seconds)
        new = client.score("QC", pairs_of(rows))
        assert (old.version, new.version) == (before.versions["QC"], after.versions["QC"])
        assert np.abs(new.p - truth(store, registry.resolve("QC", "champion"), rows)).max() < 1e-3
    assert {entry.base for entry in fleet.registered(store)} == {*before.bases.values(), *after.bases.values()}
    back = ("--release", str(before.number), "--who", "test", "--why", "the old base again", "--set", "serving.drain_seconds=0")
    done = relevance("registry", "rollback", "--store", STORE, "--json", *back)
    assert done.code == 0, done.log
    deadline = time.monotonic() + 120
    while {entry.url for entry in fleet.registered(store)} != {server.url}:
        assert time.monotonic() < deadline, fleet.registered(store)
        time.sleep(0.5)


# The last one here: the server is gone after it.
def test_a_server_that_is_asked_to_end(server: Serve, store: Store) -> None:
    """`relevance serve` said when it was ready, serves the champions by name, and after SIGTERM it ends with status 0, without a
    process left and off the list of servers.
    """
    assert f"ready {server.url}\n" in server.log.read_text()
    registry = Registry(store)
    champions = [registry.resolve(task, "champion") for task in ("QC", "QI")]
    with Server(server.url, timeout=30) as connection:
        assert connection.healthy()
        assert connection.base() == champions[0].base.label
        assert connection.adapters() >= {champion.name for champion in champions}
    assert relevance("ready", "--endpoint", server.url, "--store", STORE, "--champions", "--json").code == 0
    (group,) = (child.pid for child in psutil.Process(server.process.pid).children())
    assert len(machine.members(group)) > 1
    server.stop()
    assert server.process.returncode == 0
    assert machine.members(group) == []
    assert fleet.registered(store) == []
