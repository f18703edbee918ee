"""From a name to a verified folder: whole versions only, fetched once, and no error ever reaches the engine."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest

from relevance_core.errors import ModelError, NotFound, RegistryError, SettingsError, StoreError
from relevance_core.registry import Manifest, Registry, names
from relevance_core.registry.adapter_files import WEIGHTS
from relevance_core.serving.cache import GRACE_SECONDS, AdapterCache
from relevance_core.serving.checks import ServedBase, check_servable
from relevance_core.serving.plugin import AdapterResolver, PluginSettings
from relevance_core.serving.resolver import AGAIN_SECONDS, Resolver
from relevance_core.store import FileStore, Store
from tests.support.clock import Clock
from tests.support.keys import ed25519
from tests.support.serving_cases import BASE, DAMAGED, RANK, SHAPES, Bench, config_folder, make_tensors, publish


class CountingStore(FileStore):
    """A store that counts what is asked of it, and fails when told to."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked: list[str] = []
        self.error: Exception | None = None

    def stream(self, key: str) -> Iterator[bytes]:
        self.asked.append(key)
        if self.error:
            raise self.error
        return super().stream(key)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> ServedBase:
    return ServedBase(BASE.label, config_folder(tmp_path_factory.mktemp("base") / "base"))


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    return CountingStore(tmp_path / "store")


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(store: Store, served: ServedBase, tmp_path: Path, lines: list[str], clock: Clock) -> Callable[..., Resolver]:
    """A resolver with a cache of two adapters; each call is a server that starts."""

    def start(**changes: object) -> Resolver:
        settings = {"max_rank": 32, "cached": 2, "log": lines.append, "clock": clock} | changes
        return Resolver(store, served, tmp_path / "cache", **settings)  # type: ignore[arg-type]

    return start


def left(tmp_path: Path) -> list[str]:
    """What is in the cache."""
    return sorted(path.name for path in (tmp_path / "cache").glob("*"))


# Names


@pytest.mark.parametrize(
    "name",
    ["", "base", "relevance-qc", "relevance-QC@0123456789abcdef", "relevance-qc@0123456789abcdeF",
     "relevance-qc@0123456789abcdef\n", "relevance-qc@../../etc/passwd", "../relevance-qc@0123456789abcdef",
     "relevance-@0123456789abcdef", "relevance-qc@012345678", 7, None],
)  # fmt: skip
def test_what_is_no_name(name: object) -> None:
    """Only the whole immutable name, in lower case, means a version."""
    assert names.parse(name) is None


def test_a_name() -> None:
    """Task and version in, the name of the manifest out, and back."""
    assert names.name_of("QC", "0123456789abcdef") == "relevance-qc@0123456789abcdef"
    assert names.parse("relevance-qc@0123456789abcdef") == ("QC", "0123456789abcdef")


def test_an_unknown_form_costs_nothing(
    make: Callable[..., Resolver], store: CountingStore, tmp_path: Path, lines: list[str]
) -> None:
    """The store is not asked, the disk not touched, and the log gets one line without the request's line break."""
    assert make().resolve("x\nrelevance-qc@0123456789abcdef") is None
    assert (store.asked, left(tmp_path)) == ([], [])
    assert len(lines) == 1
    assert "\n" not in lines[0]
    assert "no adapter's name" in lines[0]


# Whole and damaged versions


def test_a_whole_version(make: Callable[..., Resolver], store: Store, tmp_path: Path, lines: list[str]) -> None:
    """The folder is named by the manifest's digest and holds the published files and their manifest."""
    manifest = publish(store, tmp_path)
    folder = make().resolve(manifest.name)
    assert folder == tmp_path / "cache" / manifest.digest
    assert {path.name for path in folder.iterdir()} == {*manifest.files, "manifest.json"}
    assert (folder / WEIGHTS).read_bytes() == (tmp_path / "whole-1" / WEIGHTS).read_bytes()
    assert left(tmp_path) == [manifest.digest]
    assert lines == []


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_version(kind: str, make: Callable[..., Resolver], store: Store, tmp_path: Path, lines: list[str]) -> None:
    """Each of twelve kinds is refused with one line that names its cause, and leaves nothing; a whole one is served beside it."""
    (key, trusted), (other, _) = ed25519(tmp_path), ed25519(tmp_path, "other")
    bench = Bench(store, tmp_path / "made", key, other)
    make_it, cause = DAMAGED[kind]
    name = make_it(bench)
    resolver = make(key=trusted)
    assert resolver.resolve(name) is None
    assert len(lines) == 1
    assert name[:80] in lines[0]
    assert re.search(cause, lines[0])
    assert left(tmp_path) == []
    whole = bench.whole(99)
    assert resolver.resolve(whole.name) == tmp_path / "cache" / whole.digest


def test_an_unsigned_version_where_a_key_is_set(
    make: Callable[..., Resolver], store: Store, tmp_path: Path, lines: list[str]
) -> None:
    """With a key no signature is a refusal, without one it is not asked for."""
    manifest = publish(store, tmp_path)
    assert make(key=ed25519(tmp_path)[1]).resolve(manifest.name) is None
    assert "the manifest has no signature" in lines[0]
    assert make().resolve(manifest.name) is not None


def test_shapes_come_from_the_base(served: ServedBase) -> None:
    """Every linear layer of the Qwen3 with two layers of 64, by hand; the output head too."""
    shapes = served.shapes()
    assert {name: shapes[f"model.layers.1.{name}"] for name in SHAPES} == SHAPES
    assert shapes["lm_head"] == (64, 600)
    assert len(shapes) == 2 * 7 + 1


def test_a_base_that_is_not_there(make: Callable[..., Resolver], store: Store, tmp_path: Path, lines: list[str]) -> None:
    """A server whose base folder holds no model refuses adapters, and says what is wrong."""
    base = ServedBase(BASE.label, tmp_path / "no-base")
    with pytest.raises(ModelError, match="configuration can't be read"):
        base.shapes()
    manifest = publish(store, tmp_path)
    assert Resolver(store, base, tmp_path / "cache", max_rank=32, cached=2, log=lines.append).resolve(manifest.name) is None
    assert "the base's configuration can't be read" in lines[0]


def test_a_folder_changed_after_it_was_fetched(store: Store, served: ServedBase, tmp_path: Path) -> None:
    """Another file, a file more, and a folder of another version are each told apart from the manifest's."""
    manifest = publish(store, tmp_path)
    folder = Registry(store).fetch("QC", manifest.version, tmp_path / "fetched")
    check_servable(folder, manifest, served, RANK)
    (folder / "golden.json").write_text("[]")
    with pytest.raises(RegistryError, match=r"are not those of its manifest: golden\.json"):
        check_servable(folder, manifest, served, RANK)
    (folder / "more.bin").write_bytes(b"")
    with pytest.raises(RegistryError, match=r"'more\.bin' can't be published"):
        check_servable(folder, manifest, served, RANK)
    with pytest.raises(RegistryError, match="has rank 4"):
        check_servable(folder, manifest, served, RANK - 1)


# Requests at once, and again


def test_requests_at_once_fetch_once(make: Callable[..., Resolver], store: CountingStore, tmp_path: Path) -> None:
    """Of 16 threads that ask for one name, all get the folder and one reads the manifest and the weights."""
    manifest = publish(store, tmp_path)
    store.asked.clear()
    resolver, barrier = make(), Barrier(16)

    def ask(_: int) -> Path | None:
        barrier.wait(60)
        return resolver.resolve(manifest.name)

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(ask, range(16))) == {tmp_path / "cache" / manifest.digest}
    root = f"adapters/qc/{manifest.version}/"
    assert sorted(store.asked) == sorted(root + name for name in [*manifest.files, "manifest.json"])


def test_an_unknown_version_is_looked_for_every_five_seconds(
    make: Callable[..., Resolver], store: CountingStore, clock: Clock, lines: list[str], tmp_path: Path
) -> None:
    """In between the store is not asked; published meanwhile, it is found by the next look."""
    name = Manifest.model_validate_json(publish(FileStore(tmp_path / "elsewhere"), tmp_path / "a").to_bytes()).name
    resolver = make()
    assert [resolver.resolve(name) for _ in range(3)] == [None] * 3
    assert (len(store.asked), len(lines)) == (1, 1)
    assert "QC has no version" in lines[0]
    publish(store, tmp_path / "b")
    assert resolver.resolve(name) is None
    clock.now += AGAIN_SECONDS
    assert resolver.resolve(name) is not None


def test_what_never_fits_is_fetched_once(make: Callable[..., Resolver], store: CountingStore, clock: Clock, tmp_path: Path) -> None:
    """A refusal that follows from the manifest's own bytes costs one look at the manifest from then on."""
    manifest_name = Bench(store, tmp_path / "made", *ed25519(tmp_path)).unchecked("one-layer", make_tensors(layers=range(1))).name
    resolver = make()
    assert resolver.resolve(manifest_name) is None
    store.asked.clear()
    clock.now += AGAIN_SECONDS
    assert resolver.resolve(manifest_name) is None
    assert [key.rpartition("/")[2] for key in store.asked] == ["manifest.json"]


def test_a_restored_object_is_served(make: Callable[..., Resolver], store: CountingStore, clock: Clock, tmp_path: Path) -> None:
    """A stored file that was damaged and comes back from a backup needs no restart."""
    manifest = publish(store, tmp_path)
    key = f"adapters/qc/{manifest.version}/{WEIGHTS}"
    whole = store.read(key)
    store.write(key, whole[:-1] + bytes([whole[-1] ^ 1]))
    resolver = make()
    assert resolver.resolve(manifest.name) is None
    store.write(key, whole)
    clock.now += AGAIN_SECONDS
    assert resolver.resolve(manifest.name) is not None


# Failures


@pytest.mark.parametrize("error", [StoreError("reading an object failed: connection refused"), MemoryError(), RuntimeError("a\nb")])
def test_a_store_that_fails_never_raises(
    error: Exception, make: Callable[..., Resolver], store: CountingStore, clock: Clock, lines: list[str], tmp_path: Path
) -> None:
    """Whatever the store raises, the answer is None and one line; when it is well again, so is the answer."""
    manifest = publish(store, tmp_path)
    store.error, resolver = error, make()
    assert resolver.resolve(manifest.name) is None
    assert len(lines) == 1
    assert "\n" not in lines[0]
    assert left(tmp_path) == []
    store.error = None
    clock.now += AGAIN_SECONDS
    assert resolver.resolve(manifest.name) is not None


def test_a_dead_s3_server_never_raises(
    served: ServedBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    """A store that nothing listens at is one line that says so."""
    from relevance_core.machine import free_port
    from relevance_core.store import open_store
    from tests.support.registry_cases import use_server

    use_server(monkeypatch, f"http://127.0.0.1:{free_port()}")
    resolver = Resolver(open_store("s3://bucket/x"), served, tmp_path / "cache", max_rank=32, cached=2, log=lines.append)
    assert resolver.resolve("relevance-qc@0123456789abcdef") is None
    assert len(lines) == 1
    assert "start the storage server" in lines[0]


FILL = """
import sys
from pathlib import Path
from relevance_core.serving.checks import ServedBase
from relevance_core.serving.resolver import Resolver
from relevance_core.store import open_store
store, base, label, cache, name = sys.argv[1:]
resolver = Resolver(open_store(store), ServedBase(label, Path(base)), Path(cache), max_rank=32, cached=2, log=print)
print(resolver.resolve(name))
"""


def test_a_full_disk_never_raises(store: CountingStore, served: ServedBase, tmp_path: Path) -> None:
    """Under a limit of 4 KiB a file, as `ulimit -f` sets it, the weights can't be written: None, one line, nothing left."""
    manifest = publish(store, tmp_path)
    assert manifest.files[WEIGHTS].size > 4096
    arguments = [store.uri, str(served.folder), served.label, str(tmp_path / "cache"), manifest.name]
    command = ["bash", "-c", 'ulimit -f 4 && trap "" XFSZ && exec "$@"', "bash", sys.executable, "-c", FILL, *arguments]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=environment)
    line, answer = done.stdout.splitlines()
    assert answer == "None"
    assert "File too large" in line
    assert "raise the file size limit" in line
    assert left(tmp_path) == []


def test_a_cache_that_can_not_be_written(
    store: CountingStore, make: Callable[..., Resolver], tmp_path: Path, lines: list[str]
) -> None:
    """A file where the cache's folder should be is one line and None."""
    manifest = publish(store, tmp_path)
    (tmp_path / "cache").write_text("")
    assert make().resolve(manifest.name) is None
    assert len(lines) == 1
    assert str(tmp_path / "cache") in lines[0]


# The plugin


def plugin_settings(registry: Store, folder: Path, **changes: object) -> str:
    """The environment's text."""
    fields = {
        "store": registry.uri,
        "base": BASE.to_json(),
        "base_folder": str(folder),
        "cache": str(folder / "cache"),
        "dtype": "float32",
        "max_rank": 32,
    }
    return json.dumps(fields | {"cached": 4, "verify_key": ""} | changes)


def test_the_plugin_refuses_for_another_base(store: Store, served: ServedBase, tmp_path: Path, lines: list[str]) -> None:
    """Asked for the right name on a server of another model, it says so and gives nothing; likewise for a name that is none."""
    settings = PluginSettings.read(plugin_settings(store, served.folder, cache=str(tmp_path / "cache")))
    resolver = AdapterResolver(settings.resolver(lines.append), settings.base_folder, lines.append)
    manifest = publish(store, tmp_path)
    assert asyncio.run(resolver.resolve_lora("/models/other", manifest.name)) is None
    assert asyncio.run(resolver.resolve_lora(str(served.folder), "../x")) is None
    assert ["the server's model is '/models/other'" in lines[0], "no adapter's name" in lines[1]] == [True, True]
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"max_rank": 0}, "max_rank"),
        ({"more": 1}, "more"),
        ({"verify_key": "/no/key"}, "can't be read"),
        ({"store": "ftp://x"}, "ftp"),
    ],
)
def test_the_plugin_refuses_settings_that_can_not_be_meant(
    store: Store, tmp_path: Path, changes: dict[str, object], cause: str
) -> None:
    """A server with a wrong bound, an unknown setting, a missing key or a bad address does not start."""
    with pytest.raises(SettingsError, match=cause):
        PluginSettings.read(plugin_settings(store, tmp_path, **changes)).resolver(print)


# Restart


def test_a_restarted_server_needs_no_store(
    make: Callable[..., Resolver], store: CountingStore, tmp_path: Path, lines: list[str]
) -> None:
    """What was fetched, checked and signed before is verified and served again while the store is away."""
    key, public = ed25519(tmp_path)
    manifest = publish(store, tmp_path, sign=key)
    folder = make(key=public).resolve(manifest.name)
    store.error = StoreError("gone")
    assert make(key=public).resolve(manifest.name) == folder
    assert lines == []


@pytest.mark.parametrize("damage", ["weights", "configuration", "manifest", "signature", "no manifest"])
def test_a_restarted_server_verifies_what_it_finds(
    damage: str, make: Callable[..., Resolver], store: CountingStore, tmp_path: Path, lines: list[str]
) -> None:
    """A folder that is not what it was is removed with one line, and fetched again."""
    key, public = ed25519(tmp_path)
    manifest = publish(store, tmp_path, sign=key)
    folder = make(key=public).resolve(manifest.name)
    assert folder is not None
    if damage == "weights":
        data = (folder / WEIGHTS).read_bytes()
        (folder / WEIGHTS).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "configuration":
        (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": "x", "lora_alpha": 1, "target_modules": [1]}')
    elif damage == "manifest":
        fields = json.loads((folder / "manifest.json").read_bytes()) | {"threshold": 0.9}
        (folder / "manifest.json").write_text(json.dumps(fields))
    else:
        (folder / ("manifest.sig" if damage == "signature" else "manifest.json")).unlink()
    assert make(key=public).resolve(manifest.name) == folder
    assert len(lines) == 1
    assert f"removed {folder}" in lines[0]
    assert Registry(store).fetch("QC", manifest.version, folder) == folder


def test_a_folder_that_somebody_removed(
    make: Callable[..., Resolver], store: CountingStore, tmp_path: Path, lines: list[str]
) -> None:
    """Asked for again, it is fetched again, with one line that says so."""
    resolver, manifest = make(), publish(store, tmp_path)
    folder = resolver.resolve(manifest.name)
    assert folder is not None
    shutil.rmtree(folder)
    assert resolver.resolve(manifest.name) == folder
    assert (folder / WEIGHTS).is_file()
    assert len(lines) == 1


def test_a_server_restarted_on_another_base_serves_nothing_of_before(
    make: Callable[..., Resolver], store: CountingStore, served: ServedBase, tmp_path: Path, lines: list[str]
) -> None:
    """What was whole for the old base is refused by the new one, from the disk and from the store."""
    manifest = publish(store, tmp_path)
    assert make().resolve(manifest.name)
    moved = Resolver(
        store, ServedBase("random-base@b2", served.folder), tmp_path / "cache", max_rank=32, cached=2, log=lines.append
    )
    assert moved.resolve(manifest.name) is None
    assert "expected: 'random-base@b2'" in lines[-1]
    assert left(tmp_path) == []


def test_what_a_killed_server_left_unfinished_goes(make: Callable[..., Resolver], store: CountingStore, tmp_path: Path) -> None:
    """An unfinished fetch of long ago is removed by the next server; one of just now may be another's."""
    for name, age in ((".incoming.old", 7200), (".incoming.new", 0)):
        (tmp_path / "cache" / name).mkdir(parents=True)
        os.utime(tmp_path / "cache" / name, (tmp_path.stat().st_mtime - age,) * 2)
    manifest = publish(store, tmp_path)
    make().resolve(manifest.name)
    assert left(tmp_path) == [".incoming.new", manifest.digest]


# Eviction


def test_eviction(make: Callable[..., Resolver], store: CountingStore, tmp_path: Path, clock: Clock) -> None:
    """Only what the server has forgotten goes from a cache of two, the longest unused first, and a minute after its last use."""
    one, two, three, four = (publish(store, tmp_path, seed) for seed in (1, 2, 3, 4))
    resolver = make()
    folders = {}
    for manifest in (one, two, three):
        folders[manifest.name] = resolver.resolve(manifest.name)
        clock.now += 1
    assert len(left(tmp_path)) == 3, "none may go: the server knows all of them"
    resolver.cache.release(two.name)
    resolver.cache.release(three.name)
    resolver.resolve(four.name)
    assert len(left(tmp_path)) == 4, "none may go: each was used in the last minute"
    clock.now += GRACE_SECONDS
    resolver.cache.used(two.name)
    resolver.cache.evict()
    assert left(tmp_path) == sorted(manifest.digest for manifest in (one, two, four)), "three was free and longest unused"
    assert resolver.resolve(three.name) == folders[three.name], "an evicted one is fetched again"


def test_surplus(tmp_path: Path, clock: Clock) -> None:
    """What the server should forget: the longest unused beyond the cache's size, and nothing that was used in the last minute."""
    cache = AdapterCache(tmp_path, 2, clock)
    for name in "abcd":
        cache.hand_out(name, tmp_path / name)
        clock.now += 1
    assert cache.surplus() == []
    clock.now += GRACE_SECONDS - 3
    assert cache.surplus() == ["a", "b"]
    cache.used("a")
    assert cache.surplus() == ["b"]
    cache.release("b")
    cache.release("c")
    assert cache.surplus() == []


def test_a_folder_that_can_not_be_removed(
    make: Callable[..., Resolver], store: CountingStore, clock: Clock, tmp_path: Path
) -> None:
    """An old adapter that stays on the disk is a line in the log, and the new one is served."""
    lines: list[str] = []
    resolver = make(cached=1, log=lines.append)
    one, two = (publish(store, tmp_path, seed) for seed in (1, 2))
    folder = resolver.resolve(one.name)
    assert folder is not None
    resolver.cache.release(one.name)
    clock.now += GRACE_SECONDS
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    assert resolver.resolve(two.name) is not None
    assert len(lines) == 1
    assert "can't be removed" in lines[0]


def test_the_registry_refuses_a_file_larger_than_stated(store: CountingStore, tmp_path: Path) -> None:
    """An object of another size is refused before a byte of it is fetched: it could fill the disk."""
    manifest = publish(store, tmp_path)
    key = f"adapters/qc/{manifest.version}/{WEIGHTS}"
    store.write(key, np.zeros(1 << 20, np.uint8).tobytes())
    store.asked.clear()
    with pytest.raises(RegistryError, match="1048576 bytes, the manifest says"):
        Registry(store).fetch("QC", manifest.version, tmp_path / "fetched")
    assert key not in store.asked
    with pytest.raises(NotFound):
        Registry(store).fetch("QC", "0" * 16, tmp_path / "fetched")
