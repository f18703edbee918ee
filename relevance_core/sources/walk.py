"""Every file below a local folder, links followed."""

from __future__ import annotations

import heapq
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from relevance_core.errors import StoreError

LOST_AND_FOUND: Final = "lost+found"
"""The folder in which a file system keeps what it repaired; only root may list it."""

_Identity: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Object:
    """One file, or a name that leads to none.

    Attributes:
        key: the path below the folder, or the key in an object store.
        size: in bytes.
        problem: why it can't be read, "" for a file that can.
        identity: device and inode of a local file.
        linked: reached by a symbolic link.
    """

    key: str
    size: int
    problem: str = ""
    identity: _Identity | None = None
    linked: bool = False


def hides(part: str) -> bool:
    """Tells whether a part of a path hides all below it, as in Hadoop's and Spark's readers."""
    return part.startswith(("_", ".")) or part == LOST_AND_FOUND


def walk(root: Path) -> list[Object]:
    """Returns every file below `root`, sorted by key.

    A link is followed, and each folder is entered by one link at most: of several by one in or to `logs/`, else by one that is
    named as a partition. A link to a folder above itself, and a link in or to a hidden part of the tree, is an object with its
    problem. Raises StoreError for a folder that may not be read, except a hidden one.
    """
    search = _Search(str(root))
    search.tree(str(root), "", linked=False)
    while search.links:
        *_, key, path = heapq.heappop(search.links)
        search.link(path, key)
    return sorted(search.found, key=lambda found: found.key)


@dataclass
class _Search:
    root: str
    found: list[Object] = field(default_factory=list)
    links: list[tuple[bool, bool, str, str]] = field(default_factory=list)
    entered: dict[_Identity, str] = field(default_factory=dict)

    def tree(self, path: str, key: str, *, linked: bool) -> None:
        """Lists the real files below a folder; links to folders are kept for later."""
        todo = [(path, key, False)]
        while todo:
            path, key, hidden = todo.pop()
            if linked and not self._first(path, key):
                continue
            for child in self._children(path, key, hidden):
                below = f"{key}/{child.name}" if key else child.name
                hidden_too = hidden or hides(child.name)
                if child.is_dir(follow_symlinks=False):
                    todo.append((child.path, below, hidden_too))
                elif child.is_symlink():
                    self._note_link(child.path, below, hidden_too)
                else:
                    with suppress(FileNotFoundError):  # deleted since the folder was read
                        self._file(below, child.stat(follow_symlinks=False), linked)

    def link(self, path: str, key: str) -> None:
        """Lists what is below a link to a folder."""
        here, there = os.path.realpath(Path(path).parent), os.path.realpath(path)
        if os.path.commonpath((here, there)) == there:
            self._skip(key, "a link that leads back to a folder above it")
        else:
            self.tree(path, key, linked=True)

    def _first(self, path: str, key: str) -> bool:
        """Notes that a folder is entered by way of a link; False if that has happened before."""
        try:
            status = os.stat(path)  # noqa: PTH116 - strings, for speed
        except FileNotFoundError:
            return False
        before = self.entered.setdefault((status.st_dev, status.st_ino), key)
        if before != key:
            self._skip(key, f"the same folder as {before}, by another link")
        return before == key

    def _children(self, path: str, key: str, hidden: bool) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(path) as children:
                yield from children
        except FileNotFoundError:
            return
        except PermissionError as error:
            if hidden:
                self._skip(key, "a folder that may not be read")
            else:
                raise refused(path, error) from error
        except OSError as error:
            raise refused(path, error) from error

    def _note_link(self, path: str, key: str, hidden: bool) -> None:
        """Keeps a link to a folder for later, and lists a link to a file as the file."""
        if hidden:
            self._skip(key, "a link")
            return
        try:
            status = os.stat(path)  # noqa: PTH116 - strings, for speed
        except (FileNotFoundError, NotADirectoryError):
            self._skip(key, "a broken link")
        except PermissionError as error:
            raise refused(path, error) from error
        except OSError:  # a link to itself
            self._skip(key, "a link that leads back to itself")
        else:
            if stat.S_ISDIR(status.st_mode):
                heapq.heappush(self.links, (key.partition("/")[0] != "logs", "=" not in key.rpartition("/")[2], key, path))
            else:
                self._file(key, status, linked=True)

    def _file(self, key: str, status: os.stat_result, linked: bool) -> None:
        if stat.S_ISREG(status.st_mode):
            self.found.append(Object(key, status.st_size, "", (status.st_dev, status.st_ino), linked))
        else:
            self._skip(key, "a pipe, socket or device")

    def _skip(self, key: str, problem: str) -> None:
        self.found.append(Object(key, 0, problem))


def refused(path: str, error: OSError) -> StoreError:
    """Returns the error of a folder or file of a source that this user may not look at."""
    return StoreError(
        f"a part of the source can't be listed: {error.strerror or error}",
        where=path,
        expected="a folder or file that this user may read",
        do="give this user the right to read it, or take it out of the source",
    )
