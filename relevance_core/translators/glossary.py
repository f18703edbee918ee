"""The glossary: a translator that looks phrases up, the built-in default."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import ClassVar, Final, NamedTuple

from relevance_core.errors import DataError, NotFound
from relevance_core.languages import named
from relevance_core.pairs import normalise
from relevance_core.sources.delimited import read_companion
from relevance_core.sources.reading import Unreadable
from relevance_core.sources.text import plain
from relevance_core.translators.protocol import Translated
from relevance_core.translators.words import UNSPACED, Phrase, phrase_of, stays, tokens

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
_NO_SPACE: Final = re.compile(r"[\t\r\n]+")
_ALGORITHM: Final = "glossary-1"
_SHORTEST_RESPELLED: Final = 5
_SHORTEST_RESPELLED_TEXT: Final = {True: 4, False: 8}


class Term(NamedTuple):
    """One row of a glossary: a name of a term in a language."""

    term_id: str
    language: str
    name: str


@dataclass(frozen=True)
class _Name:
    """A name of a term with its tokens, and the parts that a conjunction joins, each with its tokens."""

    text: str
    phrase: Phrase
    parts: tuple[tuple[str, Phrase], ...]

    @classmethod
    def of(cls, text: str, language: str) -> _Name:
        text = normalise(text)
        parts = [part for part in (part.strip(" -,/") for part in _conjunction(language).split(text)) if part]
        return cls(text, phrase_of(text, language), tuple((part, phrase_of(part, language)) for part in parts if len(parts) > 1))


@dataclass(frozen=True)
class _Lexicon:
    """A glossary's phrases for one pair of languages: phrase → its translation, None for a phrase that stays as it is.

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
        """Returns the number of tokens of the longest phrase that begins at `at`; 0 for none."""
        for length in self.lengths.get(words[at], ()):
            if tuple(words[at : at + length]) in self.phrases:
                return length
        return 0


class _Spellings:
    """Finds the known text that differs from an unknown one by a single slip: a letter too many, missing, replaced, or two swapped.

    A slip leaves the beginning or the end of a text unchanged, so known texts are indexed by length and either end.
    """

    def __init__(self, known: Iterable[str]) -> None:
        self._known: dict[tuple[int, bool, str], list[str]] = {}
        for text in sorted(set(known)):
            for key in _ends(text, len(text)):
                self._known.setdefault(key, []).append(text)

    def respell(self, text: str) -> str | None:
        """Returns the one known text a slip away from `text`; None where no text, or more than one, is."""
        keys = (key for length in (len(text) - 1, len(text), len(text) + 1) for key in _ends(text, length))
        near = {known for key in keys for known in self._known.get(key, ()) if _one_slip(text, known)}
        return near.pop() if len(near) == 1 else None


def _ends(text: str, length: int) -> tuple[tuple[int, bool, str], tuple[int, bool, str]]:
    """Returns the index keys of texts of that length that begin, or end, as `text` does; two swapped letters never span both."""
    half = max((length - 2) // 2, 0)
    return (length, True, text[:half]), (length, False, text[len(text) - half :])


def _one_slip(first: str, second: str) -> bool:
    """Tells whether the Damerau-Levenshtein distance is at most one."""
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

    How it works. A term has one or more names in a language: all of them are recognised, the first is used in translations. Case,
    Unicode form, white space and punctuation do not matter. Where several terms share a name, the term in whose list it stands
    earlier wins (a preferred name before a synonym), then the term that comes first in the glossary. Whole names take precedence
    over the parts of names that join two with a conjunction: part for part if the target's name has as many, else the whole of it,
    of the most terms. A text, and then an unknown word of five letters or more, that is one keyboard slip away from exactly one
    known text is read as that text. Brands, numbers and units stay; so do words that nothing was found for, which are counted.
    Words keep the source's order, and a text without capitals gets none.

    What it does not do. It knows no grammar: neither word order nor agreement.
    """

    terms: tuple[Term, ...]
    brands: tuple[str, ...] = ()
    name: str = field(default="glossary", init=False)
    batch: ClassVar[int] = 1_000_000

    @cached_property
    def version(self) -> str:
        """12 hex digits over the terms, the brands and this algorithm."""
        digest = hashlib.sha256(_ALGORITHM.encode())
        for part in (*("\t".join(term) for term in self.terms), "", *self.brands):
            digest.update(part.encode() + b"\n")
        return digest.hexdigest()[:12]

    @cached_property
    def languages(self) -> frozenset[str]:
        """The languages in which the glossary has names."""
        return frozenset(term.language for term in self.terms)

    def can(self, source: str, target: str) -> bool:
        """Tells whether the glossary has names in both languages, which may be the same."""
        return {source, target} <= self.languages

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Translated]:
        """Returns one answer per text. Translated into its own language, a text gets the preferred names of its terms.

        Raises NotFound for a language in which the glossary has no names.
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
            left = sum(not stays(words, n) for n in range(at, stop))
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
            kept = {phrase_of(normalise(brand), source): None for brand in self.brands}
            phrases = {**self._parts(source, target), **self._whole(source, target), **kept}
            self._lexicons[source, target] = _Lexicon.of({phrase: name for phrase, name in phrases.items() if phrase})
        return self._lexicons[source, target]

    def _shared(self, source: str, target: str) -> Iterator[tuple[list[_Name], _Name]]:
        """Yields the names of every term that both languages have, with its preferred name in the target language."""
        theirs = self._names[target]
        return ((names, theirs[term][0]) for term, names in self._names[source].items() if term in theirs)

    def _whole(self, source: str, target: str) -> dict[Phrase, str]:
        """Returns phrase → preferred name in the target language."""
        ranked = [
            (rank, order, name.phrase, preferred.text)
            for order, (names, preferred) in enumerate(self._shared(source, target))
            for rank, name in enumerate(names)
        ]
        return {phrase: text for _, _, phrase, text in sorted(ranked, key=lambda entry: entry[:2], reverse=True)}

    def _parts(self, source: str, target: str) -> dict[Phrase, str]:
        """Returns the parts of names that a conjunction joins, each with the part, or name, that most terms give it."""
        votes: dict[Phrase, Counter[str]] = {}
        for names, preferred in self._shared(source, target):
            for name in names:
                aligned = len(preferred.parts) == len(name.parts)
                for place, (_, phrase) in enumerate(name.parts):
                    votes.setdefault(phrase, Counter())[preferred.parts[place][0] if aligned else preferred.text] += 1
        # most_common keeps the order of arrival among equals, which is the glossary's
        return {phrase: counts.most_common(1)[0][0] for phrase, counts in votes.items()}


@lru_cache(maxsize=64)
def _conjunction(language: str) -> re.Pattern[str]:
    words = _CONJUNCTIONS.get(language)
    spaced = rf"|\s(?:{words})\s" if words else ""
    return re.compile(rf"[&/]{spaced}" + (f"|{_UNSPACED_CONJUNCTION}" if language in UNSPACED else ""), re.IGNORECASE)


def _has_digit(words: Sequence[str]) -> bool:
    return any(character.isdigit() for word in words for character in word)


def _respelled(words: list[str], lexicon: _Lexicon, unspaced: bool) -> list[str]:
    """Returns the words, those a single slip away from a known word replaced by it."""
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


def _join(pieces: Sequence[str], language: str) -> str:
    if language not in UNSPACED:
        return " ".join(pieces)
    joined = ""
    for piece in pieces:
        # Latin words and numbers would merge
        joined += (" " if joined[-1:].isascii() and piece[:1].isascii() and joined else "") + piece
    return joined


def read_terms(data: bytes, where: str, *, kept: bool = False) -> tuple[Term, ...]:
    """Parses the terms of a tab-separated file with a header and the columns id, `language`, `name` in any order.

    The id's column may have any name. The file may be compressed; its text is UTF-8, or UTF-16 with a byte order mark. Names may
    have quotes around them, as Excel saves them; quotes are text where that fits no name of the file. Languages become lower case,
    and a tab or a line end in a name becomes a space.

    Args:
        data: the file.
        where: its address, for messages.
        kept: the file is of `translators.save`: quotes are text and nothing is changed.

    Raises:
        DataError: names the line, and the byte where it is known.
    """
    try:
        header, rows = read_companion(plain(data, where), quoted=not kept)
    except Unreadable as error:
        raise error.of(where) from error
    names = [name.strip().lower() for name in header]
    ids = [n for n, name in enumerate(names) if name not in ("language", "name")]
    if not {"language", "name"} <= set(names) or not ids:
        raise DataError(
            "the glossary's header does not fit",
            where=f"{where}, line 1",
            expected="term_id, language, name, with a tab between two",
            do="correct the header",
        )
    columns = (ids[0], names.index("language"), names.index("name"))
    for line, row in rows:
        if not all(row[n].strip() for n in columns):
            raise DataError(
                "a row of the glossary has an empty field",
                where=f"{where}, line {line}",
                expected=f"{len(names)} fields, separated by tabs: {', '.join(names)}",
                do="correct the line",
            )
    terms = (Term(*(row[n].strip() for n in columns)) for _, row in rows)
    return tuple(
        terms if kept else (Term(_NO_SPACE.sub(" ", id), code.lower(), _NO_SPACE.sub(" ", name)) for id, code, name in terms)
    )


def read_brands(data: bytes, where: str = "brands.txt") -> tuple[str, ...]:
    """Parses the brands of a text file, one per line; empty lines and those that begin with # are skipped.

    where: its address, for messages. Raises DataError that names the line and the byte of a text that is not UTF-8 or UTF-16.
    """
    try:
        text = plain(data, where).decode()
    except Unreadable as error:
        raise error.of(where) from error
    lines = (line.strip() for line in text.splitlines())
    return tuple(dict.fromkeys(line for line in lines if line and not line.startswith("#")))


def glossary_from(terms: Path, brands: Path | None = None) -> GlossaryTranslator:
    """Returns the translator of a glossary file and, if there is one, a file of brands."""
    known = read_brands(brands.read_bytes(), str(brands)) if brands else ()
    return GlossaryTranslator(read_terms(terms.read_bytes(), str(terms)), known)
