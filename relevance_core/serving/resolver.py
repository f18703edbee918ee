"""Resolves an immutable name to a verified folder on this machine's disk, or to None and one line of log with the reason.

No failure here may raise: the engine that asks would lose more than one request.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from relevance_core.errors import RegistryError, RelevanceError
from relevance_core.registry import Registry, names
from relevance_core.registry.adapter_files import MANIFEST
from relevance_core.registry.manifest import Manifest
from relevance_core.registry.signing import SIGNATURE, Key, require_signed
from relevance_core.registry.versions import StoredVersion
from relevance_core.serving.cache import UNFINISHED, AdapterCache
from relevance_core.serving.checks import ServedBase, check_servable, check_stated
from relevance_core.store import Store
from relevance_core.store.disk import disk_errors, make_folders

T = TypeVar("T")
Log = Callable[[str], None]
AGAIN_SECONDS = 5.0
_REMEMBERED = 1024
_LINE = 1000


class Resolver:
    """Fetches, checks and keeps the adapters that one server serves. Safe to use from several threads.

    Args:
        store: of the registry.
        served: the base that the server holds.
        cache: a folder of this server's own.
        max_rank: the largest LoRA rank that the server takes.
        cached: about how many adapters stay on its disk.
        key: the key that manifests must be signed with; None checks no signature.
        log: takes one line for each refusal.
    """

    def __init__(
        self, store: Store, served: ServedBase, cache: Path, *, max_rank: int, cached: int, key: Key | None = None, log: Log,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.cache = AdapterCache(cache, cached, clock)
        self._registry, self._served, self._max_rank, self._key = Registry(store), served, max_rank, key
        self._log, self._clock = log, clock
        self._lock, self._looking = threading.Lock(), threading.Lock()
        self._flights: dict[str, Future[Path | None]] = {}
        self._refused: OrderedDict[str, float] = OrderedDict()
        self._unservable: OrderedDict[str, str] = OrderedDict()
        self._looked = False

    def resolve(self, name: str) -> Path | None:
        """Returns the folder of the adapter called `name`, in use from now on (until `cache.release`).

        Returns None, and logs one line, if the adapter may not be served or can't be fetched now. Never raises. Many callers at
        once cause one fetch. A name that is missing or incomplete is not looked for again for 5 s.
        """
        if names.parse(name) is None:
            self._tell(f"refused {name[:80]!r}: it is no adapter's name, such as {names.name_of('QC', '0123456789abcdef')}")
            return None
        with self._lock:
            flight = self._flights.get(name)
            if flight is None:
                mine = self._flights[name] = Future()
        if flight is not None:
            return flight.result()
        folder = None
        try:
            folder = self._try(name)
        finally:
            with self._lock:
                del self._flights[name]
            mine.set_result(folder)
        return folder

    def _try(self, name: str) -> Path | None:
        if self._refused.get(name, 0.0) > self._clock():
            return None
        try:
            self._look_once()
            folder = self._from_disk(name) or self._from_store(name)
            self.cache.hand_out(name, folder)
        except Exception as error:  # the engine does not catch a resolver's exceptions
            _remember(self._refused, name, self._clock() + AGAIN_SECONDS)
            what = str(error) if isinstance(error, RelevanceError) else repr(error)
            self._tell(f"refused {name}: {what}")
            return None
        self._evict()
        return folder

    def _look_once(self) -> None:
        """Takes up the folders that this server left when it ended; they are verified when somebody asks for them."""
        with self._looking, disk_errors("reading the cache of adapters", self.cache.root, "read"):
            if self._looked:
                return
            for folder in self.cache.found():
                name = _name_in(folder)
                if name:
                    self.cache.keep(name, folder)
                else:
                    self._tell(f"removed {folder}: it has no manifest that can be read")
                    shutil.rmtree(folder)
            self._looked = True

    def _from_disk(self, name: str) -> Path | None:
        """Returns the folder that is already here, verified again; None if there is none, or it has changed."""
        folder = self.cache.get(name)
        if folder is None:
            return None
        try:
            self._verify_folder(name, folder)
        except (ValueError, OSError) as error:
            self._tell(f"removed {folder}, which was {name}: {error}")
            with disk_errors("removing a damaged adapter", folder):
                self.cache.remove(name)
            return None
        return folder

    def _verify_folder(self, name: str, folder: Path) -> None:
        data = (folder / MANIFEST).read_bytes()
        if self._key:
            signature = folder / SIGNATURE
            require_signed(data, signature.read_bytes() if signature.is_file() else None, self._key, str(folder))
        manifest = Manifest.from_bytes(data, str(folder))
        problems = manifest.problems()
        if problems or (manifest.name, manifest.digest) != (name, folder.name):
            raise RegistryError(
                f"the manifest there is not that of {name}: {'; '.join(problems) or manifest.name}", where=str(folder)
            )
        check_servable(folder, manifest, self._served, self._max_rank)

    def _from_store(self, name: str) -> Path:
        """Fetches and checks the version, then renames the folder to its final name, so that nothing unchecked is ever there.

        Raises RelevanceError.
        """
        task, version = names.parse(name) or ("", "")
        stored = self._registry.stored(task, version, self._key)
        manifest = stored.manifest
        if manifest.digest in self._unservable:
            raise RegistryError(self._unservable[manifest.digest])
        with disk_errors("fetching an adapter", self.cache.root):
            make_folders(self.cache.root)
            with tempfile.TemporaryDirectory(dir=self.cache.root, prefix=UNFINISHED) as incoming:
                folder = self._fetch_checked(stored, Path(incoming) / "version")
                return self.cache.put(folder, manifest.digest)

    def _fetch_checked(self, stored: StoredVersion, folder: Path) -> Path:
        """Fetches the version into `folder`. A failed last check is final for an adapter: its manifest's digests fix every byte."""
        manifest = stored.manifest
        check_stated(manifest, self._served, self._max_rank)
        self._registry.fetch_stored(stored, folder)
        try:
            check_servable(folder, manifest, self._served, self._max_rank)
        except RegistryError as error:
            _remember(self._unservable, manifest.digest, str(error))
            raise
        return folder

    def _evict(self) -> None:
        try:
            self.cache.evict()
        except OSError as error:
            self._tell(f"an old adapter can't be removed from {self.cache.root}: {error}")

    def _tell(self, line: str) -> None:
        """One line: what a store or a request holds must not start another one."""
        self._log("".join(char if char.isprintable() else " " for char in line)[:_LINE])


def _remember(memory: OrderedDict[str, T], key: str, value: T) -> None:
    memory[key] = value
    if len(memory) > _REMEMBERED:
        memory.popitem(last=False)


def _name_in(folder: Path) -> str:
    """Returns the name of the version whose manifest lies in `folder`; empty without a readable manifest."""
    try:
        return Manifest.from_bytes((folder / MANIFEST).read_bytes(), str(folder)).name
    except (RegistryError, FileNotFoundError):
        return ""
