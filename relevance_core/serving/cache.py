"""The adapters that a server keeps on its disk, each in a folder named by its manifest's digest.

An engine reads an adapter's folder again whenever that adapter has left its memory, and crashes if the folder is gone. So a folder
is *in use* from the moment its path is handed out until the server has forgotten the name (`release`), and is not removed before.
"""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from relevance_core.store.disk import sync_folder

GRACE_SECONDS = 60.0
UNFINISHED = ".incoming."
_ABANDONED_SECONDS = 3600.0
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(slots=True)
class _Kept:
    folder: Path
    in_use: bool = False
    used: float = field(default=0.0)


class AdapterCache:
    """Folders of verified adapters below `root`, of which about `keep` stay: the least recently used are removed first.

    A folder in use stays, and so does one used in the last minute, which a request on its way may still need. The root is one
    server's own: two must not share it. Safe to use from several threads. `clock` gives seconds.
    """

    def __init__(self, root: Path, keep: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.root, self._keep, self._clock = root, keep, clock
        self._kept: dict[str, _Kept] = {}
        self._lock = threading.Lock()

    def found(self) -> list[Path]:
        """Returns the folders that an earlier process left, in no order; removes unfinished ones that are an hour old or older."""
        if not self.root.is_dir():
            return []
        folders = [path for path in self.root.iterdir() if path.is_dir() and not path.is_symlink()]
        for path in folders:
            if path.name.startswith(UNFINISHED) and path.stat().st_mtime < time.time() - _ABANDONED_SECONDS:
                shutil.rmtree(path)
        return [path for path in folders if _DIGEST.fullmatch(path.name)]

    def put(self, folder: Path, digest: str) -> Path:
        """Renames a complete, checked `folder` to the place of the version whose manifest has this digest, and returns that place.

        A folder found there is left over from a removal that failed, and is replaced. Raises OSError.
        """
        place = self.root / digest
        if place.exists():
            shutil.rmtree(place)
        folder.rename(place)
        sync_folder(self.root)
        return place

    def hand_out(self, name: str, folder: Path) -> None:
        """Records that the server was given `folder` as `name`."""
        with self._lock:
            self._kept[name] = _Kept(folder, in_use=True, used=self._clock())

    def keep(self, name: str, folder: Path) -> None:
        """Records that `folder` holds `name`, which no server has."""
        with self._lock:
            self._kept.setdefault(name, _Kept(folder))

    def get(self, name: str) -> Path | None:
        """Returns the folder of `name`, which counts as used; None if there is none."""
        self.used(name)
        with self._lock:
            return self._kept[name].folder if name in self._kept else None

    def used(self, name: str) -> None:
        """Records that a request for `name` has just ended."""
        with self._lock:
            if name in self._kept:
                self._kept[name].used = self._clock()

    def release(self, name: str) -> None:
        """Records that no server has `name` any more, so that its folder may be removed."""
        with self._lock:
            if name in self._kept:
                self._kept[name].in_use = False

    def remove(self, name: str) -> None:
        """Removes `name` from the disk at once. Raises OSError."""
        with self._lock:
            kept = self._kept.pop(name, None)
            if kept and kept.folder.exists():
                shutil.rmtree(kept.folder)

    def surplus(self) -> list[str]:
        """Returns the names in use beyond `keep`, the least recently used first, without those used in the last minute."""
        with self._lock:
            in_use = [name for name, kept in self._kept.items() if kept.in_use]
            return self._oldest(in_use, len(in_use) - self._keep)

    def evict(self) -> None:
        """Removes the surplus folders that are not in use. Raises OSError; the next process finds what is left."""
        with self._lock:
            free = [name for name, kept in self._kept.items() if not kept.in_use]
            for name in self._oldest(free, len(self._kept) - self._keep):
                shutil.rmtree(self._kept.pop(name).folder)

    def _oldest(self, names: list[str], count: int) -> list[str]:
        first = sorted(names, key=lambda name: self._kept[name].used)[: max(0, count)]
        return [name for name in first if self._kept[name].used <= self._clock() - GRACE_SECONDS]
