"""Keys that sign, made anew for a test."""

from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from relevance_core.registry.signing import Key

PEM = serialization.Encoding.PEM
PRIVATE = (PEM, serialization.PrivateFormat.PKCS8)


def ed25519(folder: Path, name: str = "key") -> tuple[Key, Key]:
    """A new private key and its public half, both read from their files."""
    private = Ed25519PrivateKey.generate()
    (folder / f"{name}.pem").write_bytes(private.private_bytes(*PRIVATE, serialization.NoEncryption()))
    public = private.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / f"{name}.pub").write_bytes(public)
    return Key.load(folder / f"{name}.pem"), Key.load(folder / f"{name}.pub")


def secret(folder: Path, text: str) -> Key:
    """An HMAC key that was read from a file with this text."""
    (folder / "secret").write_text(text + "\n")
    return Key.load(folder / "secret")
