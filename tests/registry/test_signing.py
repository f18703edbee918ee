"""Who vouches for a manifest: only its own key's signature over its very bytes is accepted."""

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from relevance_core.errors import NotFound, RegistryError, SettingsError
from relevance_core.registry import BaseInfo, Registry
from relevance_core.registry.signing import Key, require_signed, signature_of
from relevance_core.store import Store
from tests.support.keys import PRIVATE, ed25519, secret
from tests.support.registry_cases import make_adapter, make_meta


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return make_adapter(tmp_path / "adapter")


@pytest.fixture
def registry(store: Store) -> Registry:
    return Registry(store)


# Keys


def test_an_ed25519_pair(tmp_path: Path) -> None:
    """The private key signs, both verify; a changed byte and another key's signature fail, and the public half can't sign."""
    private, public = ed25519(tmp_path)
    other, _ = ed25519(tmp_path, "other")
    signature = private.sign(b"manifest")
    assert private.verify(b"manifest", signature)
    assert public.verify(b"manifest", signature)
    assert not public.verify(b"Manifest", signature)
    assert not public.verify(b"manifest", other.sign(b"manifest"))
    assert not public.verify(b"manifest", b"")
    with pytest.raises(SettingsError, match="a public key can't sign"):
        public.sign(b"manifest")


def test_an_hmac_secret(tmp_path: Path) -> None:
    """HMAC-SHA256 of the file's text without its line's end: `printf manifest | openssl dgst -sha256 -hmac kkkk…` (32 k)."""
    key = secret(tmp_path, "k" * 32)
    assert key.sign(b"manifest").hex() == "af7a776032ad31a342cccb28a7926cab6bccba2f9dedfcc8d323ee209c65805c"
    assert key.verify(b"manifest", key.sign(b"manifest"))
    assert not secret(tmp_path, "l" * 32).verify(b"manifest", key.sign(b"manifest"))


def test_a_key_does_not_show_its_secret(tmp_path: Path) -> None:
    """What a log or an error shows of a key is not the key."""
    assert "kkkk" not in repr(secret(tmp_path, "k" * 32))
    assert "object at" not in repr(ed25519(tmp_path)[0])


def test_what_is_no_key(tmp_path: Path) -> None:
    """A missing file, a short secret, a PEM of another kind, a broken one and one with a password are each refused by name."""
    other = rsa.generate_private_key(65537, 2048)
    locked = Ed25519PrivateKey.generate().private_bytes(*PRIVATE, serialization.BestAvailableEncryption(b"password"))
    files = {
        "short": (b"k" * 31, "the secret has 31 bytes"),
        "rsa": (other.private_bytes(*PRIVATE, serialization.NoEncryption()), "no Ed25519 key"),
        "broken": (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "can't be read"),
        "locked": (locked, "without a password"),
    }
    for name, (data, cause) in files.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(SettingsError, match=cause):
            Key.load(tmp_path / name)
    with pytest.raises(SettingsError, match="can't be read: No such file"):
        Key.load(tmp_path / "missing")


# Signatures


def test_the_key_says_which_algorithm_counts(tmp_path: Path) -> None:
    """A public key's file used as an HMAC secret signs nothing: the signature's own word on its algorithm is not taken."""
    _, public = ed25519(tmp_path)
    forger = secret(tmp_path, (tmp_path / "key.pub").read_text().replace("-----BEGIN", "BEGIN"))
    forged = json.loads(signature_of(b"data", forger)) | {"algorithm": "ed25519"}
    with pytest.raises(RegistryError, match="is signed with 'hmac-sha256'"):
        require_signed(b"data", signature_of(b"data", forger), public, "here")
    with pytest.raises(RegistryError, match="wrong signature"):
        require_signed(b"data", json.dumps(forged).encode(), public, "here")


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b'"x"', b'{"algorithm":"ed25519"}', b'{"algorithm":"ed25519","signature":"?"}', b"\xff"]
)
def test_a_signature_that_can_not_be_read(tmp_path: Path, text: bytes) -> None:
    """Whatever lies in the place of a signature, the answer is a refusal."""
    with pytest.raises(RegistryError, match="can't be read"):
        require_signed(b"data", text, ed25519(tmp_path)[1], "here")


# In the registry


def test_a_signed_version(registry: Registry, adapter: Path, tmp_path: Path) -> None:
    """Signed over the stored manifest's bytes, whole for verify, fetched with its signature, and unchanged by publishing again."""
    private, public = ed25519(tmp_path)
    manifest = registry.publish("QC", adapter, make_meta(), private)
    signature = registry.signature("QC", manifest.version)
    assert signature is not None
    stored = registry.store.read(f"adapters/qc/{manifest.version}/manifest.json")
    assert public.verify(stored, base64.b64decode(json.loads(signature)["signature"]))
    assert registry.verify("QC", manifest.version) == []
    assert registry.manifest("QC", manifest.version, public) == manifest
    folder = registry.fetch("QC", manifest.version, tmp_path / "fetched", public)
    assert (folder / "manifest.sig").read_bytes() == signature
    assert (folder / "manifest.json").read_bytes() == stored
    before = registry.store.list()
    assert registry.publish("QC", adapter, make_meta(run_id="again"), private) == manifest
    assert registry.store.list() == before


def test_an_unsigned_version_is_refused_where_a_key_is_asked_for(registry: Registry, adapter: Path, tmp_path: Path) -> None:
    """It gets its signature by being published again with the key, whatever run published it first."""
    private, public = ed25519(tmp_path)
    manifest = registry.publish("QC", adapter, make_meta(run_id="first"))
    assert registry.signature("QC", manifest.version) is None
    with pytest.raises(RegistryError, match="the manifest has no signature"):
        registry.fetch("QC", manifest.version, tmp_path / "fetched", public)
    assert not (tmp_path / "fetched").exists()
    assert registry.publish("QC", adapter, make_meta(run_id="second"), private) == manifest
    assert registry.manifest("QC", manifest.version, public).run_id == "first"


def test_verifying_with_a_key_asks_for_its_signature(registry: Registry, adapter: Path, tmp_path: Path) -> None:
    """Two versions, one of them signed: without a key both are intact, with it the other has no signature."""
    private, public = ed25519(tmp_path)
    signed = registry.publish("QC", adapter, make_meta(threshold=0.4), private)
    unsigned = registry.publish("QC", adapter, make_meta(threshold=0.5))
    assert registry.verify("QC", unsigned.version) == []
    assert registry.verify("QC", signed.version, public) == []
    (problem,) = registry.verify("QC", unsigned.version, public)
    assert "the manifest has no signature" in problem


def test_a_publisher_signs_nothing_that_it_did_not_state(registry: Registry, adapter: Path, tmp_path: Path) -> None:
    """A manifest that somebody else wrote first with another place of the base is not vouched for."""
    private, _ = ed25519(tmp_path)
    registry.publish("QC", adapter, make_meta(base=BaseInfo(id="tiny", digest="b1", uri="s3://theirs")))
    with pytest.raises(RegistryError, match=r"names the base at 's3://theirs'; .*expected: 's3://ours'"):
        registry.publish("QC", adapter, make_meta(base=BaseInfo(id="tiny", digest="b1", uri="s3://ours")), private)


def test_another_key_does_not_replace_a_signature(registry: Registry, adapter: Path, tmp_path: Path) -> None:
    """Publishing again with another key is refused, and the first signature stays."""
    first, _ = ed25519(tmp_path)
    second, _ = ed25519(tmp_path, "second")
    manifest = registry.publish("QC", adapter, make_meta(), first)
    with pytest.raises(RegistryError, match="wrong signature"):
        registry.publish("QC", adapter, make_meta(), second)
    assert registry.manifest("QC", manifest.version, first) == manifest


def test_a_key_does_not_hide_a_missing_version(registry: Registry, tmp_path: Path) -> None:
    """What is not there is not found, signed or not."""
    with pytest.raises(NotFound, match="QC has no version"):
        registry.manifest("QC", "0" * 16, ed25519(tmp_path)[1])
