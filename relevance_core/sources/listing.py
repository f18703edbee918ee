"""The files of a source: each one below an address is to be read, or skipped with the reason. Names are never patterns."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Final

from relevance_core.errors import NotFound
from relevance_core.sources.partitions import Partitions, is_partition, partitions, shown
from relevance_core.sources.walk import LOST_AND_FOUND, Object, hides, refused, walk
from relevance_core.store import FileStore, Store, open_store

COMPANIONS: Final = {
    "catalogue": ("catalogue.parquet",),
    "categories": ("categories.tsv.gz", "categories.tsv"),
    "terms": ("terms.tsv.gz", "terms.tsv"),
    "brands": ("brands.txt",),
}
"""Companion → file names looked for beside the logs; the first that exists is taken. No file of these names is a log."""

UNPLACED: Final = "unplaced: "
"""Begins the reason of a file that may hold rows of the window: its path names no day, or it is part of a table."""

EMPTY: Final = "empty: 0 bytes"
"""The reason of a file of a format of logs that holds nothing."""

_FORMATS: Final = {"pq": "parquet", "ndjson": "jsonl"}
"""Other endings of a format; elsewhere the ending is the format's name."""

_ENDING: Final = re.compile(r"\.(?:(parquet|pq)|(csv|tsv|jsonl|ndjson|json)(?:\.(?:gz|zst))?)\Z", re.IGNORECASE)
_LAST: Final = re.compile(r"(?:\.[a-z0-9]{1,8})?\.[a-z0-9~]{1,16}\Z", re.IGNORECASE)
_PACKED: Final = re.compile(r"\.(?:gz|gzip|zst|zstd|bz2|xz|zip|lz4|lzo|snappy|br|deflate)\Z", re.IGNORECASE)
_MARKER: Final = re.compile(
    r"\.(?:crc|md5|sha1|sha256|sha512|sum|sig|asc|done|ok|ready|success|complete)\Z|\A(?:manifest|md5sums|sha256sums|success|done)\Z",
    re.IGNORECASE,
)
_TABLE: Final = re.compile(
    r"(?:\A|(?<=/))(?:(?P<delta>_delta_log/)|(?P<hudi>\.hoodie/)|(?P<iceberg>metadata/[^/]+\.metadata\.json\Z))"
)
_OTHERS: Final = {"clicks": "clicks of base", "truth": "truth beside the logs"}
"""Folder beside the logs → the reason why its files are no logs."""


@dataclass(frozen=True, slots=True)
class Found:
    """One file below the address of a source.

    Attributes:
        key: its key in the listing's store.
        size: in bytes.
        day: of its partition; None where no folder names one.
        columns: the other partitions of its path, name → value, None for null.
        format: parquet, csv, tsv, jsonl or json, by its ending; "" for another ending.
        skipped: why it is not read; "" for a file to be read.
    """

    key: str
    size: int
    day: date | None = None
    columns: Mapping[str, str | None] = field(default_factory=dict)
    format: str = ""
    skipped: str = ""


@dataclass(frozen=True)
class Listing:
    """All that lies below an address.

    Attributes:
        store: at the folder beside whose logs the companions lie.
        files: each file below the address once, sorted by key.
        folder: what the logs' keys begin with: "", or the folder `logs/`.
        table: delta, iceberg or hudi where the logs are a table of a lake: none of its files is read by itself.
        address: of the table, "" for none: its folder, or the one metadata file of an Iceberg table that was asked for.
    """

    store: Store
    files: tuple[Found, ...]
    folder: str = ""
    table: str = ""
    address: str = ""

    @cached_property
    def read(self) -> tuple[Found, ...]:
        """The files to be read."""
        return tuple(file for file in self.files if not file.skipped)

    @cached_property
    def skipped(self) -> tuple[Found, ...]:
        """The files that are not read; each has its reason."""
        return tuple(file for file in self.files if file.skipped)

    @cached_property
    def unplaced(self) -> tuple[Found, ...]:
        """The skipped files that may hold rows of the window."""
        return tuple(file for file in self.files if file.skipped.startswith(UNPLACED))


def list_place(uri: str, *, logs: bool = True) -> Listing:
    """Lists all that is below a path, file:// or s3:// address, with one listing of the store.

    A folder with `logs/` in it is its logs, whatever lies beside them; so is that `logs/` itself. The address of a file is that
    file, whatever its name. Partitions above the address count where they are its last folders.

    Args:
        uri: the address.
        logs: `logs/`, `clicks/` and `truth/` have their meanings; without it they are folders like others.

    Raises:
        NotFound: there is nothing at the address.
        StoreError: a folder may not be read, or the store can't be reached.
    """
    place = _split(uri)
    looks = bool(_ENDING.search(place.name))
    single = place.file() if looks or place.path else None
    if single:
        return _listing_of_file(place, single)
    as_logs = logs and place.name.strip("/") == "logs"
    store, folder = (place.above, place.name + "/") if as_logs else (place.store, "")
    objects = _objects(store, folder)
    if not objects:
        single = None if looks or place.path else place.file()
        if not single:
            raise _nothing(uri)
        return _listing_of_file(place, single)
    if as_logs or not logs:
        return _judged(store, objects, folder, place.parts)
    return _judged(store, objects, _folder_of_logs(objects), place.parts, beside=True)


def list_below(store: Store, folder: str) -> Listing:
    """Lists a folder of a source's store, such as `clicks/`, as files of their own; no files where there is no such folder."""
    return _judged(store, _objects(store, folder), folder, ())


@dataclass(frozen=True)
class _Place:
    """An address, taken apart.

    Attributes:
        store: at the address.
        above: at the folder above it.
        name: the rest of the address below `above`.
        parts: the parts of the whole path.
        path: on this machine; None in an object store.
        closed: the address ends in a slash.
    """

    store: Store
    above: Store
    name: str
    parts: tuple[str, ...]
    path: Path | None
    closed: bool

    def file(self) -> Object | None:
        """Returns the file at the address; None for a folder, and for nothing in an object store. Raises NotFound, StoreError."""
        if self.path is not None:
            return self._local_file(self.path)
        if self.closed or not self.name:
            return None
        return next((Object(entry.key, entry.size) for entry in self.above.everything(self.name) if entry.key == self.name), None)

    def _local_file(self, path: Path) -> Object | None:
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise _nothing(str(path)) from error
        except OSError as error:
            raise refused(str(path), error) from error
        return None if stat.S_ISDIR(status.st_mode) else Object(self.name, status.st_size)


def _split(uri: str) -> _Place:
    scheme, mark, rest = uri.partition("://")
    if not mark or scheme.lower() != "s3":
        store = open_store(uri, reading=True)
        path = _folder_of(store)
        return _Place(store, FileStore(path.parent), path.name, path.parts[1:], path, uri.endswith("/"))
    bucket, _, key = rest.rstrip("/").partition("/")
    head = key.rpartition("/")[0].rstrip("/")
    store, above = (open_store(f"s3://{bucket}/{prefix}", reading=True) for prefix in (key, head))
    return _Place(store, above, key[len(head) + 1 :] if head else key, tuple(key.split("/")), None, rest.endswith("/"))


def _folder_of(store: Store) -> Path:
    """Returns the folder of a local store."""
    path = store.local_path("x")
    assert path is not None  # noqa: S101 - for the type checker: callers ask for local stores alone
    return path.parent


def _objects(store: Store, folder: str) -> list[Object]:
    if store.local_path("x") is None:
        return [Object(entry.key, entry.size) for entry in store.everything(folder)]
    path = _folder_of(store) / folder
    return [replace(found, key=folder + found.key) for found in walk(path)] if path.is_dir() else []


def _nothing(uri: str) -> NotFound:
    return NotFound(
        "there is nothing", where=uri, expected="a folder or a file", do="correct source.uri (--source), or the address given"
    )


def _listing_of_file(place: _Place, file: Object) -> Listing:
    """Returns the listing of an address that is a file."""
    found = partitions(_last_partitions(place.parts[:-1]))
    kind = _format(file.key)
    if place.parts[-2:-1] == ("metadata",) and file.key.endswith(".metadata.json"):
        metadata = Found(file.key, file.size, skipped="the metadata of an Iceberg table")
        return Listing(place.above, (metadata,), table="iceberg", address=place.above.uri_of(file.key))
    return Listing(place.above, (Found(file.key, file.size, found.day, found.columns, kind, "" if kind else _ending_of(file.key)),))


def _last_partitions(parts: Sequence[str]) -> list[str]:
    """Returns the partitions in which a path ends."""
    return list(takewhile(is_partition, (part for part in reversed(parts) if part)))[::-1]


def _folder_of_logs(objects: Iterable[Object]) -> str:
    """Returns `logs/` where a table or a file that could be a log is in that folder, else ""."""
    logs = [found.key for found in objects if found.key.startswith("logs/")]
    tables = _tables(found.key for found in objects)
    if "" in tables or not logs:
        return ""
    return "logs/" if "logs/" in tables or any(_format(key) and not any(map(hides, key.split("/"))) for key in logs) else ""


def _tables(keys: Iterable[str]) -> dict[str, str]:
    """Returns the folders that are tables of a lake → kind."""
    found = ((key[: match.start()], str(match.lastgroup)) for key in keys if (match := _TABLE.search(key)))
    return {folder: kind for folder, kind in found if not any(map(hides, folder.split("/")[:-1]))}


@dataclass(frozen=True)
class _Folder:
    """A folder of a place: its partitions, and why no file in it is read (of files with another reason of their own: `later`)."""

    partitions: Partitions
    reason: str = ""
    later: str = ""


def _judged(store: Store, objects: Sequence[Object], folder: str, parts: Sequence[str], *, beside: bool = False) -> Listing:
    """Returns the listing of a place.

    Args:
        store: of the files.
        objects: every file.
        folder: of the logs.
        parts: the address, for the partitions in which it ends.
        beside: clicks/, truth/ and all outside `folder` are no logs.
    """
    tables = _tables(found.key for found in objects)
    above = _last_partitions(parts)
    above = [] if partitions(above).problem else above
    folders: dict[str, _Folder] = {}
    files: list[Found] = []
    for found in objects:
        where = found.key.rpartition("/")[0]
        if where not in folders:
            folders[where] = _folder(where, folder, tables, above, beside)
        files.append(_found(found, folders[where], folder if beside else ""))
    listed = _once(files, objects)
    address = f"{store.uri}/{folder}".rstrip("/") if folder in tables else ""
    return Listing(store, tuple(sorted(listed, key=lambda file: file.key)), folder, tables.get(folder, ""), address)


def _folder(where: str, logs: str, tables: Mapping[str, str], above: Sequence[str], beside: bool) -> _Folder:
    parts = [part for part in where.split("/") if part]
    hidden = next((part for part in parts if hides(part)), "")
    if hidden:
        return _Folder(Partitions(), _hidden("the folder ", hidden))
    if beside and not logs and parts and parts[0] in _OTHERS:
        return _Folder(Partitions(), _OTHERS[parts[0]])
    if beside and not f"{where}/".startswith(logs):
        return _Folder(Partitions(), _OTHERS.get(parts[0], f"beside {logs}") if parts else "")
    below = [part for part in where[len(logs) :].split("/") if part]
    found = partitions([*above, *below])
    table = next((base for base in tables if f"{where}/".startswith(base) or not base), None)
    if table is not None:
        reason = f"part of a table: {tables[table].capitalize()}"
        return _Folder(found, "", reason if table == logs else f"{UNPLACED}{reason}; give the table's own address")
    if found.problem:
        return _Folder(found, "", UNPLACED + found.problem)
    plain = next((part for part in below if not is_partition(part)), "")
    return _Folder(found, "", "in a folder that is no partition: " + shown(plain) if plain and not found.day else "")


def _found(file: Object, folder: _Folder, logs: str) -> Found:
    name = file.key.rpartition("/")[2]
    kind = _format(name)
    key = os.fsencode(file.key).decode("utf-8", "backslashreplace")
    reason = (
        folder.reason or (_hidden("the name ", name) if name and hides(name) else "") or file.problem or _no_data(name, file.size)
    )
    if not reason and not file.key.startswith(logs):
        reason = f"beside {logs}"
    reason = reason or ("" if kind else _ending_of(name)) or folder.later or ("" if file.size else EMPTY)
    if not reason and key != file.key:
        reason = UNPLACED + "its name is not UTF-8"
    return Found(key, file.size, folder.partitions.day, folder.partitions.columns, kind, reason)


def _once(files: Sequence[Found], objects: Sequence[Object]) -> list[Found]:
    """Skips a file to be read that is reached a second time, by a link; of several links to it the first by name is taken."""
    first: dict[object, str] = {}
    for file, found in sorted(zip(files, objects, strict=True), key=lambda pair: (pair[1].linked, pair[0].key)):
        if not file.skipped and found.identity is not None:
            first.setdefault(found.identity, file.key)
    return [
        replace(file, skipped=f"a link to a file that is read as {shown(first[found.identity])}")
        if not file.skipped and found.linked and first[found.identity] != file.key
        else file
        for file, found in zip(files, objects, strict=True)
    ]


def _hidden(what: str, part: str) -> str:
    return f"{what}{shown(part)} " + ("is the file system's" if part == LOST_AND_FOUND else f"begins with {part[0]}")


def _no_data(name: str, size: int) -> str:
    """Returns why a file holds no rows, by its name alone."""
    if name.endswith("_$folder$") or not (size or _format(name) or (name and not is_partition(name))):
        return "a marker of a folder"
    if any(name in names for names in COMPANIONS.values()):
        return f"a companion file: {name}"
    return "a checksum or marker file" if _MARKER.search(name) else ""


def _format(name: str) -> str:
    """Returns the format that the ending of a name stands for, "" for none."""
    found = _ENDING.search(name)
    ending = (found[1] or found[2]).lower() if found else ""
    return _FORMATS.get(ending, ending)


def _ending_of(name: str) -> str:
    """Returns the reason why a name of no format is not read."""
    packed = _PACKED.search(name)
    ending = _LAST.search(name) if packed else re.search(r"\.[^./\s]{1,16}\Z", name)
    if ending:
        return f"its ending {shown(ending[0])} is not read"
    # A link that was checked out or copied as a text file stands where the rows of a day should be.
    return UNPLACED + "a file named as a partition" if is_partition(name) else "no ending says its format"
