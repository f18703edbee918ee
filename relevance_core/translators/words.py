"""The words of a text, for every translator, and those that each translation must keep."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from relevance_core.pairs import normalise

UNSPACED: Final = frozenset(("ja", "th", "zh"))
"""Languages written without spaces between words."""

UNITS: Final = frozenset(
    ("mm", "cm", "dm", "m", "km", "ml", "cl", "dl", "l", "mg", "g", "kg", "w", "kw", "kwh", "v", "mah", "hz", "gb", "tb")
)
"""Units that every market writes alike; a unit that follows a number stays."""

# A number with its suffix (500ml), or a word. In a script without spaces each character is a token, with the vowel
# and tone marks that belong to it; Latin letters and digits within such a text still form words.
_NUMBER: Final = r"\d+(?:[.,]\d+)*"
_MARKS: Final = "\u0300-\u036f\u064b-\u065f\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u3099\u309a"
_SPACED_TOKEN: Final = re.compile(rf"{_NUMBER}[^\W_]*|(?:[^\W_]|[{_MARKS}])+")
_UNSPACED_TOKEN: Final = re.compile(rf"{_NUMBER}[a-zA-Z]*|[a-zA-Z0-9]+|[^\W_][{_MARKS}]*")

Phrase = tuple[str, ...]
Token = tuple[str, int, int]


def tokens(text: str, language: str) -> list[Token]:
    """Returns the (lower-cased) tokens of a normalised text with their bounds: words and numbers, without punctuation."""
    pattern = _UNSPACED_TOKEN if language in UNSPACED else _SPACED_TOKEN
    return [(match.group().lower(), match.start(), match.end()) for match in pattern.finditer(text)]


class Keepsakes:
    """The words that every translation of a text must keep: numbers with their units, and brands.

    brands: names of one or more words; case and punctuation do not matter.
    """

    def __init__(self, brands: Iterable[str] = ()) -> None:
        self._brands = frozenset(filter(None, (phrase_of(normalise(brand), "en") for brand in brands)))
        self._longest = max(map(len, self._brands), default=0)

    def of(self, text: str, language: str) -> Counter[str]:
        """Counts the words to keep in a normalised text; numbers lose their decimal sign, which differs between languages."""
        words = [word for word, _, _ in tokens(text, language)]
        kept = Counter(word.replace(".", "").replace(",", "") for word in words if _is_digit(word[0]))
        kept.update(words[n] for n in range(len(words)) if words[n] in UNITS and stays(words, n))
        for length in range(1, self._longest + 1):
            runs = (tuple(words[n : n + length]) for n in range(len(words) - length + 1))
            kept.update(" ".join(run) for run in runs if run in self._brands)
        return kept

    def others(self, text: str, language: str) -> list[str]:
        """Returns the words of a normalised text that a translation may change, lower-cased: neither number, unit nor brand."""
        words, found, at = list(phrase_of(text, language)), [], 0
        while at < len(words):
            lengths = range(min(self._longest, len(words) - at), 0, -1)
            brand = next((length for length in lengths if tuple(words[at : at + length]) in self._brands), 0)
            if not brand and not stays(words, at):
                found.append(words[at])
            at += brand or 1
        return found


def phrase_of(text: str, language: str) -> Phrase:
    """Returns the words of a normalised text."""
    return tuple(word for word, _, _ in tokens(text, language))


def stays(words: Sequence[str], at: int) -> bool:
    """Tells whether the word is a number, or a unit that follows a number."""
    return _is_digit(words[at][0]) or (words[at] in UNITS and at > 0 and _is_digit(words[at - 1][-1]))


def _is_digit(character: str) -> bool:
    """Tells whether a character is a digit or a fraction, such as ½."""
    return character.isdigit() or unicodedata.category(character) == "No"
