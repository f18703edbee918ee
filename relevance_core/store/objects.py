"""The contract of an object store: keys, entries and the few operations that the loop needs.

A key is a POSIX path below the store's root. Every implementation guarantees two properties: an object appears whole or not at
all, and `create` lets exactly one of many concurrent writers win. Writes take plain keys alone (`check_key`); reading takes the
keys of other programs too (`check_found`).
"""

import hashlib
import threading
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from relevance_core.errors import SettingsError, StoreError
from relevance_core.store.disk import fill, replacement

#: First parts of keys that the store keeps for itself: unfinished files and the probe object.
RESERVED = (".tmp", ".probe")
PROBE_KEY = ".probe/if-none-match"
_KEY_BYTES = 1024
_PART_BYTES = 255


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One stored object: its key and its size in bytes.

    tag: changes whenever the object is written again. modified: time of the last write, in seconds since 1970, precise to a second
    or better. Entries compare by key and size alone; tag and modified are empty where the store does not report them.
    """

    key: str
    size: int
    tag: str = field(default="", compare=False)
    modified: float = field(default=0.0, compare=False)


#: `Store.list` hides the builtin of that name inside the class.
Entries: TypeAlias = list[Entry]
Names: TypeAlias = list[str]


@dataclass(frozen=True, slots=True)
class Digest:
    """Size in bytes and SHA-256 (64 hex digits) of an object's content."""

    size: int
    sha256: str


def check_key(key: str) -> str:
    """Returns `key` unchanged if it is a safe relative POSIX path, else raises `SettingsError`."""
    problem = _key_problem(key)
    if problem:
        raise SettingsError(
            f"the key {key!r} is refused: {problem}",
            expected="a relative POSIX path such as runs/2026-01-31/train.parquet",
            do="use plain names joined by single slashes",
        )
    return key


def _key_problem(key: str) -> str:
    parts = key.split("/")
    # Controls, bidi marks, surrogates and private use ("C…") look like other names, or break logs and file systems.
    if any(unicodedata.category(char).startswith("C") for char in key):
        return "it holds a control or formatting character"
    if "" in parts:
        return "it is empty, absolute or has an empty part"
    if "." in parts or ".." in parts:
        return "it has a '.' or '..' part"
    if "\\" in key:
        return "it holds a backslash"
    if parts[0] in RESERVED:
        return f"{parts[0]!r} is the store's own"
    if len(key.encode()) > _KEY_BYTES or any(len(part.encode()) > _PART_BYTES for part in parts):
        return f"it is longer than {_KEY_BYTES} bytes, or one of its parts than {_PART_BYTES}"
    return ""


def check_found(key: str, *, folders: bool) -> str:
    """Returns the key of an object that any program may have written, else raises `SettingsError`.

    Reading takes every key that leads to one object and to nothing else; only writing asks for a plain name.

    folders: the store keeps folders, whose paths have no empty part and no name over 255 bytes.
    """
    problem = _found_problem(key, folders)
    if problem:
        raise SettingsError(
            f"the key {key!r} is refused: {problem}",
            expected="the key of an object, as a listing of the store has it",
            do="rename the object",
        )
    return key


def _found_problem(key: str, folders: bool) -> str:
    parts = key.split("/")
    # Folders resolve these parts, and so do some clients of S3: the key would lead to another object.
    if "." in parts or ".." in parts:
        return "it has a '.' or '..' part"
    if parts[0] in RESERVED:
        return f"{parts[0]!r} is the store's own"
    if not folders:
        return "" if key and _bytes(key, "strict") else "it is empty or no text"
    name = _bytes(key, "surrogateescape")
    if "" in parts or not name or b"\0" in name:
        return "it is empty, absolute, no text or has an empty part"
    if any(len(part) > _PART_BYTES for part in name.split(b"/")):
        return f"one of its parts is longer than {_PART_BYTES} bytes"
    return ""


def _bytes(text: str, errors: str) -> bytes:
    """Returns the text in UTF-8, no bytes where it can't be encoded. `surrogateescape`: as the file system has such a name."""
    try:
        return text.encode("utf-8", errors)
    except UnicodeEncodeError:
        return b""


class Store(ABC):
    """Objects under keys. Instances are safe to share between threads and can be pickled."""

    def __init__(self) -> None:
        self._probe_lock = threading.Lock()
        self._probed = False

    def close(self) -> None:  # noqa: B027 - a store without connections has nothing to end
        """Closes open connections; the store may be used again, and then opens new ones."""

    @property
    @abstractmethod
    def uri(self) -> str:
        """The address from which `open_store` opens this store."""

    @abstractmethod
    def uri_of(self, key: str) -> str:
        """Returns the full address of one object."""

    @abstractmethod
    def local_path(self, key: str) -> Path | None:
        """Returns the file that holds `key`, existing or not; None where objects are not local files."""

    @abstractmethod
    def stream(self, key: str) -> Iterator[bytes]:
        """Yields the object's content in chunks of at most 1 MiB. Raises `NotFound`."""

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Tells whether an object is stored under `key`."""

    @abstractmethod
    def list(self, prefix: str = "", after: str = "") -> Entries:
        """Returns every object whose key starts with `prefix` (plain text, not a folder) and sorts after `after`, sorted by key."""

    @abstractmethod
    def folders(self, prefix: str) -> Names:
        """Returns the names of the folders right below `prefix`, itself a folder that ends in a slash, sorted."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Deletes an object; a missing object is no error."""

    @abstractmethod
    def _put(self, key: str, data: bytes | Path) -> None:
        """Replaces the object atomically."""

    @abstractmethod
    def _put_if_absent(self, key: str, data: bytes | Path) -> bool:
        """Creates the object atomically; returns False if the key is taken."""

    def everything(self, prefix: str = "") -> Entries:
        """Returns what `list` does, and with it what others keep in the store that holds no data: markers of folders."""
        return self.list(prefix)

    def read(self, key: str) -> bytes:
        """Returns the object's whole content. Raises `NotFound`."""
        return b"".join(self.stream(key))

    def write(self, key: str, data: bytes) -> None:
        """Stores `data` under `key`, replacing any older content; readers see the old content or the new, never a mix."""
        self._put(check_key(key), data)

    def upload(self, path: Path, key: str) -> None:
        """Stores a file of any size under `key`, as `write` does."""
        self._put(check_key(key), path)

    def create(self, key: str, data: bytes | Path) -> bool:
        """Stores `data` (bytes, or a file of at most 5 GiB) unless `key` is taken.

        Returns True if this call created the object; of many concurrent callers exactly one gets True. Raises
        `StoreError` when the store does not honour the condition (see `probe`).
        """
        check_key(key)
        with self._probe_lock:
            if not self._probed:
                self.probe()
                self._probed = True
        return self._put_if_absent(key, data)

    def probe(self) -> None:
        """Checks that the store refuses to create the same object twice; raises `StoreError` if it does not.

        The probe object stays: if it were deleted, two concurrent probes could each create it and blame the store.
        """
        first = self._put_if_absent(PROBE_KEY, b"relevance-loop\n")
        if first and self._put_if_absent(PROBE_KEY, b"relevance-loop\n"):
            raise StoreError(
                "the store ignores conditional writes: it created the same object twice",
                where=self.uri,
                expected="PutObject with If-None-Match: * to answer 412 when the object exists",
                do="use a store that honours it (AWS S3, Ceph RGW, versitygw ≥ 1.8); with this one two publishers "
                "can overwrite each other without a trace",
            )

    def download(self, key: str, path: Path) -> None:
        """Writes the object to the local file `path`, which appears whole or not at all. Raises `NotFound`."""
        with replacement(path) as temporary:
            fill(temporary, self.stream(key))

    def digest(self, key: str) -> Digest:
        """Returns size and SHA-256 of the object, read as a stream. Raises `NotFound`."""
        return digest_of(self.stream(key))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uri!r})"


def digest_of(chunks: Iterator[bytes]) -> Digest:
    """Returns size and SHA-256 of the joined chunks."""
    total, sha256 = 0, hashlib.sha256()
    for chunk in chunks:
        total += len(chunk)
        sha256.update(chunk)
    return Digest(total, sha256.hexdigest())
