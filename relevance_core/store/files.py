"""The object store on a local (or NFS) file system."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from typing_extensions import override

from relevance_core.errors import NotFound, SettingsError
from relevance_core.store.disk import disk_errors, file_chunks, fill, make_folders, scratch, sync_folder
from relevance_core.store.objects import RESERVED, Entries, Entry, Names, Store, check_found, check_key

_ABANDONED_S = 24 * 3600


class FileStore(Store):
    """Objects are files below a folder, which is created by the first write.

    A file is written in `<root>/.tmp` and then renamed (write) or hard-linked (create) to its name; both are atomic, and the link
    fails where the name is taken. Files that a killed process left in `.tmp` are deleted a day later.
    """

    def __init__(self, root: Path) -> None:
        super().__init__()
        if not root.is_absolute():
            raise SettingsError(f"the store's folder {str(root)!r} is relative", expected="an absolute path", do="use file:///…")
        self._root = root
        self._scratch = root / RESERVED[0]
        self._swept = False

    def __reduce__(self) -> tuple[type["FileStore"], tuple[Path]]:
        return (FileStore, (self._root,))

    @property
    @override
    def uri(self) -> str:
        return self._root.as_uri()

    @override
    def uri_of(self, key: str) -> str:
        return self._path(key).as_uri()

    @override
    def local_path(self, key: str) -> Path | None:
        return self._path(key)

    @override
    def stream(self, key: str) -> Iterator[bytes]:
        path = self._path(key)
        with disk_errors("reading an object", path, "read"):
            try:
                yield from file_chunks(path)
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
                raise NotFound(f"there is no object {key!r}", where=self.uri, do="list the store to see what is there") from error

    @override
    def exists(self, key: str) -> bool:
        path = self._path(key)
        with disk_errors("looking for an object", path, "read"):
            return path.is_file()

    @override
    def list(self, prefix: str = "", after: str = "") -> Entries:
        _check_prefix(prefix)
        start = self._root / prefix.rpartition("/")[0]
        with disk_errors("listing the store", start, "read"):
            return sorted(entry for entry in self._walk(start, after) if entry.key.startswith(prefix) and entry.key > after)

    @override
    def folders(self, prefix: str) -> Names:
        folder = self._root / _check_prefix(prefix)
        with disk_errors("listing the store", folder, "read"):
            if not folder.is_dir():
                return []
            with os.scandir(folder) as children:
                return sorted(child.name for child in children if child.is_dir(follow_symlinks=False))

    @override
    def delete(self, key: str) -> None:
        path = self._root / check_key(key)
        with disk_errors("deleting an object", path):
            if path.is_file():
                path.unlink(missing_ok=True)
                sync_folder(path.parent)

    def _path(self, key: str) -> Path:
        return self._root / check_found(key, folders=True)

    def _walk(self, folder: Path, after: str) -> Iterator[Entry]:
        """Yields regular files below `folder`; links are not followed, so that a listing stays inside the store.

        Folders whose keys all sort before `after` are skipped.
        """
        if not folder.is_dir():
            return
        below = "" if folder == self._root else folder.relative_to(self._root).as_posix() + "/"
        with os.scandir(folder) as children:
            for child in children:
                key = below + child.name
                if child.is_dir(follow_symlinks=False):
                    if key not in RESERVED and (key + "/" > after or after.startswith(key + "/")):
                        yield from self._walk(Path(child.path), after)
                elif child.is_file(follow_symlinks=False):
                    with suppress(FileNotFoundError):  # deleted since the folder was read
                        status = child.stat()
                        yield Entry(key, status.st_size, f"{status.st_ino}-{status.st_mtime_ns}", status.st_mtime)

    @override
    def _put(self, key: str, data: bytes | Path) -> None:
        with self._finished(key, data) as (temporary, path):
            temporary.replace(path)

    @override
    def _put_if_absent(self, key: str, data: bytes | Path) -> bool:
        path = self._root / key
        with disk_errors("looking for an object", path, "read"):
            if path.exists():
                return False
        with self._finished(key, data) as (temporary, path):
            try:
                os.link(temporary, path)
            except FileExistsError:
                # A repeated NFS request can report the name taken by its own first attempt; the link count tells.
                return temporary.stat().st_nlink == 2
        return True

    @contextmanager
    def _finished(self, key: str, data: bytes | Path) -> Iterator[tuple[Path, Path]]:
        """Yields a scratch file with the whole content, and its final path; the final path's folder is flushed afterwards."""
        path = self._root / key
        with disk_errors("writing an object", path):
            make_folders(self._scratch)
            make_folders(path.parent)
            self._sweep()
            with scratch(self._scratch, path.name) as temporary:
                fill(temporary, file_chunks(data) if isinstance(data, Path) else (data,))
                yield temporary, path
                sync_folder(path.parent)

    def _sweep(self) -> None:
        """Deletes, once per instance, scratch files whose writer can no longer be alive."""
        if self._swept:
            return
        self._swept = True
        for path in self._scratch.glob("*.part"):
            with suppress(FileNotFoundError):  # its writer has just finished
                if path.lstat().st_mtime < time.time() - _ABANDONED_S:
                    path.unlink()


def _check_prefix(prefix: str) -> str:
    """Returns `prefix` if it is empty or the beginning of a key (it may end in a slash), else raises `SettingsError`."""
    if prefix:
        check_found(prefix.removesuffix("/"), folders=True)
    return prefix
