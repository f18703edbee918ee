"""One file's rows, as every format's reader returns them, and the settings by which they are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import polars as pl

from relevance_core.config.data import SourceSettings
from relevance_core.errors import DataError
from relevance_core.sources.names import known_as

UNREAD: Final = "unread"
"""The column of what could not be read in a row."""

LINE: Final = "line"
"""The column of a row's place in its file: the line on which it begins, from 1; in a table without lines the row, from 1."""


class Unreadable(Exception):
    """Content of one file that can't be read for certain. The caller adds the file's address and raises DataError.

    Attributes:
        what: what is wrong.
        line: the line from 1, or the row of a table; 0 where the whole file is meant.
        byte: the offset in the decompressed file from 0; -1 where none is known.
        expected: what would be right.
        do: what a person can do: the very setting to change.
    """

    def __init__(self, what: str, *, line: int = 0, byte: int = -1, expected: str = "", do: str = "") -> None:
        super().__init__(what)
        self.what, self.line, self.byte, self.expected, self.do = what, line, byte, expected, do

    def of(self, address: str) -> DataError:
        """Returns the error for people: with the file's address, the line and the byte."""
        line = f", line {self.line:,}" if self.line else ""
        byte = f", byte {self.byte:,}" if self.byte >= 0 else ""
        return DataError(self.what, where=f"{address}{line}{byte}", expected=self.expected, do=self.do)


@dataclass(frozen=True)
class Form:
    """The form of a file as it was found.

    Attributes:
        format: csv, jsonl, json, parquet, or the name of a table format.
        compression: gzip, zstd, or "" for none.
        encoding: Python's name of the text's encoding, with `-sig` where a byte order mark was there; "" for a binary format.
        delimiter: of a delimited file.
        escape: of a delimited file with a quote inside a quoted value: double or backslash; "" where there is none.
    """

    format: str
    compression: str = ""
    encoding: str = ""
    delimiter: str = ""
    escape: str = ""


@dataclass(frozen=True)
class Reading:
    """The rows of one file.

    Attributes:
        rows: the known columns under the names of `names.ALIASES`, each text, date or datetime; then LINE (Int64) and UNREAD
            (text, null for most rows): `name=value` of each value that is no text, number, truth value, date or time, joined by
            "; ", and, for a row that can't be read at all, `row=` and why. One row for every row that is in the file.
        form: as found.
        ignored: the file's columns that no name stands for, in its order.
    """

    rows: pl.DataFrame
    form: Form
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True)
class Options:
    """The settings by which a file is read; the defaults are those of `source.*`."""

    encoding: str = "auto"
    delimiter: str = "auto"
    quote: Literal["double", "single", "none"] = "double"
    escape: Literal["auto", "double", "backslash"] = "auto"
    columns: Mapping[str, str] = field(default_factory=dict)
    bad_rows: Literal["stop", "quarantine"] = "stop"

    @classmethod
    def of(cls, source: SourceSettings) -> Options:
        """Returns the part of the settings that a reader needs."""
        csv = source.csv
        return cls(source.encoding, csv.delimiter, csv.quote, csv.escape, source.columns, source.bad_rows)

    def named(self, columns: list[str]) -> dict[str, str]:
        """Returns the file's column → the known name that it is read as, for the columns that are read. Raises Unreadable.

        Case and white space around a name make no difference; `columns` of the settings come first. Two columns of one name can't
        be told apart: they are refused.
        """
        found: dict[str, str] = {}
        for column in columns:
            name = known_as(column, self.columns)
            if not name:
                continue
            if name in found.values() or column in found:
                first = next((own for own, known in found.items() if known == name), column)
                raise Unreadable(
                    f"the columns {first!r} and {column!r} are both read as {name}",
                    line=1,
                    expected="a column of each name",
                    do=f'rename one of them, or set source.columns to leave one out: {{"{column}": ""}}',
                )
            found[column] = name
        return found
