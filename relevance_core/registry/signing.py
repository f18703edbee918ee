"""Signatures of versions: over the bytes of the manifest, which names every file by its SHA-256.

A signature is stored beside the manifest as `manifest.sig`, a JSON object of the algorithm and the signature in base64. The key
determines the accepted algorithm; the signature's own statement must match it.
"""

import base64
import hashlib
import hmac
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from typing_extensions import override

from relevance_core.errors import RegistryError, SettingsError

SIGNATURE = "manifest.sig"
LEAST_SECRET_BYTES = 32
_PEM = b"-----BEGIN "


class Key(ABC):
    """A key that signs or verifies manifests."""

    algorithm: ClassVar[str]

    @staticmethod
    def load(path: str | Path) -> "Key":
        """Loads the key in a file: Ed25519 from a PEM, HMAC-SHA256 with the text as secret from any other file.

        A private Ed25519 key signs and verifies, a public one only verifies. Raises SettingsError for an unreadable file, a secret
        of less than 32 bytes, or a PEM that is no Ed25519 key.
        """
        try:
            data = Path(path).read_bytes().strip()
        except OSError as error:
            raise SettingsError(f"the key can't be read: {error.strerror}", where=str(path), do="give the file of a key") from error
        if data.startswith(_PEM):
            return _ed25519(data, str(path))
        if len(data) < LEAST_SECRET_BYTES:
            raise SettingsError(
                f"the secret has {len(data)} bytes", where=str(path), expected=f"at least {LEAST_SECRET_BYTES} random ones",
                do="make one with: openssl rand -hex 32",
            )  # fmt: skip
        return HmacKey(data)

    @abstractmethod
    def sign(self, data: bytes) -> bytes:
        """Returns the signature of `data`. Raises SettingsError for a key that only verifies."""

    @abstractmethod
    def verify(self, data: bytes, signature: bytes) -> bool:
        """Tells whether `signature` was made over `data` with this key or its private half."""


@dataclass(frozen=True, slots=True)
class HmacKey(Key):
    """A secret that signers and servers share."""

    algorithm: ClassVar[str] = "hmac-sha256"
    secret: bytes = field(repr=False)

    @override
    def sign(self, data: bytes) -> bytes:
        return hmac.digest(self.secret, data, hashlib.sha256)

    @override
    def verify(self, data: bytes, signature: bytes) -> bool:
        return hmac.compare_digest(self.sign(data), signature)


@dataclass(frozen=True, slots=True)
class Ed25519Key(Key):
    """A key pair; servers need only the public key. `private` is None where only the public key is known."""

    algorithm: ClassVar[str] = "ed25519"
    public: Any = field(repr=False)
    private: Any = field(repr=False, default=None)
    path: str = ""

    @override
    def sign(self, data: bytes) -> bytes:
        if self.private is None:
            raise SettingsError(
                "a public key can't sign", where=self.path, expected="an Ed25519 private key", do="set serving.sign_key"
            )
        return bytes(self.private.sign(data))

    @override
    def verify(self, data: bytes, signature: bytes) -> bool:
        from cryptography.exceptions import InvalidSignature

        try:
            self.public.verify(signature, data)
        except InvalidSignature:
            return False
        return True


def _ed25519(data: bytes, path: str) -> Ed25519Key:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    try:
        private = b"PRIVATE KEY" in data.partition(b"\n")[0]
        key: object = serialization.load_pem_private_key(data, None) if private else serialization.load_pem_public_key(data)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SettingsError(f"the PEM can't be read: {error}", where=path, expected="an Ed25519 key without a password") from error
    if isinstance(key, Ed25519PrivateKey):
        return Ed25519Key(key.public_key(), key, path)
    if isinstance(key, Ed25519PublicKey):
        return Ed25519Key(key, path=path)
    raise SettingsError("the PEM is no Ed25519 key", where=path, do="make one with: openssl genpkey -algorithm ed25519")


def signature_of(data: bytes, key: Key) -> bytes:
    """Returns the content of `manifest.sig` for a manifest of these bytes."""
    fields = {"algorithm": key.algorithm, "signature": base64.b64encode(key.sign(data)).decode()}
    return (json.dumps(fields, sort_keys=True) + "\n").encode()


def require_signed(data: bytes, signature: bytes | None, key: Key, where: str) -> None:
    """Raises RegistryError unless `key` accepts a signature of the manifest.

    Args:
        data: the manifest's bytes.
        signature: the content of `manifest.sig`; None where there is none.
        key: verifies the signature.
        where: the manifest's address, for the error.
    """
    problem = "has no signature" if signature is None else _problem(data, signature, key)
    if problem:
        raise RegistryError(
            f"the manifest {problem}",
            where=where,
            expected=f"a {SIGNATURE} beside it, made with the {key.algorithm} key of serving.verify_key",
            do="publish it again with serving.sign_key if you trust it; otherwise find out who wrote it",
        )


def _problem(data: bytes, signature: bytes, key: Key) -> str:
    try:
        fields = json.loads(signature)
        algorithm, raw = fields["algorithm"], base64.b64decode(fields["signature"], validate=True)
    except (ValueError, KeyError, TypeError, RecursionError):
        return "has a signature that can't be read"
    if algorithm != key.algorithm:
        return f"is signed with {str(algorithm)[:40]!r}"
    return "" if key.verify(data, raw) else "has a wrong signature: it was changed, or signed with another key"
