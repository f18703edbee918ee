"""Labelled logs in files: a folder of dt=YYYY-MM-DD partitions, a folder of files, or one file, on disk or in an object store."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Final

import polars as pl

from relevance_core.errors import DataError, NotFound
from relevance_core.pairs import digest
from relevance_core.sources.columns import KNOWN, Batch
from relevance_core.store import Store, open_store

EXTENSIONS: Final = (".parquet", ".jsonl", ".jsonl.gz", ".csv")
COMPANIONS: Final = {
    "catalogue": ("catalogue.parquet",),
    "categories": ("categories.tsv.gz", "categories.tsv"),
    "terms": ("terms.tsv.gz", "terms.tsv"),
    "brands": ("brands.txt",),
}
"""Companion → file names looked for beside the logs; the first that exists is taken."""

_DAY = re.compile(r"(?:^|/)dt=(\d{4}-\d{2}-\d{2})/")
_NOT_LOGS = ("clicks/", "truth/")


@dataclass(frozen=True)
class File:
    """One file of a source. day: its dt= partition, if it is in one."""

    store: Store
    key: str
    day: date | None = None

    @property
    def address(self) -> str:
        """The file's full address."""
        return self.store.uri_of(self.key)

    def stamp(self) -> str:
        """Returns a digest of the file's name and content."""
        content = self.store.digest(self.key)
        return digest(self.key, str(content.size), content.sha256, size=32)

    def read(self) -> bytes:
        """Returns the whole content. Raises NotFound."""
        return self.store.read(self.key)

    @contextmanager
    def local(self) -> Iterator[Path]:
        """Yields a local path of the file; a file in a remote store is downloaded for the duration of the block."""
        path = self.store.local_path(self.key)
        if path is not None:
            yield path
            return
        with tempfile.TemporaryDirectory(prefix="relevance-") as folder:
            path = Path(folder) / self.key.rpartition("/")[2]
            self.store.download(self.key, path)
            yield path

    def batch(self) -> Batch:
        """Returns the file's known columns. Raises DataError for content that does not match the file's extension."""
        with self.local() as path:
            try:
                return Batch(self.key, _READERS[extension(self.key)](path), self.day)
            except (pl.exceptions.PolarsError, OSError, EOFError) as error:
                raise DataError(
                    f"the file can't be read as {extension(self.key)[1:]}: {error}",
                    where=self.address,
                    expected="parquet, one JSON object a line, or comma-separated values with a header, in UTF-8",
                    do="write the file again, or take it out of the source",
                ) from error


@dataclass(frozen=True)
class Place:
    """The location of a source's files: the store at its folder, and the logs in it."""

    store: Store
    logs: tuple[File, ...]

    def beside(self, what: str) -> File | None:
        """Returns a companion file (a key of COMPANIONS) beside the logs, or None."""
        return next((File(self.store, name) for name in COMPANIONS[what] if self.store.exists(name)), None)

    def clicks(self) -> tuple[File, ...]:
        """Returns the click logs beside the labelled logs."""
        return tuple(_data_files(self.store, "clicks/"))


def open_place(uri: str) -> Place:
    """Finds the files at a path, file:// or s3:// address: those in the folder's `logs/`, else the folder's own, or a single file.

    Raises NotFound where there is no log.
    """
    if extension(uri):
        file = open_file(uri)
        return Place(file.store, (file,))
    folder, _, name = uri.rstrip("/").rpartition("/")
    if name == "logs":
        store = open_store(folder or ("." if not uri.startswith("/") else "/"))
        logs = _data_files(store, "logs/")
    else:
        store = open_store(uri)
        logs = _data_files(store, "logs/") or _data_files(store, "", skip=_NOT_LOGS)
    if not logs:
        raise NotFound(
            "there are no logs",
            where=uri,
            expected=f"dt=YYYY-MM-DD/ partitions or files ({', '.join(EXTENSIONS)}), in the folder or in its logs/",
            do="correct source.uri (--source)",
        )
    return Place(store, tuple(logs))


def open_file(uri: str) -> File:
    """Returns the single file at an address. Raises NotFound."""
    folder, slash, name = uri.rpartition("/")
    store = open_store((folder or "/") if slash else ".")
    if not store.exists(name):
        raise NotFound("there is no such file", where=uri, do="correct the address")
    return File(store, name)


def open_files(uri: str) -> tuple[File, ...]:
    """Returns the files of a folder, or the single file, at an address; `logs/` gets no special treatment. Raises NotFound."""
    if extension(uri):
        return (open_file(uri),)
    files = _data_files(open_store(uri), "")
    if not files:
        raise NotFound("there are no files", where=uri, expected=", ".join(EXTENSIONS), do="correct the address")
    return tuple(files)


def extension(name: str) -> str:
    """Returns the member of EXTENSIONS that a file's name or address ends in, or ''."""
    return next((ending for ending in EXTENSIONS if name.endswith(ending)), "")


def between(files: Sequence[File], start: datetime, end: datetime) -> tuple[File, ...]:
    """Returns the files that may hold rows of [start, end): those of its days, and those outside any partition."""
    return tuple(
        file for file in files if file.day is None or (_midnight(file.day) < end and start < _midnight(file.day) + _ONE_DAY)
    )


def stamps(files: Iterable[File]) -> list[str]:
    """Returns the files' stamps in their order; files are read concurrently, which matters for a remote store."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(File.stamp, files))


_ONE_DAY = timedelta(days=1)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, UTC)


def _data_files(store: Store, prefix: str, skip: tuple[str, ...] = ()) -> list[File]:
    """Returns data files below `prefix`, in a dt= partition or directly in it. Names that begin with . or _ are skipped."""
    files = []
    for entry in store.list(prefix):
        below = entry.key.removeprefix(prefix)
        day = _DAY.search(entry.key)
        name = below.rpartition("/")[2]
        data = extension(name) and not name.startswith((".", "_")) and (day or "/" not in below)
        if data and not below.startswith(skip) and name not in COMPANIONS["catalogue"]:
            files.append(File(store, entry.key, _partition(day[1], store.uri_of(entry.key)) if day else None))
    return files


def _partition(text: str, where: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise DataError(f"dt={text} is no day", where=where, expected="dt=YYYY-MM-DD", do="rename the partition") from error


def _read_parquet(path: Path) -> pl.DataFrame:
    names = pl.read_parquet_schema(path)
    return pl.read_parquet(path, columns=[name for name in names if name in KNOWN], hive_partitioning=False)


def _read_jsonl(path: Path) -> pl.DataFrame:
    # A key that is null or absent in every line counts as a missing column.
    frame = pl.read_ndjson(path, schema=dict.fromkeys(KNOWN, pl.String()))
    return frame.select(column for column in frame if column.null_count() < frame.height or not frame.height)


def _read_csv(path: Path) -> pl.DataFrame:
    if not path.stat().st_size:
        return pl.DataFrame()
    frame = pl.read_csv(path, infer_schema=False)
    return frame.select(name for name in KNOWN if name in frame.columns)


def read_catalogue(file: File) -> Batch:
    """Returns the known columns of a catalogue, which may also be tab-separated. Raises DataError."""
    if file.key.endswith((".tsv", ".tsv.gz")):
        return Batch(file.key, read_tsv(file))
    if not extension(file.key):
        raise DataError(
            "a catalogue of an unknown form",
            where=file.address,
            expected=", ".join((*EXTENSIONS, ".tsv", ".tsv.gz")),
            do="convert it",
        )
    return file.batch()


def read_tsv(file: File) -> pl.DataFrame:
    """Reads a tab-separated file (.tsv or .tsv.gz) with a header, every column as text. Raises DataError."""
    with file.local() as path:
        try:
            return pl.read_csv(path, separator="\t", quote_char=None, infer_schema=False)
        except (pl.exceptions.PolarsError, OSError, EOFError) as error:
            raise DataError(
                f"the file can't be read: {error}", where=file.address, expected="tab-separated values with a header, in UTF-8"
            ) from error


_READERS: Final[dict[str, Callable[[Path], pl.DataFrame]]] = {
    ".parquet": _read_parquet,
    ".jsonl": _read_jsonl,
    ".jsonl.gz": _read_jsonl,
    ".csv": _read_csv,
}
