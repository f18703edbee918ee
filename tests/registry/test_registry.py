"""The registry: immutable versions, one winner a release, and nothing damaged ever served."""

import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from relevance_core.cli import registry as registry_cli
from relevance_core.cli.main import build_parser
from relevance_core.errors import Conflict, NotFound, RegistryError, RelevanceError, SettingsError
from relevance_core.registry import BaseInfo, Manifest, PromptInfo, Registry
from relevance_core.store import FileStore, Store, open_store
from tests.support.registry_cases import (
    TARGET,
    check_race,
    make_adapter,
    make_bucket,
    make_meta,
    moto_server,
    race_processes,
    race_publishers,
    use_server,
)

DECISION = {"who": "ada", "why": "test"}
BUCKETS = (f"bucket-{number}" for number in range(1000))


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with moto_server() as endpoint:
        yield endpoint


@pytest.fixture
def s3(moto: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    bucket = next(BUCKETS)
    use_server(monkeypatch, moto)
    make_bucket(moto, bucket)
    return open_store(f"s3://{bucket}/registry")


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return FileStore(tmp_path / "store") if request.param == "file" else request.getfixturevalue("s3")


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store)


@pytest.fixture
def local(tmp_path: Path) -> Registry:
    return Registry(FileStore(tmp_path / "store"))


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return make_adapter(tmp_path / "adapter")


def publish(registry: Registry, adapter: Path, task: str, *names: str) -> list[str]:
    """Publish one version a name, which is its training data's digest; return the version ids."""
    return [registry.publish(task, adapter, make_meta(data={"train": name})).version for name in names]


# Publishing


def test_a_version_is_stored_whole_and_named_by_its_content(registry: Registry, adapter: Path) -> None:
    """The id is the digest of files, base, prompt, threshold, languages and data; the files lie beside the manifest."""
    manifest = registry.publish("QC", adapter, make_meta())
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in adapter.iterdir()}
    prompt = {"name": "compact", "version": "1", "max_tokens": None, "translation": False, "translator": "", "memory": ""}
    identity = {
        "task": "QC", "prompt": prompt, "threshold": 0.4, "languages": ["en", "es"], "onboarded": [], "data": {"train": "d1"},
        "lora": {"r": 2, "alpha": 4.0, "targets": ["q_proj"]}, "base": {"id": "tiny", "revision": "", "digest": "b1"},
        "files": files,
    }  # fmt: skip
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    assert manifest.version == hashlib.sha256(text.encode()).hexdigest()[:16]
    assert manifest.name == f"relevance-qc@{manifest.version}"
    root = f"adapters/qc/{manifest.version}/"
    assert [entry.key for entry in registry.store.list("adapters/")] == sorted(root + name for name in [*files, "manifest.json"])
    assert registry.versions("QC") == [manifest]
    assert registry.tasks() == ["QC"]
    assert registry.verify("QC", manifest.version) == []


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"run_id": "other", "created": "2030-01-01", "metrics": {"f1": 1.0}, "gate": {"verdict": "publish"}}, True),
        ({"base": BaseInfo(id="tiny", digest="b1", uri="s3://elsewhere")}, True),
        ({"languages": ("en", "es", "es")}, True),
        ({"base": BaseInfo(id="tiny", digest="b2")}, False),
        ({"base": BaseInfo(id="tiny", digest="b1", revision="r")}, False),
        ({"dtype": "float32"}, True),
        ({"dtype": "bfloat16"}, False),
        ({"prompt": PromptInfo(name="compact", version="2")}, False),
        ({"threshold": 0.41}, False),
        ({"languages": ("en",)}, False),
        ({"onboarded": ("de",)}, False),
        ({"data": {"train": "d2"}}, False),
    ],
)
def test_what_decides_a_version(local: Registry, adapter: Path, change: dict[str, Any], same: bool) -> None:
    """What changes a score changes the version; time, run, metrics and verdict do not."""
    first = local.publish("QC", adapter, make_meta())
    assert (local.publish("QC", adapter, make_meta(**change)).version == first.version) is same


def test_the_digest_of_a_base_with_a_revision_changes_no_id(local: Registry, adapter: Path) -> None:
    """A version whose base is named by its revision keeps the id that it had before digests were recorded."""
    plain = local.publish("QC", adapter, make_meta(base=BaseInfo(id="tiny", revision="r")))
    again = local.publish("QC", adapter, make_meta(base=BaseInfo(id="tiny", revision="r", digest="d" * 64)))
    assert again == plain


def test_a_release_of_a_later_release_of_the_package_is_read(local: Registry, adapter: Path) -> None:
    """A field that this one does not know is passed over in an entry of the log; a later schema is refused."""
    version = local.publish("QC", adapter, make_meta()).version
    local.promote({"QC": version}, who="test", why="test")
    key = "aliases/champion/00000001.json"
    fields = json.loads(local.store.read(key))
    local.store.write(key, json.dumps(fields | {"signed_by": "ada"}).encode())
    assert local.release(1).versions == {"QC": version}
    local.store.write(key, json.dumps(fields | {"schema_version": 2}).encode())
    with pytest.raises(RegistryError, match="a stored release can't be read: schema_version"):
        local.release(1)


def test_publishing_again_changes_nothing(registry: Registry, adapter: Path) -> None:
    """The second publish of one content returns the first one's manifest and writes nothing."""
    first = registry.publish("QC", adapter, make_meta(run_id="one"))
    before = registry.store.list()
    assert registry.publish("QC", adapter, make_meta(run_id="two")) == first
    assert registry.store.list() == before


def test_a_half_published_version_is_invisible_and_completed(registry: Registry, adapter: Path) -> None:
    """Files without a manifest are no version: not listed, not servable; the next publish finishes them."""
    manifest = Manifest.build("QC", *read(adapter), make_meta())
    root = f"adapters/qc/{manifest.version}/"
    registry.store.create(root + "adapter_config.json", adapter / "adapter_config.json")
    assert registry.version_ids("QC") == registry.tasks() == []
    with pytest.raises(NotFound, match=f"QC has no version {manifest.version}"):
        registry.promote({"QC": manifest.version}, **DECISION)
    assert registry.publish("QC", adapter, make_meta()) == manifest
    assert registry.verify("QC", manifest.version) == []


def test_a_half_published_damaged_file_is_not_completed(registry: Registry, adapter: Path) -> None:
    """A file of another content under the version's name is refused, and no manifest appears."""
    version = Manifest.build("QC", *read(adapter), make_meta()).version
    registry.store.create(f"adapters/qc/{version}/golden.json", b'{"answers": [0, 1], "rows": []}')
    with pytest.raises(RegistryError, match=r"golden\.json: SHA-256 .* what to do: delete that object"):
        registry.publish("QC", adapter, make_meta())
    assert registry.version_ids("QC") == []


def test_publishing_over_a_damaged_version_is_refused(registry: Registry, adapter: Path) -> None:
    """The same content again is no proof that what is stored is still whole."""
    (version,) = publish(registry, adapter, "QC", "a")
    registry.store.delete(f"adapters/qc/{version}/golden.json")
    with pytest.raises(RegistryError, match=r"golden\.json: missing"):
        publish(registry, adapter, "QC", "a")


def read(adapter: Path) -> Any:
    from relevance_core.registry.adapter_files import read_adapter

    return read_adapter(adapter, make_meta().base)


def tensors(**changes: Any) -> Callable[[Path], object]:
    whole = {f"{TARGET}.lora_A.weight": np.ones((2, 4), np.float32), f"{TARGET}.lora_B.weight": np.ones((4, 2), np.float32)}
    changed = {name: value for name, value in (whole | changes).items() if value is not None}
    return lambda folder: save_file(changed, folder / "adapter_model.safetensors")


def config(**changes: object) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return write


def truncate(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


A, B = f"{TARGET}.lora_A.weight", f"{TARGET}.lora_B.weight"
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "pickle": (lambda folder: (folder / "adapter_model.bin").write_bytes(b""), "adapter_model.bin"),
    "script": (lambda folder: (folder / "run.py").write_text(""), "run.py"),
    "read-me": (lambda folder: (folder / "README.md").write_text(""), "README.md"),
    "hidden": (lambda folder: (folder / ".json").write_text(""), "'.json'"),
    "subfolder": (lambda folder: (folder / "more.json").mkdir(), "more.json"),
    "link": (lambda folder: (folder / "link.json").symlink_to("golden.json"), "link.json"),
    "own manifest": (lambda folder: (folder / "manifest.json").write_text("{}"), "manifest.json"),
    "no weights": (lambda folder: (folder / "adapter_model.safetensors").unlink(), "no adapter_model.safetensors"),
    "no configuration": (lambda folder: (folder / "adapter_config.json").unlink(), "no adapter_config.json"),
    "broken configuration": (lambda folder: (folder / "adapter_config.json").write_text("{"), "can't be read"),
    "other method": (config(peft_type="IA3"), "no LoRA"),
    "targets by pattern": (config(target_modules=".*proj"), "no LoRA"),
    "rank that is no number": (config(r="two"), "has r = 'two'"),
    "modules_to_save": (config(modules_to_save=["lm_head"]), "uses modules_to_save"),
    "bias": (config(bias="all"), "uses bias"),
    "DoRA": (config(use_dora=True), "uses use_dora"),
    "ranks by layer": (config(rank_pattern={"q_proj": 4}), "uses rank_pattern"),
    "other base": (config(base_model_name_or_path="/tmp/base"), "made for the base '/tmp/base'"),
    "target without tensors": (config(target_modules=["q_proj", "v_proj"]), "v_proj"),
    "truncated": (truncate, "can't be read"),
    "wrong rank": (tensors(**{A: np.ones((3, 4), np.float32)}), "rank"),
    "half a pair": (tensors(**{B: None}), "half a pair"),
    "whole matrix": (tensors(**{"base_model.model.lm_head.weight": np.ones((2, 2), np.float32)}), "no LoRA matrix"),
    "NaN": (tensors(**{A: np.full((2, 4), np.nan, np.float32)}), "not finite"),
    "infinity in half precision": (tensors(**{A: np.full((2, 4), np.inf, np.float16)}), "not finite"),
    "integers": (tensors(**{A: np.ones((2, 4), np.int8)}), "type I8"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_may_not_be_published(local: Registry, adapter: Path, damage: str) -> None:
    """Anything but plain, whole, finite LoRA in safetensors and JSON is refused with its cause, and nothing is stored."""
    break_it, cause = DAMAGES[damage]
    break_it(adapter)
    with pytest.raises(RegistryError, match=cause):
        local.publish("QC", adapter, make_meta())
    assert local.store.list() == []


@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_every_float_type_is_published(local: Registry, adapter: Path, kind: type) -> None:
    """The largest finite value of a type is not mistaken for an infinity."""
    tensors(**{A: np.full((2, 4), np.finfo(kind).max, kind), B: np.zeros((4, 2), kind)})(adapter)
    assert local.publish("QC", adapter, make_meta()).lora.r == 2


@pytest.mark.parametrize("task", ["", "qc", "../QC", "QC/..", "Q C"])
def test_a_task_can_not_leave_its_folder(local: Registry, adapter: Path, task: str) -> None:
    """A task is a plain upper-case word wherever it becomes part of a key."""
    for operation in (local.version_ids, lambda name: local.verify(name, "0" * 16), lambda name: local.resolve(name, "0" * 16)):
        with pytest.raises(RegistryError, match="no task"):
            operation(task)
    with pytest.raises(RegistryError, match="no task"):
        local.publish(task, adapter, make_meta())


@pytest.mark.parametrize("version", ["", "..", "../../x", "0" * 15, "0" * 17, "G" * 16])
def test_a_version_can_not_leave_its_folder(local: Registry, tmp_path: Path, version: str) -> None:
    """A version is 16 hexadecimal digits wherever it becomes part of a key."""
    for operation in (local.manifest, local.verify, lambda task, name: local.fetch(task, name, tmp_path / "out")):
        with pytest.raises(RegistryError, match="no version"):
            operation("QC", version)


# Damage


def flip(store: Store, key: str) -> None:
    data = bytearray(store.read(key))
    data[-1] ^= 1
    store.write(key, bytes(data))


def edit(field: str, value: object) -> Callable[[Store, str], None]:
    def change(store: Store, root: str) -> None:
        fields = json.loads(store.read(root + "manifest.json"))
        store.write(root + "manifest.json", json.dumps(fields | {field: value}).encode())

    return change


STORED_DAMAGES: dict[str, tuple[Callable[[Store, str], object], str]] = {
    "flipped bit": (lambda store, root: flip(store, root + "adapter_model.safetensors"), "adapter_model.safetensors: SHA-256"),
    "truncated": (lambda store, root: store.write(root + "golden.json", b"["), "golden.json: 1 bytes, the manifest says 31"),
    "missing file": (lambda store, root: store.delete(root + "golden.json"), "golden.json: missing"),
    "extra file": (lambda store, root: store.write(root + "extra.bin", b""), "extra.bin: not in the manifest"),
    "no manifest": (lambda store, root: store.delete(root + "manifest.json"), "has no version"),
    "threshold edited": (edit("threshold", 0.1), "the manifest's fields give the version"),
    "metric edited": (edit("metrics", {"f1": 1.0}), "changed after it was written"),
    "path in a file name": (edit("files", {"../../x.json": {"size": 0, "sha256": "0" * 64}}), "can't be read"),
    "not JSON": (lambda store, root: store.write(root + "manifest.json", b"{"), "can't be read"),
    "later format": (edit("format", 3), "can't be read: format"),
    "field added": (edit("surprise", 1), "changed after it was written"),
}


@pytest.mark.parametrize("damage", STORED_DAMAGES)
def test_a_damaged_version_is_found_and_never_served(registry: Registry, adapter: Path, tmp_path: Path, damage: str) -> None:
    """Each damage is named by verify, refused by promote, rollback and fetch, and the champion stays."""
    good, bad = publish(registry, adapter, "QC", "good", "bad")
    registry.promote({"QC": bad}, **DECISION)
    champion = registry.promote({"QC": good}, **DECISION)
    break_it, cause = STORED_DAMAGES[damage]
    break_it(registry.store, f"adapters/qc/{bad}/")
    assert any(cause in problem for problem in registry.verify("QC", bad))
    attempts: list[Callable[[], object]] = [
        lambda: registry.promote({"QC": bad}, **DECISION),
        lambda: registry.rollback(**DECISION),
    ]
    if damage != "extra file":  # fetch takes what the manifest names, so a stray object does no harm there
        attempts.append(lambda: registry.fetch("QC", bad, tmp_path / "fetched"))
    for attempt in attempts:
        with pytest.raises(RelevanceError, match=cause):
            attempt()
    assert registry.current() == champion
    assert not (tmp_path / "fetched").exists()
    assert registry.verify("QC", good) == []


def test_a_copied_manifest_is_no_other_version(local: Registry, adapter: Path) -> None:
    """A whole version under another's name is refused: the manifest names itself."""
    one, two = publish(local, adapter, "QC", "one", "two")
    local.store.write(f"adapters/qc/{two}/manifest.json", local.store.read(f"adapters/qc/{one}/manifest.json"))
    assert f"it is the manifest of QC {one}" in local.verify("QC", two)[0]


def test_fetch_gives_the_published_files(registry: Registry, adapter: Path, tmp_path: Path) -> None:
    """Eight threads that fetch one version into one folder all get it whole; a second fetch leaves it alone."""
    (version,) = publish(registry, adapter, "QC", "a")
    target = tmp_path / "cache" / version
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: registry.fetch("QC", version, target), range(8))) == {target}
    assert {path.name: path.read_bytes() for path in target.iterdir() if path.name != "manifest.json"} == {
        path.name: path.read_bytes() for path in adapter.iterdir()
    }
    assert Manifest.from_bytes((target / "manifest.json").read_bytes(), "") == registry.manifest("QC", version)
    assert [path.name for path in target.parent.iterdir()] == [version]
    (target / "golden.json").write_text("changed")
    with pytest.raises(RegistryError, match=r"golden\.json"):
        registry.fetch("QC", version, target)


def test_references(local: Registry, adapter: Path) -> None:
    """'champion', a whole id and four digits mean a version; fewer digits, an unknown or ambiguous beginning do not."""
    one, two = publish(local, adapter, "QC", "one", "two")
    with pytest.raises(NotFound, match="no version of QC serves"):
        local.resolve("QC", "champion")
    local.promote({"QC": two}, **DECISION)
    assert local.resolve("QC", "champion").version == local.resolve("QC", two).version == two
    assert local.resolve("QC", one[:4]).version == local.resolve("QC", one.upper()).version == one
    with pytest.raises(NotFound, match="QC has no version ffff"):
        local.resolve("QC", "ffff")
    with pytest.raises(NotFound, match="no version of QI serves"):
        local.resolve("QI", "champion")
    for reference in (one[:3], "", "../x"):
        with pytest.raises(SettingsError, match="names no version"):
            local.resolve("QC", reference)
    twin = one[:15] + ("0" if one[15] != "0" else "1")
    local.store.write(f"adapters/qc/{twin}/manifest.json", b"")
    with pytest.raises(RegistryError, match="fits several"):
        local.resolve("QC", one[:15])


# The champion's log


def test_releases_are_numbered_and_say_who_and_why(registry: Registry, adapter: Path) -> None:
    """Each promotion is the next entry; a task that is not named keeps its version and base."""
    qc1, qc2 = publish(registry, adapter, "QC", "1", "2")
    (qi1,) = publish(registry, adapter, "QI", "1")
    assert registry.current() is None
    registry.promote({"QC": qc1}, who="ada", why="first", run_id="night-1")
    registry.promote({"QC": qc2, "QI": qi1}, who="bob", why="both")
    one, two = registry.history()
    assert (one.number, one.previous, one.versions, one.who, one.why, one.run_id) == (
        1,
        None,
        {"QC": qc1},
        "ada",
        "first",
        "night-1",
    )
    assert (two.number, two.previous, two.versions, two.who) == (2, 1, {"QC": qc2, "QI": qi1}, "bob")
    assert two.bases == {"QC": "tiny@b1", "QI": "tiny@b1"}
    assert registry.current() == two
    assert [entry.key for entry in registry.store.list("aliases/")] == [f"aliases/champion/0000000{n}.json" for n in (1, 2)]


def test_promoting_what_serves_is_no_new_release(registry: Registry, adapter: Path) -> None:
    """A repeated promotion, as after a lost answer, returns the release that is there."""
    (version,) = publish(registry, adapter, "QC", "1")
    first = registry.promote({"QC": version}, **DECISION)
    assert registry.promote({"QC": version}, who="someone else", why="again", expect={"QC": None}) == first
    assert registry.history() == [first]


def test_a_champion_that_moved_is_a_conflict(registry: Registry, adapter: Path) -> None:
    """Who judged against a version that serves no more is refused with both names; other tasks' moves do not matter."""
    old, new, mine = publish(registry, adapter, "QC", "old", "new", "mine")
    (other,) = publish(registry, adapter, "QI", "other")
    registry.promote({"QC": old}, **DECISION)
    registry.promote({"QI": other}, **DECISION)
    registry.promote({"QC": new}, expect={"QC": old}, **DECISION)
    with pytest.raises(Conflict, match=f"QC serves {new}, not {old}"):
        registry.promote({"QC": mine}, expect={"QC": old}, **DECISION)
    with pytest.raises(Conflict, match=f"QC serves {new}, not None"):
        registry.promote({"QC": mine}, expect={"QC": None}, **DECISION)
    assert registry.promote({"QC": mine}, expect={"QC": new}, **DECISION).versions == {"QC": mine, "QI": other}


def test_a_release_has_a_version_a_person_and_a_reason(local: Registry, adapter: Path) -> None:
    """An entry without one of them is refused."""
    (version,) = publish(local, adapter, "QC", "1")
    for versions, who, why in (({}, "a", "b"), ({"QC": version}, " ", "b"), ({"QC": version}, "a", "")):
        with pytest.raises(RegistryError, match="a release needs"):
            local.promote(versions, who=who, why=why)
    assert local.current() is None


class LaggingStore(FileStore):
    """A stand-in for a store whose listing is late: it never shows the last key."""

    def list(self, prefix: str = "", after: str = "") -> Any:
        return super().list(prefix, after)[:-1]


def test_a_late_listing_does_not_hide_the_champion(local: Registry, adapter: Path) -> None:
    """The current release is found by reading on from the last number that the listing shows."""
    one, two, three = publish(local, adapter, "QC", "1", "2", "3")
    for version in (one, two):
        local.promote({"QC": version}, **DECISION)
    lagging = Registry(LaggingStore(Path(local.store.uri.removeprefix("file://"))))
    assert lagging.current() == local.current()
    assert local.promote({"QC": three}, **DECISION).number == 3
    assert [release.number for release in lagging.history()] == [1, 2, 3]


def test_another_log_in_the_place_of_a_longer_one(local: Registry, adapter: Path) -> None:
    """A registry that has seen three releases finds the first of a log that began anew."""
    one, two, three = publish(local, adapter, "QC", "1", "2", "3")
    for version in (one, two, three):
        local.promote({"QC": version}, **DECISION)
    for entry in local.store.list("aliases/"):
        local.store.delete(entry.key)
    assert local.current() is None
    assert Registry(local.store).promote({"QC": two}, **DECISION).number == 1
    current = local.current()
    assert current is not None
    assert current.versions == {"QC": two}


def test_a_gap_or_a_forged_entry_in_the_log_is_an_error(local: Registry, adapter: Path) -> None:
    """A missing entry, and one under another's number, are named; other files in the folder are not entries."""
    for version in publish(local, adapter, "QC", "1", "2", "3"):
        local.promote({"QC": version}, **DECISION)
    local.store.write("aliases/champion/notes.json", b"")
    local.store.write("aliases/champion/00000009.json.bak", b"")
    assert len(local.history()) == 3
    local.store.write("aliases/champion/00000003.json", local.store.read("aliases/champion/00000001.json"))
    with pytest.raises(RegistryError, match="says that it is release 1"):
        local.current()
    local.store.delete("aliases/champion/00000002.json")
    with pytest.raises(RegistryError, match="release 2 is missing"):
        local.history()


def test_going_back_twice_goes_back_two_steps(registry: Registry, adapter: Path) -> None:
    """After 1, 2, 3: back gives 2's versions, back again 1's, then there is nothing; each step is a new entry."""
    versions = publish(registry, adapter, "QC", "1", "2", "3")
    for version in versions:
        registry.promote({"QC": version}, **DECISION)
    back = registry.rollback(who="eve", why="scores fell")
    assert (back.number, back.previous, back.versions, back.restores, back.who) == (4, 3, {"QC": versions[1]}, {"QC": 2}, "eve")
    assert registry.rollback(**DECISION).versions == {"QC": versions[0]}
    with pytest.raises(NotFound, match="nothing else served QC before"):
        registry.rollback(**DECISION)
    registry.promote({"QC": versions[2]}, **DECISION)
    assert registry.rollback(**DECISION).versions == {"QC": versions[0]}
    assert [release.number for release in registry.history()] == [1, 2, 3, 4, 5, 6, 7]


def test_a_rollback_of_one_task_leaves_the_other(registry: Registry, adapter: Path) -> None:
    """QC a, QC b, QI x, QI y: QC goes back to a while y serves, then QI to x while a serves."""
    a, b = publish(registry, adapter, "QC", "a", "b")
    x, y = publish(registry, adapter, "QI", "x", "y")
    for task, version in (("QC", a), ("QC", b), ("QI", x), ("QI", y)):
        registry.promote({task: version}, **DECISION)
    assert registry.rollback("QC", **DECISION).versions == {"QC": a, "QI": y}
    assert registry.rollback("QI", **DECISION).versions == {"QC": a, "QI": x}
    with pytest.raises(NotFound, match="nothing else served QC before"):
        registry.rollback("QC", **DECISION)
    assert registry.rollback("QC", b[:6], **DECISION).versions == {"QC": b, "QI": x}
    assert registry.rollback(None, 4, **DECISION).versions == {"QC": b, "QI": y}
    assert registry.rollback(None, 1, **DECISION).versions == {"QC": a, "QI": y}


def test_a_rollback_that_means_nothing_is_refused(local: Registry, adapter: Path) -> None:
    """No release yet, a number that is not there, a version without its task, a task that the release did not have."""
    with pytest.raises(NotFound, match="nothing serves"):
        local.rollback(**DECISION)
    (version,) = publish(local, adapter, "QC", "1")
    local.promote({"QC": version}, **DECISION)
    for number in (0, 2, -1):
        with pytest.raises(NotFound, match=f"no release {number}"):
            local.rollback(None, number, **DECISION)
    with pytest.raises(RegistryError, match="without its task"):
        local.rollback(None, version, **DECISION)
    with pytest.raises(NotFound, match="release 1 has no version of QI"):
        local.rollback("QI", 1, **DECISION)
    assert len(local.history()) == 1


# Races


@pytest.mark.slow
def test_sixteen_publishers_have_one_winner_a_release(s3: Store, tmp_path: Path) -> None:
    """16 publishers of two tasks, 100 rounds: one winner a task and round, no release twice, no version lost."""
    registry = Registry(s3)
    check_race(registry, race_publishers(registry, make_adapter(tmp_path / "small", golden=False), 100), 100)


@pytest.mark.slow
def test_sixteen_processes_have_one_winner_a_release(local: Registry, tmp_path: Path) -> None:
    """The same on a local disk, where each publisher is a process."""
    check_race(local, race_processes(local.store.uri, make_adapter(tmp_path / "small", golden=False), 100), 100)


# The command


def command(store: Store, *arguments: str, meanwhile: Callable[[], object] = lambda: None) -> dict[str, Any]:
    """Runs `relevance registry …`. meanwhile: happens after the command has read the store and before it moves the alias."""
    options = build_parser().parse_args(["registry", *arguments, "--store", store.uri])
    result = registry_cli.run(options, store, lambda *given: (meanwhile(), given[2]())[1])
    assert json.loads(json.dumps(result)) == result
    return result


def test_the_command_promotes_lists_and_rolls_back(registry: Registry, adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a program reads, and that the log has the user and the reason."""
    monkeypatch.setenv("LOGNAME", "grace")
    one, two = publish(registry, adapter, "QC", "1", "2")
    listed = {"tasks": {"QC": [row(v) for v in sorted((one, two))]}, "current": None, "releases": []}
    assert command(registry.store, "list") == listed
    command(registry.store, "promote", f"QC={one}", "--why", "first")
    result = command(registry.store, "promote", f"QC={two[:8]}", "--why", "better", "--who", "ada", "--run-id", "r1")
    assert (result["number"], result["versions"], result["who"], result["run_id"]) == (2, {"QC": two}, "ada", "r1")
    result = command(registry.store, "rollback", "--task", "QC", "--why", "worse")
    assert (result["versions"], result["who"], result["why"]) == ({"QC": one}, "grace", "worse")
    result = command(registry.store, "list", "--task", "QC", "--releases", "2")
    assert [release["number"] for release in result["releases"]] == [2, 3]
    assert {row["version"]: row["champion"] for row in result["tasks"]["QC"]} == {one: True, two: False}
    assert command(registry.store, "show", "QC") == registry.manifest("QC", one).to_json()
    assert command(registry.store, "rollback", "--release", "2", "--why", "w")["versions"] == {"QC": two}
    assert command(registry.store, "rollback", "--task", "QC", "--version", one, "--why", "w")["versions"] == {"QC": one}


def test_a_release_made_meanwhile_is_not_rolled_back(registry: Registry, adapter: Path) -> None:
    """QC's release 3, made while a rollback from 2 to 1 proves its version, stays; QI's release 4 hinders no rollback of QC."""
    one, two, three = publish(registry, adapter, "QC", "1", "2", "3")
    (other,) = publish(registry, adapter, "QI", "x")
    for version in (one, two):
        registry.promote({"QC": version}, **DECISION)
    back = ("rollback", "--task", "QC", "--why", "worse")
    with pytest.raises(Conflict, match=f"QC serves {three}, not {two}; .*roll back again"):
        command(registry.store, *back, meanwhile=lambda: registry.promote({"QC": three}, **DECISION))
    assert [release.versions["QC"] for release in registry.history()] == [one, two, three]
    result = command(registry.store, *back, meanwhile=lambda: registry.promote({"QI": other}, **DECISION))
    assert (result["number"], result["versions"]) == (5, {"QC": two, "QI": other})


def row(version: str) -> dict[str, Any]:
    return {
        "version": version, "champion": False, "created": "2026-01-31T00:00:00+00:00", "base": "tiny@b1", "problem": "",
        "languages": ["en", "es"],
    }  # fmt: skip


def test_the_command_shows_damage(local: Registry, adapter: Path) -> None:
    """A damaged version is named by verify, which fails, and does not keep the list from showing the others."""
    good, bad = publish(local, adapter, "QC", "good", "bad")
    assert command(local.store, "verify") == {"verified": sorted(f"QC@{version}" for version in (good, bad))}
    local.store.write(f"adapters/qc/{bad}/manifest.json", b"{}")
    with pytest.raises(RegistryError, match=f"damaged: QC@{bad}"):
        command(local.store, "verify", "QC")
    rows = command(local.store, "list")["tasks"]["QC"]
    assert {row["version"]: bool(row["problem"]) for row in rows} == {good: False, bad: True}


@pytest.mark.parametrize("text", ["QC", "QC=", "=abcd", "QC=zzzz"])
def test_the_command_refuses_what_names_no_version(local: Registry, text: str) -> None:
    """Each promoted version is TASK=VERSION."""
    with pytest.raises((SettingsError, RegistryError)):
        command(local.store, "promote", text, "--why", "w")
    with pytest.raises(SettingsError, match="each task once"):
        command(local.store, "promote", "QC", "QC", "--why", "w")
