"""The labelled pair: its schema, normalisation, ids, groups and sides.

Every rule about a row's identity is in this module, so that ids and sides are the same on every night and every machine.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable
from typing import Final, Literal

import polars as pl

Task = Literal["QC", "QI"]
Side = Literal["train", "dev"]
TASKS: Final[tuple[Task, ...]] = ("QC", "QI")
TASK_NAMES: Final = {"QC": "query–category", "QI": "query–item"}

SCHEMA: Final[dict[str, pl.DataType]] = {
    "pair_id": pl.String(),
    "task": pl.String(),
    "language": pl.String(),
    "query": pl.String(),
    "target": pl.String(),
    "target_id": pl.String(),
    "label": pl.Int8(),
    "event_time": pl.Datetime("us", "UTC"),
    "origin": pl.String(),
    "origin_id": pl.String(),
    "weight": pl.Float32(),
}
"""The columns of a labelled pair, in their order."""

ORIGINALS: Final = ("query_original", "target_original")
"""The texts as the log had them; kept until the pairs are split."""

# Control, format (zero-width and bidi marks) and private-use characters; white space of any kind becomes one space first.
_INVISIBLE = r"[\p{Cc}\p{Cf}\p{Co}]"


def normalise_expr(column: str) -> pl.Expr:
    """Returns a column's normalised text: Unicode NFKC, white space collapsed, control, format and bidi characters removed.

    Zero-width joiners go too: queries that look identical are one query.
    """
    return (
        pl.col(column)
        .str.normalize("NFKC")
        .str.replace_all(r"\s+", " ")
        .str.replace_all(_INVISIBLE, "")
        .str.replace_all(r" +", " ")
        .str.strip_chars()
    )


def normalise(text: str) -> str:
    """Normalises one text as `normalise_expr` does."""
    text = " ".join(unicodedata.normalize("NFKC", text).split())
    visible = "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Cf", "Co"))
    return " ".join(visible.split())


def digest(*parts: str, size: int = 16) -> str:
    """Returns a stable hex digest of `parts`, `size` hex digits long; parts are delimited: "ab", "c" is not "a", "bc"."""
    h = hashlib.blake2b(digest_size=size // 2)
    for part in parts:
        data = part.encode()
        h.update(len(data).to_bytes(4, "big") + data)
    return h.hexdigest()


def digests(*parts: str | pl.Series, size: int = 16) -> pl.Series:
    """Returns `digest` of every row of some text columns (at least one, without nulls); a text among `parts` is in every row."""
    rows = max(len(part) for part in parts if isinstance(part, pl.Series))
    framed = pl.repeat(b"", rows, dtype=pl.Binary, eager=True)
    for part in parts:
        column = part if isinstance(part, pl.Series) else pl.repeat(part, rows, dtype=pl.String, eager=True)
        lengths = column.str.len_bytes()
        known = pl.Series([0, *lengths.unique()], dtype=lengths.dtype).unique()  # never empty: an empty mapping has no dtype
        before = lengths.replace_strict(known, [length.to_bytes(4, "big") for length in known], return_dtype=pl.Binary)
        framed = framed + before + column.cast(pl.Binary)
    made = [hashlib.blake2b(data, digest_size=size // 2).hexdigest() for data in framed]
    return pl.Series("digest", made, dtype=pl.String)


def query_group(query: str) -> str:
    """Returns the group of a query: the same for spellings that differ only in case or white space."""
    return digest("group", normalise(query).casefold())


def share_of(group: str, salt: str) -> float:
    """Returns a number in [0, 1) that depends on the group and the salt alone; it decides sides and folds."""
    return int(digest(salt, group, size=16), 16) / 16**16


def shares_of(groups: pl.Series, salt: str) -> pl.Series:
    """Returns `share_of` every group in a column without nulls."""
    made = digests(salt, groups)
    halves = [made.str.slice(at, 8).str.to_integer(base=16, dtype=pl.Int64).cast(pl.Float64) for at in (0, 8)]
    # Exact until the sum, which rounds once, as the division of the whole number does.
    return ((halves[0] * 16**8 + halves[1]) / 16**16).alias("share")


def side_of(group: str, dev_share: float = 0.2) -> Side:
    """Returns the permanent side of a group: dev for the share `dev_share` of all groups (contract 4)."""
    return "dev" if share_of(group, "side") < dev_share else "train"


def fold_of(group: str, folds: int) -> int:
    """Returns the fold (0 … folds-1) of a group; every row derived from a query shares its group and so its fold."""
    return int(share_of(group, "fold") * folds)


def pair_id(task: str, language: str, query: str, target: str, target_id: str) -> str:
    """Returns the id of a pair: a hash of these normalised values; label and event time are not part of it."""
    return digest("pair", task, language, query, target, target_id)


def with_ids(frame: pl.DataFrame) -> pl.DataFrame:
    """Returns `frame` with `pair_id` set from its (normalised) task, language, query, target and target_id."""
    columns = ("task", "language", "query", "target", "target_id")
    return frame.with_columns(digests("pair", *(frame[name] for name in columns)).alias("pair_id"))


def map_distinct(column: pl.Series, function: Callable[[str], str], name: str) -> pl.Series:
    """Returns `function` of every value of a text column as a new column `name`, calling it once per distinct value."""
    values = column.unique(maintain_order=True).to_list()
    mapped = [None if value is None else function(value) for value in values]
    return column.replace_strict(values, mapped, return_dtype=pl.String).alias(name)


def with_groups(frame: pl.DataFrame) -> pl.DataFrame:
    """Returns `frame` with `group`, the group of each row's query."""
    return frame.with_columns(map_distinct(frame["query"], query_group, "group"))
