"""The store and the registry on a real S3 server: Ceph's gateway, started from Debian's packages."""

from pathlib import Path

import pytest

from relevance_core.errors import NotFound, StoreError
from relevance_core.registry import Registry
from relevance_core.store import Entry, Store, open_store
from tests.support.ceph_rgw import Gateway
from tests.support.registry_cases import (
    check_race,
    make_adapter,
    make_bucket,
    make_meta,
    put_objects,
    race_creates,
    race_publishers,
    use_server,
)

pytestmark = [pytest.mark.ceph, pytest.mark.slow]

BUCKETS = (f"bucket-{number}" for number in range(1000))


@pytest.fixture
def ceph(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Store:
    use_server(monkeypatch, gateway.endpoint)
    bucket = next(BUCKETS)
    make_bucket(gateway.endpoint, bucket)
    return open_store(f"s3://{bucket}/relevance")


def test_objects_come_back_as_written(ceph: Store, tmp_path: Path) -> None:
    """Bytes, files in one part and files in several, listing, deleting and what is missing."""
    (tmp_path / "big").write_bytes(b"0123456789abcdef" * (1 << 20))
    ceph.write("a/ü 1", b"one")
    ceph.write("a/ü 1", b"two")
    ceph.upload(tmp_path / "big", "a/big")
    ceph.download("a/big", tmp_path / "copy")
    assert ceph.read("a/ü 1") == b"two"
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "big").read_bytes()
    assert ceph.list("a/") == [Entry("a/big", 1 << 24), Entry("a/ü 1", 3)]
    ceph.delete("a/big")
    with pytest.raises(NotFound, match="a/big"):
        ceph.read("a/big")


def test_keys_of_other_programs_are_read(gateway: Gateway, ceph: Store) -> None:
    """Empty parts, leading slashes, controls and a new line: the key that the listing has is the key that is read."""
    keys = sorted(
        ["dt=2020-01-01//old.jsonl", "/a", "marker/", "new\nline", "back\\slash", "left\u200eto right", "50% #1?[2]*+ü", "%41"]
    )
    put_objects(gateway.endpoint, ceph.uri.split("/")[2], {f"relevance/{key}": key.encode() for key in keys})
    assert [entry.key for entry in ceph.everything()] == keys
    assert [ceph.read(key).decode() for key in keys] == keys


def test_one_of_sixteen_writers_creates(ceph: Store) -> None:
    """16 writers, 100 rounds: each key is created exactly once."""
    assert race_creates(ceph, 100) == [1] * 100


def test_sixteen_publishers_have_one_winner_a_release(ceph: Store, tmp_path: Path) -> None:
    """16 publishers of two tasks, 100 rounds: one winner a task and round, no release twice, no version lost."""
    registry = Registry(ceph)
    check_race(registry, race_publishers(registry, make_adapter(tmp_path / "adapter", golden=False), 100), 100)


def test_a_version_is_fetched_as_published(ceph: Store, tmp_path: Path) -> None:
    """Publish, publish again, promote, fetch, go back: the whole life of two versions."""
    registry = Registry(ceph)
    adapter = make_adapter(tmp_path / "adapter")
    one, two = (registry.publish("QC", adapter, make_meta(threshold=threshold)) for threshold in (0.4, 0.5))
    assert registry.publish("QC", adapter, make_meta(threshold=0.4, run_id="again")) == one
    registry.promote({"QC": one.version}, who="ada", why="first")
    registry.promote({"QC": two.version}, who="ada", why="better")
    folder = registry.fetch("QC", two.version, tmp_path / "fetched")
    assert (folder / "adapter_model.safetensors").read_bytes() == (adapter / "adapter_model.safetensors").read_bytes()
    assert registry.rollback(who="bob", why="worse").versions == {"QC": one.version}


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_keys_are_one_clear_error(ceph: Store, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """A server that checks credentials refuses wrong ones, and the error says which to correct."""
    monkeypatch.setenv(variable, "wrong")
    with pytest.raises(StoreError, match=f"refused.*what to do: correct {variable}"):
        open_store(ceph.uri).list()


def test_a_missing_bucket_is_one_clear_error(ceph: Store) -> None:
    """A bucket that does not exist is never "no such object"."""
    with pytest.raises(StoreError, match=r"the bucket 'not-there' does not exist.*what to do: create the bucket"):
        open_store("s3://not-there/x").exists("a")
