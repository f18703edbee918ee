"""The labelled pair: its schema, normalisation, ids, groups and sides.

Every rule about a row's identity is in this module, so that ids and sides are the same on every night and every machine.
"""

from __future__ import annotations

import functools
import hashlib
import operator
import re
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

_TEXTS: Final = ("query", "target", "target_id")

TEXT_RULE: Final = 2
"""The number of the rule by which texts are normalised. Rule 1 (NFKC) made the texts of versions and ids before it."""

# Tables of Unicode as they are in the rule: they change with its number, never with a library. Characters younger than Unicode 14
# are composed as the interpreter's own tables say.
_INVISIBLE: Final = (  # Cc, Cf and Co
    r"\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f"
    r"\ue000-\uf8ff\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001"
    r"\U000e0020-\U000e007f\U000f0000-\U000ffffd\U00100000-\U0010fffd"
)
_FILLER: Final = (  # blank, though no white space: Hangul fillers, Khmer inherent vowels, variation selectors, empty Braille
    r"\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef"
)
_JOINERS: Final = r"\u200c\u200d"
_WIDTHS: Final = {
    code: int(of.split()[1], 16)
    for code in (0x3000, *range(0xFF01, 0xFFEF))
    if (of := unicodedata.decomposition(chr(code))).startswith(("<wide>", "<narrow>"))
}
"""Full-width and half-width characters → the character that they are a width of."""
_FOLDED: Final = _WIDTHS | dict.fromkeys(range(0x1C, 0x20))
"""The same, and U+001C to U+001F → nothing: controls that only Python takes for white space. Rule 1 stored texts without them."""

_REMOVED: Final = re.compile(rf"[{_INVISIBLE}\ud800-\udfff]")
_REMOVED_BUT_JOINERS: Final = re.compile(rf"(?![{_JOINERS}])[{_INVISIBLE}\ud800-\udfff]")
_BLANK: Final = re.compile(rf"[ {_FILLER}]+")
_JOINED: Final = re.compile(rf"(?P<before>[^{_JOINERS}]?)(?P<joiner>[{_JOINERS}])[{_JOINERS}]*(?=(?P<after>.?))", re.DOTALL)
_VIRAMAS: Final = frozenset("\u094d\u09cd\u0a4d\u0acd\u0b4d\u0bcd\u0c4d\u0ccd\u0d4d\u0dca")
_JOINS_NEXT: Final = re.compile(  # a letter of the Arabic script that joins the next, and its vowel signs
    r"[\u0620\u0626\u0628\u062a-\u062e\u0633-\u063f\u0640-\u0647\u0649\u064a\u066e\u066f\u0678-\u0687\u069a-\u06bf\u06c1\u06c2\u06cc\u06ce"
    r"\u06d0\u06d1\u06fa-\u06fc\u06ff\u0750-\u0758\u075c-\u076a\u076d-\u0770\u0772\u0775-\u0777\u077a-\u077f][\u064b-\u065f\u0670]*\Z"
)
_JOINS_BEFORE: Final = re.compile(
    r"[\u0620\u0622-\u064a\u066e\u066f\u0671-\u0673\u0675-\u06d3\u06d5\u06ee\u06ef\u06fa-\u06fc\u06ff\u0750-\u077f]"
)

_FEW: Final = 200
"""Rows below which single values are faster than columns."""
_POLARS: Final = functools.partial(re.sub, r"\\[uU]([0-9a-f]+)", r"\\x{\1}")
"""Writes the characters of a pattern as polars' regular expressions have them."""
_SPACES: Final = r"\s+"
_INVISIBLES: Final = _POLARS(f"[{_INVISIBLE}]")
_RARE: Final = r"[^\p{Age=14.0}]|" + _POLARS(rf"[{_JOINERS}{_FILLER}\uff01-\uffee]")
"""Texts that are normalised one by one."""
_ODD: Final = (
    r"^ |  | $|[^ -~\xbf-\u0131\u0134-\u013e\u0141-\u0148\u014a-\u017e\u0180-\u01c3\u01cd-\u01f0\u01f4-\u02af\u0388-\u03cf"
    r"\u0400-\u0482\u048a-\u052f\u2013\u2014\u2018-\u201d\u2022\u20ac\u3041-\u3096\u30a1-\u30fc\u4e00-\u9fff\uac00-\ud7a3]"
)
_NOT_PLAIN: Final = _POLARS(_ODD)
"""Texts that a rule may change: any but common letters, which neither rule touches, with single spaces between them."""
_odd: Final = re.compile(_ODD).search


def normalise(text: str, rule: int = TEXT_RULE) -> str:
    """Normalises one text for display, training and scoring; half a surrogate pair goes too.

    Unicode NFC; full-width and half-width characters in their usual width; white space of any kind is one space, none at the ends;
    control, format and private-use characters removed. Nothing else is folded: `42½`, `10²` and ™ stay. Of the format characters a
    zero-width joiner or non-joiner stays where the script needs it to be written rightly (`_needed`), not in emoji: queries that
    look identical are one query. A text of blank characters alone is empty.

    rule: 1 for a version that was trained before TEXT_RULE was 2.
    """
    if rule == 1:
        return _text_of_group(text)
    if not (text.isascii() and text.isprintable()):
        text = " ".join(text.translate(_FOLDED).split())
        if "\u200c" in text or "\u200d" in text:
            text, before = unicodedata.normalize("NFC", _REMOVED_BUT_JOINERS.sub("", text)), ""
            while text != before:  # a joiner that goes may bring a sign before another
                text, before = unicodedata.normalize("NFC", _JOINED.sub(_needed, text)), text
        else:
            text = _REMOVED.sub("", text)
        text = unicodedata.normalize("NFC", text)
        if _BLANK.fullmatch(text):
            return ""
    return " ".join(text.split())


def _needed(found: re.Match[str]) -> str:
    """Returns the character before a joiner, and the joiner where leaving it out would change the letters.

    After a virama, unless a sign follows (UAX 31, A2 and B; so Malayalam's older chillus stay); a non-joiner between two letters of
    the Arabic script that would join (A1); Bengali's ra with a ya-phala.
    """
    before, joiner, after = found["before"], found["joiner"], found["after"]
    if before in _VIRAMAS:
        letter = unicodedata.category(after or " ")
        needed = letter == "Lo" or (joiner == "\u200d" and letter[0] != "M")
    elif joiner == "\u200d":
        needed = (before, after) == ("\u09b0", "\u09cd")
    else:
        joins = _JOINS_NEXT.search(found.string, max(0, found.start() - 8), found.end("before"))
        needed = joins is not None and _JOINS_BEFORE.match(after) is not None
    return before + (joiner if needed else "")


def normalised(texts: pl.Series, rule: int = TEXT_RULE) -> pl.Series:
    """Returns `normalise` of every text of a column."""
    if rule == 1:
        return _where_odd(texts, lambda odd: map_distinct(odd, _text_of_group, texts.name))
    if len(texts) < _FEW:
        return pl.Series(texts.name, [text if text is None else normalise(text) for text in texts.to_list()], dtype=pl.String)
    return _where_odd(texts, _normalised)


def _normalised(texts: pl.Series) -> pl.Series:
    clean = texts.str.replace_all(_SPACES, " ").str.replace_all(_INVISIBLES, "").str.normalize("NFC")
    clean = clean.str.replace_all("  +", " ").str.strip_chars(" ")
    rare = texts.str.contains(_RARE)
    return clean.scatter(rare.arg_true(), map_distinct(texts.filter(rare), normalise, texts.name)) if rare.any() else clean


def _where_odd(texts: pl.Series, function: Callable[[pl.Series], pl.Series]) -> pl.Series:
    """Applies a rule's function to the texts that it may change: plain ones are most of a log."""
    if len(texts) < _FEW and not any(text and _odd(text) for text in texts.to_list()):
        return texts
    odd = texts.str.contains(_NOT_PLAIN).fill_null(False)
    return texts.scatter(odd.arg_true(), function(texts.filter(odd))) if odd.any() else texts


def normalise_expr(column: str) -> pl.Expr:
    """Normalises a column as `normalise` does a text."""
    return pl.col(column).cast(pl.String).map_batches(normalised, return_dtype=pl.String)


def _text_of_group(text: str) -> str:
    """Returns the text from which a query's group is made: rule 1, which never changes, so that no query changes side.

    It is NFKC, and gives the same for what rule 1 stored of a text as for what a later rule makes of it, unless that is empty.
    """
    if not text.isascii() and any(unicodedata.category(c) == "Cn" for c in text):  # too new for the interpreter's tables
        text = str(_of_rule_1(pl.Series([text]))[0])
    text = " ".join(unicodedata.normalize("NFKC", text).split())
    visible = "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Cf", "Co"))
    return " ".join(visible.split())


def _of_rule_1(texts: pl.Series) -> pl.Series:
    """Returns the texts as rule 1 stored them; it never changes, as stored ids are made of them."""
    return _where_odd(texts, _made_by_rule_1)


def _made_by_rule_1(texts: pl.Series) -> pl.Series:
    plain = texts.str.normalize("NFKC").str.replace_all(r"\s+", " ").str.replace_all(r"[\p{Cc}\p{Cf}\p{Co}]", "")
    return plain.str.replace_all(r" +", " ").str.strip_chars()


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
    if rows < _FEW:
        texts = (part.to_list() if isinstance(part, pl.Series) else [part] * rows for part in parts)
        return pl.Series("digest", [digest(*row, size=size) for row in zip(*texts, strict=True)], dtype=pl.String)
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
    return digest("group", _text_of_group(query).casefold())


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
    """Returns the id of a pair: a hash of these normalised values; label and event time are not part of it.

    Texts that rule 1 leaves alone have the id that rule 1 gave them; others have an id that carries TEXT_RULE.
    """
    texts = pl.DataFrame({"query": [query], "target": [target], "target_id": [target_id]})
    return str(with_ids(texts.with_columns(task=pl.lit(task), language=pl.lit(language)))["pair_id"][0])


def with_ids(frame: pl.DataFrame) -> pl.DataFrame:
    """Returns `frame` with `pair_id` (see there) set from its (normalised) task, language, query, target and target_id."""
    ids = _ids("pair", frame)
    changed = functools.reduce(operator.or_, (frame[name] != _of_rule_1(frame[name]) for name in _TEXTS))
    if changed.any():
        ids = ids.scatter(changed.arg_true(), _ids(f"pair{TEXT_RULE}", frame.filter(changed)))
    return frame.with_columns(ids)


def old_ids(frame: pl.DataFrame) -> pl.Series:
    """Returns the pair ids that rule 1 gave to the rows of `frame` (with_ids' columns); most are the ids that they still have.

    The texts are taken from ORIGINALS where the frame has them: a few texts lose by the new rule what rule 1 kept.
    """
    query, target = (
        _of_rule_1(frame[original if original in frame.columns else name].fill_null("")).alias(name)
        for name, original in zip(("query", "target"), ORIGINALS, strict=True)
    )
    digested = (frame["target_id"] == target_digests(frame["target"])).fill_null(False)
    target_id = target_digests(target).zip_with(digested, _of_rule_1(frame["target_id"])).alias("target_id")
    known = pl.col("task", "language", "target_id").fill_null("")
    return _ids("pair", frame.with_columns(query, target, target_id).with_columns(known)).alias("old_id")


def matched(stored: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Returns `stored`, which names pairs by `pair_id`, with the ids that `rows` have for them.

    A pair that was stored under its id of rule 1 takes its row's id: several rows' ids where rule 1 made one text of theirs. So
    does a pair that was stored with the target id `1001.0` of a column of floats, which is `1001` now. An id that a row still has
    stays, and a pair that is stored under its new id is not stored twice.

    Args:
        stored: unique by pair_id.
        rows: pairs, with the columns of `old_ids`.
    """
    waiting = stored.filter(~pl.col("pair_id").is_in(rows["pair_id"].implode()))["pair_id"].implode()
    if not waiting[0].len():
        return stored
    texts = (name for name in (*_TEXTS, *ORIGINALS) if name in rows.columns)
    odd = rows.filter(pl.any_horizontal(pl.col(name).str.contains(_NOT_PLAIN) for name in texts).fill_null(True))
    whole = rows.filter(pl.col("target_id").str.contains(r"^-?\d+$")).with_columns(pl.col("target_id") + ".0")
    known = [frame.select("pair_id", old_ids(frame)).filter(pl.col("old_id").is_in(waiting)) for frame in (odd, whole)]
    moved = pl.concat(known).filter(~pl.col("pair_id").is_in(stored["pair_id"].implode()))
    moved = moved.unique("pair_id", keep="first", maintain_order=True).rename({"pair_id": "new_id"})
    joined = stored.join(moved, left_on="pair_id", right_on="old_id", how="left", maintain_order="left_right")
    return joined.with_columns(pl.coalesce("new_id", "pair_id").alias("pair_id")).drop("new_id")


def target_digests(targets: pl.Series) -> pl.Series:
    """Returns `digest`: ids of (normalised) targets to which the source gives none."""
    return map_distinct(targets, lambda target: digest("target", target), "digest")


def _ids(kind: str, frame: pl.DataFrame) -> pl.Series:
    return digests(kind, *(frame[name] for name in ("task", "language", *_TEXTS))).alias("pair_id")


def map_distinct(column: pl.Series, function: Callable[[str], str], name: str) -> pl.Series:
    """Returns `function` of every value of a text column as a new column `name`, calling it once per distinct value."""
    values = column.unique(maintain_order=True).to_list()
    mapped = [None if value is None else function(value) for value in values]
    return column.replace_strict(values, mapped, return_dtype=pl.String).alias(name)


def with_groups(frame: pl.DataFrame) -> pl.DataFrame:
    """Returns `frame` with `group`, the group of each row's query."""
    return frame.with_columns(map_distinct(frame["query"], query_group, "group"))
