"""Writes local files so that no reader, even after a power cut, finds a partial file."""

import errno
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from relevance_core.errors import RelevanceError, StoreError

CHUNK = 1 << 20

_REMEDIES = {
    errno.ENOSPC: "free space on that disk, or use another one",
    errno.EDQUOT: "free space in that quota, or raise it",
    errno.EFBIG: "raise the file size limit of this process (ulimit -f)",
    errno.EROFS: "make that file system writable, or use another one",
    errno.EACCES: "give this user the right to {access} there",
    errno.ENAMETOOLONG: "take a shorter name",
    errno.ENOTDIR: "remove the file that stands where a folder is needed",
    errno.EISDIR: "remove the folder that stands where a file is needed",
    errno.EPERM: "use a file system with hard links (ext4, xfs, btrfs, NFS)",
    errno.EOPNOTSUPP: "use a file system with hard links (ext4, xfs, btrfs, NFS)",
}

_OF_POLARS = re.compile(r"\(os error (\d+)\)")
"""The end of an error of polars that a failing disk caused, in whatever class."""


@contextmanager
def disk_errors(doing: str, path: Path, access: Literal["read", "write"] = "write", whole: bool = True) -> Iterator[None]:
    """Raises any `OSError` of the block, and polars' errors about a disk, as a `StoreError` that names the path and the remedy.

    Args:
        doing: the block's work, for the message.
        path: its file or folder.
        access: the right that it needs.
        whole: it writes files that become visible once they are whole, and the message says so.
    """
    try:
        yield
    except RelevanceError:
        raise
    except Exception as error:
        of_polars = _OF_POLARS.search(str(error))
        if not isinstance(error, OSError) and not of_polars:
            raise
        code = int(of_polars[1]) if of_polars else getattr(error, "errno", None) or 0
        do = _REMEDIES.get(code, "check that path and its disk").format(access=access)
        left = "; nothing half-written was left visible" if whole and access == "write" else ""
        raise StoreError(f"{doing} failed: {os.strerror(code) if code else error}", where=str(path), do=do + left) from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Makes the folder for a file that the block writes under its own name. Raises `StoreError` for disk errors."""
    with disk_errors("writing a file", path, whole=False):
        path.parent.mkdir(parents=True, exist_ok=True)
        yield


def file_chunks(path: Path) -> Iterator[bytes]:
    """Yields a local file's content in chunks of 1 MiB."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def fill(path: Path, chunks: Iterable[bytes]) -> None:
    """Writes the chunks to `path` and flushes them to the disk."""
    with path.open("wb") as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())


def make_folders(folder: Path) -> None:
    """Creates `folder` and its parents, each one flushed into the folder above it."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in reversed(missing):
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flushes a folder, so that a name just linked or renamed into it survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def scratch(folder: Path, name: str) -> Iterator[Path]:
    """Yields a path in `folder` for an unfinished file, which is deleted when the block ends unless it was renamed."""
    path = folder / f".{name[:40]}.{os.getpid()}-{secrets.token_hex(6)}.part"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def replacement(path: Path) -> Iterator[Path]:
    """Yields a scratch path beside `path`, renamed to `path` when the block succeeds. Raises `StoreError` for disk errors."""
    with disk_errors("writing a file", path):
        make_folders(path.parent)
        with scratch(path.parent, path.name) as temporary:
            yield temporary
            temporary.replace(path)
            sync_folder(path.parent)
