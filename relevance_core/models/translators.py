"""Translators of queries, and the glossary that is the embedded default.

A translator is anything with a `name`, a `version` (a digest of all that decides what it answers) and `translate`. What a run used
is kept in the store by `save`, so that `open_translator` gives the same answers years later, wherever the pairs are scored.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import polars as pl

from relevance_core.errors import DataError, NotFound, SettingsError
from relevance_core.languages import named
from relevance_core.pairs import normalise
from relevance_core.store import Store
from relevance_core.store.memory import Memory

UNSPACED: Final = frozenset(("ja", "th", "zh"))
"""Languages written without spaces between words."""

UNITS: Final = frozenset(
    ("mm", "cm", "dm", "m", "km", "ml", "cl", "dl", "l", "mg", "g", "kg", "w", "kw", "kwh", "v", "mah", "hz", "gb", "tb")
)
"""Units that every market writes alike; one that follows a number stays."""

_CONJUNCTIONS: Final = {
    "de": "und|oder",
    "en": "and|or",
    "es": "y|e|o|u",
    "fr": "et|ou",
    "id": "dan|atau",
    "it": "e|ed|o",
    "nl": "en|of",
    "pl": "i|oraz|lub",
    "pt": "e|ou",
    "sv": "och|eller",
    "tr": "ve|veya",
    "vi": "và|hoặc",
}
_UNSPACED_CONJUNCTION: Final = "・|と|及び|および|和|与|及|และ"
_ANSWER: Final = ("translation", "untranslated", "words")
_ALGORITHM: Final = "glossary-1"
_SHORTEST_RESPELLED: Final = 5
_SHORTEST_RESPELLED_TEXT: Final = {True: 4, False: 8}

# A number with what is written onto it (500ml), or a word. A script without spaces has no words: a character each, with the vowel
# and tone marks that belong to it, except Latin letters and digits, which stand in it as words.
_NUMBER: Final = r"\d+(?:[.,]\d+)*"
_MARKS: Final = "\u0300-\u036f\u064b-\u065f\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u3099\u309a"
_SPACED_TOKEN: Final = re.compile(rf"{_NUMBER}[^\W_]*|(?:[^\W_]|[{_MARKS}])+")
_UNSPACED_TOKEN: Final = re.compile(rf"{_NUMBER}[a-zA-Z]*|[a-zA-Z0-9]+|[^\W_][{_MARKS}]*")


class Translated(NamedTuple):
    """A translation, and how much of it the translator could not do.

    words: words of the source (characters, in a language of UNSPACED), without the numbers, units and brands that stay as they are;
    untranslated_words: those of them that were left as they were.
    """

    text: str
    untranslated_words: int
    words: int


class Translator(Protocol):
    """Translates texts between two languages (ISO 639-1 codes); the same text and version give the same answer."""

    @property
    def name(self) -> str:
        """The kind of translator."""
        ...

    @property
    def version(self) -> str:
        """A digest of all that decides its answers."""
        ...

    @property
    def languages(self) -> frozenset[str]:
        """The languages that it translates from and into."""
        ...

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Translated]:
        """One answer a text, in their order."""
        ...


class Term(NamedTuple):
    """One row of a glossary: a name of a term in a language."""

    term_id: str
    language: str
    name: str


Token = tuple[str, int, int]


def tokens(text: str, language: str) -> list[Token]:
    """The (lower-cased) tokens of a normalised text with their bounds: words and numbers, punctuation left out."""
    pattern = _UNSPACED_TOKEN if language in UNSPACED else _SPACED_TOKEN
    return [(match.group().lower(), match.start(), match.end()) for match in pattern.finditer(text)]


class Keepsakes:
    """What every translation of a text must keep: numbers with their units, and brands.

    brands: names of one or more words; case and punctuation do not matter.
    """

    def __init__(self, brands: Iterable[str] = ()) -> None:
        self._brands = frozenset(filter(None, (_phrase(normalise(brand), "en") for brand in brands)))
        self._longest = max(map(len, self._brands), default=0)

    def of(self, text: str, language: str) -> Counter[str]:
        """Each with how often it stands in a normalised text; numbers without the decimal sign, which languages do not share."""
        words = [word for word, _, _ in tokens(text, language)]
        kept = Counter(word.replace(".", "").replace(",", "") for word in words if word[0].isdigit())
        kept.update(words[n] for n in range(len(words)) if words[n] in UNITS and _stays(words, n))
        for length in range(1, self._longest + 1):
            runs = (tuple(words[n : n + length]) for n in range(len(words) - length + 1))
            kept.update(" ".join(run) for run in runs if run in self._brands)
        return kept


Phrase = tuple[str, ...]


@dataclass(frozen=True)
class _Name:
    """A name of a term, its tokens, and its parts, each with its tokens, if a conjunction joins several."""

    text: str
    phrase: Phrase
    parts: tuple[tuple[str, Phrase], ...]

    @classmethod
    def of(cls, text: str, language: str) -> _Name:
        text = normalise(text)
        parts = [part for part in (part.strip(" -,/") for part in _conjunction(language).split(text)) if part]
        return cls(text, _phrase(text, language), tuple((part, _phrase(part, language)) for part in parts if len(parts) > 1))


@dataclass(frozen=True)
class _Lexicon:
    """What a glossary knows of one direction: phrase → its translation, None for what stays as it is.

    lengths: first token → lengths of the phrases that begin with it, longest first.
    """

    phrases: Mapping[Phrase, str | None]
    lengths: Mapping[str, tuple[int, ...]]
    words: frozenset[str]

    @classmethod
    def of(cls, phrases: Mapping[Phrase, str | None]) -> _Lexicon:
        lengths: dict[str, set[int]] = {}
        for phrase in phrases:
            lengths.setdefault(phrase[0], set()).add(len(phrase))
        ordered = {first: tuple(sorted(found, reverse=True)) for first, found in lengths.items()}
        return cls(phrases, ordered, frozenset(word for phrase in phrases for word in phrase))

    @cached_property
    def spellings(self) -> _Spellings:
        return _Spellings(word for word in self.words if len(word) >= _SHORTEST_RESPELLED and not _has_digit((word,)))

    @cached_property
    def whole(self) -> _Spellings:
        return _Spellings(" ".join(phrase) for phrase, name in self.phrases.items() if name and not _has_digit(phrase))

    def longest(self, words: Sequence[str], at: int) -> int:
        """The number of tokens of the longest phrase that begins at `at`; 0 for none."""
        for length in self.lengths.get(words[at], ()):
            if tuple(words[at : at + length]) in self.phrases:
                return length
        return 0


class _Spellings:
    """Finds the known text that differs from an unknown one by a single slip: a letter too many, too few, another or two swapped.

    A slip leaves the beginning or the end of a text as it was, so known texts are found by their length and either.
    """

    def __init__(self, known: Iterable[str]) -> None:
        self._known: dict[tuple[int, bool, str], list[str]] = {}
        for text in sorted(set(known)):
            for key in _ends(text, len(text)):
                self._known.setdefault(key, []).append(text)

    def respell(self, text: str) -> str | None:
        """The one known text a slip away from `text`, or None; a slip that fits several known texts is none."""
        keys = (key for length in (len(text) - 1, len(text), len(text) + 1) for key in _ends(text, length))
        near = {known for key in keys for known in self._known.get(key, ()) if _one_slip(text, known)}
        return near.pop() if len(near) == 1 else None


def _ends(text: str, length: int) -> tuple[tuple[int, bool, str], tuple[int, bool, str]]:
    """How a text of that length is found that begins, or ends, as `text`: no two swapped letters reach into both."""
    half = max((length - 2) // 2, 0)
    return (length, True, text[:half]), (length, False, text[len(text) - half :])


def _one_slip(first: str, second: str) -> bool:
    """Whether the Damerau-Levenshtein distance is at most one."""
    if len(first) > len(second):
        first, second = second, first
    start = next((n for n, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), len(first))
    a, b = first[start:], second[start:]
    if len(a) < len(b):
        return a == b[1:]
    return a[1:] == b[1:] or (a[2:] == b[2:] and a[:2] == b[1::-1])


@dataclass(frozen=True)
class GlossaryTranslator:
    """Translates by looking up the longest phrase of a glossary at each place of the text.

    How it works. A term has one or more names in a language: all of them are recognised, the first is what a translation says.
    Case, Unicode form, white space and punctuation do not matter. Where several terms share a name, the one in whose list it stands
    earlier wins (a preferred name before a synonym), then the one that comes first in the glossary. Below whole names stand the
    parts of those that join two with a conjunction: part for part if the target's name has as many, else the whole of it, of the
    most terms. A text, and then an unknown word of five letters or more, that is one slip of the keyboard away from exactly one
    known one is read as that. Brands, numbers and units stay; so does what nothing was found for, which is counted. Words keep the
    source's order, and a text without capitals gets none.

    What it does not do. It knows no grammar: neither word order nor agreement.
    """

    terms: tuple[Term, ...]
    brands: tuple[str, ...] = ()
    name: str = field(default="glossary", init=False)

    @cached_property
    def version(self) -> str:
        """12 hex digits of the terms, the brands and this algorithm."""
        digest = hashlib.sha256(_ALGORITHM.encode())
        for part in (*("\t".join(term) for term in self.terms), "", *self.brands):
            digest.update(part.encode() + b"\n")
        return digest.hexdigest()[:12]

    @cached_property
    def languages(self) -> frozenset[str]:
        """The languages that the glossary has names in."""
        return frozenset(term.language for term in self.terms)

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Translated]:
        """One answer a text. Into its own language a text comes back in the preferred names of its terms.

        Raises NotFound for a language that the glossary has no names in.
        """
        if not texts:
            return []
        lexicon = self._lexicon(source, target)
        return [self._translate(normalise(text), lexicon, source, target) for text in texts]

    def _translate(self, text: str, lexicon: _Lexicon, source: str, target: str) -> Translated:
        found = tokens(text, source)
        words = _respelled([word for word, _, _ in found], lexicon, source in UNSPACED)
        pieces: list[str] = []
        unknown = translatable = at = 0
        while at < len(words):
            length = lexicon.longest(words, at)
            if length:
                name = lexicon.phrases[tuple(words[at : at + length])]
                translatable += length if name is not None else 0
                pieces.append(name if name is not None else text[found[at][1] : found[at + length - 1][2]])
                at += length
                continue
            stop = _end_of_unknown(words, at, lexicon)
            left = sum(not _stays(words, n) for n in range(at, stop))
            unknown, translatable = unknown + left, translatable + left
            pieces.append(text[found[at][1] : found[stop - 1][2]])
            at = stop
        joined = _join(pieces, target)
        return Translated(joined.lower() if text == text.lower() else joined, unknown, translatable)

    @cached_property
    def _names(self) -> dict[str, dict[str, list[_Name]]]:
        """Language → term → its names, in the glossary's order."""
        names: dict[str, dict[str, list[_Name]]] = {}
        for term_id, language, name in self.terms:
            names.setdefault(language, {}).setdefault(term_id, []).append(_Name.of(name, language))
        return names

    @cached_property
    def _lexicons(self) -> dict[tuple[str, str], _Lexicon]:
        return {}

    def _lexicon(self, source: str, target: str) -> _Lexicon:
        if (source, target) not in self._lexicons:
            for language in (source, target):
                if language not in self._names:
                    raise NotFound(
                        f"the glossary has no names in {named(language)} ({language})",
                        where="translate.glossary",
                        expected=", ".join(sorted(self._names)),
                        do="add its rows to the glossary, or leave the language out",
                    )
            kept = {_phrase(normalise(brand), source): None for brand in self.brands}
            phrases = {**self._parts(source, target), **self._whole(source, target), **kept}
            self._lexicons[source, target] = _Lexicon.of({phrase: name for phrase, name in phrases.items() if phrase})
        return self._lexicons[source, target]

    def _shared(self, source: str, target: str) -> Iterator[tuple[list[_Name], _Name]]:
        """The names of every term that has some in both languages, and its preferred name in the target's."""
        theirs = self._names[target]
        return ((names, theirs[term][0]) for term, names in self._names[source].items() if term in theirs)

    def _whole(self, source: str, target: str) -> dict[Phrase, str]:
        """Phrase → preferred name in the target language."""
        ranked = [
            (rank, order, name.phrase, preferred.text)
            for order, (names, preferred) in enumerate(self._shared(source, target))
            for rank, name in enumerate(names)
        ]
        return {phrase: text for _, _, phrase, text in sorted(ranked, key=lambda entry: entry[:2], reverse=True)}

    def _parts(self, source: str, target: str) -> dict[Phrase, str]:
        """The parts of names that are joined with a conjunction, each with the part, or name, that most terms give it."""
        votes: dict[Phrase, Counter[str]] = {}
        for names, preferred in self._shared(source, target):
            for name in names:
                aligned = len(preferred.parts) == len(name.parts)
                for place, (_, phrase) in enumerate(name.parts):
                    votes.setdefault(phrase, Counter())[preferred.parts[place][0] if aligned else preferred.text] += 1
        # most_common keeps the order of arrival among equals, which is the glossary's
        return {phrase: counts.most_common(1)[0][0] for phrase, counts in votes.items()}


def _phrase(text: str, language: str) -> Phrase:
    return tuple(word for word, _, _ in tokens(text, language))


@lru_cache(maxsize=64)
def _conjunction(language: str) -> re.Pattern[str]:
    words = _CONJUNCTIONS.get(language)
    spaced = rf"|\s(?:{words})\s" if words else ""
    return re.compile(rf"[&/]{spaced}" + (f"|{_UNSPACED_CONJUNCTION}" if language in UNSPACED else ""), re.IGNORECASE)


def _has_digit(words: Sequence[str]) -> bool:
    return any(character.isdigit() for word in words for character in word)


def _respelled(words: list[str], lexicon: _Lexicon, unspaced: bool) -> list[str]:
    """The words, those that only a slip separates from known ones replaced by them."""
    known = _is_covered(words, lexicon) if unspaced else all(word in lexicon.words or _has_digit((word,)) for word in words)
    if known:
        return words
    text = " ".join(words)
    if len(words) > 1 and len(text.replace(" ", "")) >= _SHORTEST_RESPELLED_TEXT[unspaced]:
        whole = lexicon.whole.respell(text)
        if whole is not None:
            return whole.split(" ")
    return [_respelled_word(word, lexicon) for word in words]


def _is_covered(words: list[str], lexicon: _Lexicon) -> bool:
    at = 0
    while at < len(words) and (length := lexicon.longest(words, at)):
        at += length
    return at == len(words)


def _respelled_word(word: str, lexicon: _Lexicon) -> str:
    if word in lexicon.words or len(word) < _SHORTEST_RESPELLED or _has_digit((word,)):
        return word
    return lexicon.spellings.respell(word) or word


def _end_of_unknown(words: Sequence[str], at: int, lexicon: _Lexicon) -> int:
    stop = at + 1
    while stop < len(words) and not lexicon.longest(words, stop):
        stop += 1
    return stop


def _stays(words: Sequence[str], at: int) -> bool:
    """Whether the word is a number, or a unit that follows one."""
    return words[at][0].isdigit() or (words[at] in UNITS and at > 0 and words[at - 1][-1].isdigit())


def _join(pieces: Sequence[str], language: str) -> str:
    if language not in UNSPACED:
        return " ".join(pieces)
    joined = ""
    for piece in pieces:
        # Latin words and numbers would run into each other
        joined += (" " if joined[-1:].isascii() and piece[:1].isascii() and joined else "") + piece
    return joined


def remembered(translator: Translator, store: Store, texts: pl.Series, source: str, target: str) -> tuple[pl.DataFrame, int]:
    """The translations of the distinct `texts`: (text, translation, untranslated, words), sorted by text; and how many of them the
    translation memory held.

    The memory is `memory/<translator>-<version>/<source>-<target>` of the store: a text is translated once per version, ever.
    """
    wanted, memory = _distinct(texts), _memory(translator, store, source, target)
    known = memory.recall(wanted)
    missing = wanted if known is None else wanted.filter(~wanted.is_in(known["text"].implode()))
    answers = translator.translate(missing.to_list(), source, target)
    made = pl.DataFrame(
        {"text": missing, **dict(zip(_ANSWER, zip(*answers, strict=True) if answers else ((), (), ()), strict=True))},
        schema={"text": pl.String, "translation": pl.String, "untranslated": pl.Int32, "words": pl.Int32},
    )
    memory.learn(made)
    together = made if known is None else pl.concat([known.select(made.columns), made])
    return together.sort("text"), len(wanted) - len(missing)


def held(translator: Translator, store: Store, texts: pl.Series, source: str, target: str) -> tuple[int, int]:
    """How many distinct texts there are, and how many of them `remembered` would find in the memory. Translates nothing."""
    wanted = _distinct(texts)
    known = _memory(translator, store, source, target).recall(wanted)
    return len(wanted), 0 if known is None else len(known)


def _distinct(texts: pl.Series) -> pl.Series:
    return texts.drop_nulls().unique().sort().alias("text")


def _memory(translator: Translator, store: Store, source: str, target: str) -> Memory:
    return Memory(store, f"memory/{translator.name}-{translator.version}/{source}-{target}", "text")


def add_english(frame: pl.DataFrame, translator: Translator | None, store: Store) -> pl.DataFrame:
    """`frame` (`language`, `query`) with `english`: the query's English translation, from the query's own text alone.

    It is null for English queries, for languages that the translator does not know, and everywhere without a translator. Training,
    evaluation and scoring all come through here, so that the same query reads the same in each of them.
    """
    if "english" in frame.columns:
        frame = frame.drop("english")
    pieces = [pl.DataFrame(schema={"language": pl.String, "query": pl.String, "english": pl.String})]
    for language in frame["language"].unique().drop_nulls().sort() if translator else ():
        if translator and language != "en" and language in translator.languages:
            texts = frame.filter(language=language)["query"]
            known, _ = remembered(translator, store, texts, language, "en")
            pieces.append(known.select(pl.lit(language).alias("language"), query="text", english="translation"))
    return frame.join(pl.concat(pieces), on=["language", "query"], how="left", maintain_order="left")


def read_terms(data: bytes, where: str) -> tuple[Term, ...]:
    """The terms of a tab-separated file, gzipped or not, with a header and the columns id, `language`, `name` in any order.

    The id's column may have any name. Raises DataError that names the line.
    """
    text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8-sig")
    rows = list(csv.reader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE))
    header = [name.strip().lower() for name in rows[0]] if rows else []
    ids = [n for n, name in enumerate(header) if name not in ("language", "name")]
    if not {"language", "name"} <= set(header) or not ids:
        raise DataError(
            "the glossary's header does not fit",
            where=f"{where}, line 1",
            expected="term_id, language, name",
            do="correct the header",
        )
    columns = (ids[0], header.index("language"), header.index("name"))
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(header) or not all(row[n].strip() for n in columns):
            raise DataError(
                f"a row of the glossary has {len(row)} fields or an empty one",
                where=f"{where}, line {number}",
                expected=f"{len(header)} fields, separated by tabs: {', '.join(header)}",
                do="correct the line",
            )
    return tuple(Term(*(row[n].strip() for n in columns)) for row in rows[1:])


def read_brands(data: bytes) -> tuple[str, ...]:
    """The brands of a text file, one a line; empty lines and those that begin with # are left out."""
    lines = (line.strip() for line in data.decode("utf-8-sig").splitlines())
    return tuple(dict.fromkeys(line for line in lines if line and not line.startswith("#")))


def glossary_from(terms: Path, brands: Path | None = None) -> GlossaryTranslator:
    """The translator of a glossary file and, if there is one, a file of brands."""
    return GlossaryTranslator(read_terms(terms.read_bytes(), str(terms)), read_brands(brands.read_bytes()) if brands else ())


def save(translator: Translator, store: Store) -> dict[str, str]:
    """Keeps a translator in the store and returns the reference that `open_translator` opens: `{name, version, key}`.

    Raises SettingsError for a translator of another kind than the glossary.
    """
    if not isinstance(translator, GlossaryTranslator):
        raise SettingsError(f"translator {translator.name} can't be kept in the store", expected="glossary")
    key = f"translators/{translator.name}-{translator.version}"
    rows = "".join("\t".join(term) + "\n" for term in (("term_id", "language", "name"), *translator.terms))
    store.create(f"{key}/brands.txt", "".join(brand + "\n" for brand in translator.brands).encode())
    store.create(f"{key}/terms.tsv.gz", gzip.compress(rows.encode(), mtime=0))
    return {"name": translator.name, "version": translator.version, "key": key}


def open_translator(ref: Mapping[str, str], store: Store) -> GlossaryTranslator:
    """The translator that `save` kept under `ref`. Raises NotFound, or DataError if what is there has another version."""
    if ref["name"] != "glossary":
        raise NotFound(f"no translator named {ref['name']!r}", expected="glossary")
    terms = read_terms(store.read(f"{ref['key']}/terms.tsv.gz"), store.uri_of(f"{ref['key']}/terms.tsv.gz"))
    translator = GlossaryTranslator(terms, read_brands(store.read(f"{ref['key']}/brands.txt")))
    if translator.version != ref["version"]:
        raise DataError(
            f"the translator's version is {translator.version}",
            where=store.uri_of(ref["key"]),
            expected=ref["version"],
            do="restore the folder, or use the release of this package that wrote it",
        )
    return translator
