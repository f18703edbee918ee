"""The files of a source: what an address holds, and how a file's bytes become rows."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any, Final

import polars as pl

from relevance_core.errors import DataError, NotFound
from relevance_core.pairs import digest
from relevance_core.sources.columns import Batch
from relevance_core.sources.delimited import read_companion, read_delimited
from relevance_core.sources.jsonlines import read_json_array, read_json_lines
from relevance_core.sources.ledger import FILE, read_entry
from relevance_core.sources.listing import COMPANIONS, EMPTY, Found, Listing, list_below, list_place
from relevance_core.sources.names import ALIASES, KNOWN
from relevance_core.sources.partitions import shown
from relevance_core.sources.reading import Options, Reading, Unreadable
from relevance_core.sources.tables import read_parquet
from relevance_core.sources.text import decode, decode_rows, decompress, plain
from relevance_core.store import Store

ENDINGS: Final = ".parquet .csv .tsv .jsonl .ndjson .json, the texts also with .gz or .zst"

_REASONS, _KEY = 5, 200
"""The reasons that the error of a place without logs names, each with a file whose key is shown to this length."""

GROUP_ROWS: Final = 50_000
"""Rows of small files that are converted together: a conversion costs milliseconds, however few the rows are."""


@dataclass(frozen=True)
class File:
    """One file of a source.

    Attributes:
        store: holds it.
        key: its key there.
        day: of its partition, if it is in one.
        columns: those that its path gives, `language=de`.
        format: parquet, csv, tsv, jsonl or json, by its ending; "" for a companion that is no table.
    """

    store: Store
    key: str
    day: date | None = None
    columns: Mapping[str, str | None] = field(default_factory=dict)
    format: str = ""

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

    def text(self) -> bytes:
        """Returns the text of a file beside the logs, decompressed, in UTF-8 without a mark. Raises NotFound, DataError."""
        try:
            return plain(self.read(), self.key)
        except Unreadable as error:
            raise error.of(self.address) from error

    @contextmanager
    def local(self) -> Iterator[Path]:
        """Yields a local path of the file; a file in a remote store is downloaded for the duration of the block."""
        path = self.store.local_path(self.key)
        if path is not None:
            yield path
            return
        with tempfile.TemporaryDirectory(prefix="relevance-") as folder:
            path = Path(folder) / "file"
            self.store.download(self.key, path)
            yield path

    def reading(self, options: Options) -> Reading:
        """Returns the file's rows. Raises DataError, with the line and the byte, for content that can't be read for certain."""
        try:
            found = self._reading(options)
        except Unreadable as error:
            raise error.of(self.address) from None
        path = {options.named([name]).get(name): value for name, value in self.columns.items()}
        given = [pl.lit(value, pl.String).alias(name) for name, value in path.items() if name and name not in found.rows.columns]
        return replace(found, rows=found.rows.with_columns(given)) if given else found

    def _reading(self, options: Options) -> Reading:
        if self.format == "parquet":
            with self.local() as path:
                return read_parquet(path, options)
        data, compression = decompress(self.read(), self.key)
        if self.format in ("csv", "tsv"):
            found = read_delimited(data, options, tab=self.format == "tsv")
            return replace(found, form=replace(found.form, compression=compression))
        if self.format == "jsonl":
            text, encoding, undecoded = decode_rows(data, options)
            found = read_json_lines(text, options, undecoded)
        else:
            text, encoding = decode(data, options.encoding)
            found = read_json_array(text, options)
        return replace(found, form=replace(found.form, compression=compression, encoding=encoding))


@dataclass(frozen=True)
class Place:
    """The location of a source's files.

    Attributes:
        store: at its folder.
        logs: the files to be read.
        skipped: for every other file its key, its day if it has one, and the reason.
        table: delta, iceberg or hudi where the logs are a table of a lake, which its own library reads; "" elsewhere.
        address: of that table.
    """

    store: Store
    logs: tuple[File, ...]
    skipped: tuple[tuple[str, str | None, str], ...] = ()
    table: str = ""
    address: str = ""

    def beside(self, what: str) -> File | None:
        """Returns a companion file (a key of COMPANIONS) beside the logs, or None."""
        return next((open_file(self.store.uri_of(name)) for name in COMPANIONS[what] if self.store.exists(name)), None)

    def clicks(self) -> tuple[File, ...]:
        """Returns the click logs beside the labelled logs."""
        return _files(list_below(self.store, "clicks/"))


def _files(listing: Listing) -> tuple[File, ...]:
    return tuple(_file(listing.store, found) for found in listing.read)


def _file(store: Store, found: Found) -> File:
    return File(store, found.key, found.day, found.columns, found.format)


def batches(
    files: Sequence[File], options: Options, task: str | None, refused: Callable[[File, DataError], None] | None = None
) -> Iterator[tuple[Batch, list[dict[str, Any]]]]:
    """Yields the files' rows with FILE, LINE and UNREAD, and the ledger's entries; files of a day and of the same columns together.

    Args:
        files: of any days.
        options: how they are read.
        task: of rows without one; a file then needs no column for it.
        refused: is told of a file that can't be read for certain, which is then passed over; default, the error is raised.

    Raises:
        DataError: a file can't be read for certain; names it, the line and the byte.
    """
    waiting: dict[tuple[Any, ...], _Group] = {}
    for file in files:
        try:
            found = file.reading(options)
        except DataError as error:
            if refused is None:
                raise
            refused(file, error)
            continue
        rows = found.rows
        missing = _missing(found, Batch(file.key, rows, file.day), task)
        group = waiting.setdefault((file.day, *rows.schema.items()), _Group(file.day))
        group.frames.append(rows)
        group.entries.append(read_entry(file.key, file.day.isoformat() if file.day else None, found, missing))
        group.height += rows.height
        if group.height >= GROUP_ROWS:
            yield group.together()
            group.clear()
    yield from (group.together() for group in waiting.values() if group.frames)


@dataclass
class _Group:
    """Files of the same columns that wait to be converted together: their rows, their entries in the ledger, their rows' number."""

    day: date | None
    frames: list[pl.DataFrame] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)
    height: int = 0

    def together(self) -> tuple[Batch, list[dict[str, Any]]]:
        """Returns the rows with FILE, and the entries."""
        names = pl.Series(FILE, [entry["file"] for entry in self.entries], dtype=pl.String)
        places = pl.Series(range(len(names)), dtype=pl.UInt32).repeat_by(pl.Series([frame.height for frame in self.frames]))
        rows = pl.concat(self.frames, rechunk=True).with_columns(names.gather(places.explode(empty_as_null=False)))
        return Batch(self.entries[0]["file"], rows, self.day), self.entries

    def clear(self) -> None:
        """Makes it empty."""
        self.frames, self.entries, self.height = [], [], 0


def _missing(found: Reading, batch: Batch, task: str | None) -> list[str]:
    """Returns the required columns that a file lacks: also a file whose columns hold no rows, unless it names none at all."""
    if found.rows.height or not (found.ignored or set(KNOWN) & set(found.rows.columns)):
        return batch.missing(task)
    return Batch(batch.name, found.rows.clear(1), batch.day).missing(task)


def open_place(uri: str, where: str = "source.uri (--source)", *, logs: bool = True) -> Place:
    """Finds the files at a path, file:// or s3:// address: those in the folder's `logs/`, else the folder's own, or a single file.

    Args:
        uri: the address.
        where: the setting or option that names it, for the error.
        logs: `logs/`, `clicks/` and `truth/` have their meanings; without it they are folders like others.

    Raises:
        NotFound: there is nothing, or no file that can be read; a file of 0 bytes can: it holds no rows.
    """
    listing = list_place(uri, logs=logs)
    if not listing.read and not listing.table and not any(found.skipped == EMPTY for found in listing.skipped):
        reasons = Counter(found.skipped for found in listing.skipped)
        first = {found.skipped: found.key for found in reversed(listing.skipped)}
        skipped = "; ".join(
            f"{reason}: {count}, such as {shown(first[reason], _KEY)}" for reason, count in reasons.most_common(_REASONS)
        )
        raise NotFound(
            "there are no logs" + (f", every file is skipped ({skipped})" if skipped else ""),
            where=uri,
            expected=f"dt=YYYY-MM-DD/ partitions or files ({ENDINGS}), in the folder or in its logs/",
            do=f"correct {where}",
        )
    skipped_files = tuple((found.key, found.day.isoformat() if found.day else None, found.skipped) for found in listing.skipped)
    return Place(listing.store, _files(listing), skipped_files, listing.table, listing.address)


def open_file(uri: str) -> File:
    """Returns the single file at an address, whatever its ending. Raises NotFound."""
    listing = list_place(uri, logs=False)
    if len(listing.files) != 1 or not uri.rstrip("/").endswith(listing.files[0].key):
        raise NotFound("there is no such file", where=uri, do="correct the address")
    return _file(listing.store, listing.files[0])


def open_files(uri: str) -> tuple[File, ...]:
    """Returns the files of a folder, or the single file, at an address. Raises NotFound."""
    return open_place(uri, where="the address", logs=False).logs


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


def read_catalogue(file: File, options: Options) -> Batch:
    """Returns the known columns of a catalogue, of any form in which logs may be. Raises DataError."""
    if not file.format:
        raise DataError("a catalogue of an unknown form", where=file.address, expected=ENDINGS, do="convert it")
    return Batch(file.key, file.reading(options).rows)


def read_tsv(file: File) -> pl.DataFrame:
    """Returns the known columns of a tab-separated file (.tsv or .tsv.gz) with a header, as text. Raises DataError."""
    try:
        header, rows = read_companion(plain(file.read(), file.key))
        named = Options().named(header)
    except Unreadable as error:
        raise error.of(file.address) from error
    if not set(named.values()) & set(ALIASES["target"]):
        raise DataError(
            "the header names no column of targets",
            where=f"{file.address}, line 1",
            expected=f"{' or '.join(ALIASES['target'])}, with a tab between two names",
            do="correct the header",
        )
    places = {name: header.index(column) for column, name in named.items()}
    return pl.DataFrame([pl.Series(name, [row[at] or None for _, row in rows], dtype=pl.String) for name, at in places.items()])
