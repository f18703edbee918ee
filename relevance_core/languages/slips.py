"""Queries as a hurried shopper types them: one slip a query, of a kind that the language's script and keyboard bring about.

Everything here is a pure function: a text, its language and a seed give the same corrupted text on every night and every machine.
Numbers, what is written onto them, the word after them (it may be their unit), codes in capitals and words of another script than
the language's stay as they are.

- keyboard: a key beside the right one, on the language's layout (qwerty, azerty, qwertz, Arabic, dubeolsik letter by letter);
- letters: two swapped, one left out, one doubled, in Latin and Arabic words;
- accents: all dropped, in German also ae, oe, ue; in Thai the tone marks, in Arabic the short vowels;
- script: hamza, ta marbuta and final ya (ar); Shift missed, ae for e, no final consonant (ko); dakuten, small kana, long vowels,
  hiragana for katakana (ja);
- short: a handful of abbreviations (en, es, fr, id, it, pt).

That most slips are one wrong, missing, added or swapped letter: Damerau, CACM 1964. Chinese, typed by its reading, has none
of these. Nothing is respelt by its sound: no library for that is among the dependencies.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Final, NamedTuple

import polars as pl

from relevance_core.config import SLIPS, Slip
from relevance_core.languages import TABLE, Keyboard
from relevance_core.pairs import digest, normalise


class Typed(NamedTuple):
    """A corrupted text, and the kind of slip in it."""

    text: str
    slip: Slip


_LAYOUTS: Final[Mapping[Keyboard, tuple[str, str, str]]] = {
    "qwerty": ("qwertyuiop", "asdfghjkl", "zxcvbnm"),
    "azerty": ("azertyuiop", "qsdfghjklm", "wxcvbn"),
    "qwertz": ("qwertzuiopü", "asdfghjklöä", "yxcvbnm"),
    "arabic": ("ضصثقفغعهخحجد", "شسيبلاتنمكط", "ئءؤر ىةوزظ"),  # the gap is a key of two letters
    "dubeolsik": ("ㅂㅈㄷㄱㅅㅛㅕㅑㅐㅔ", "ㅁㄴㅇㄹㅎㅗㅓㅏㅣ", "ㅋㅌㅊㅍㅠㅜㅡ"),
}
"""The letters of each layout's three rows, each row half a key or so to the right of the one above."""

_LATIN: Final = re.compile(r"[A-Za-z\u00c0-\u024f\u1e00-\u1eff]+")
_RUNS: Final = {"ar": re.compile(r"[\u0621-\u064a]+"), "ko": re.compile(r"[가-힣]+")}
"""Words of the languages that are not written in Latin letters."""
_KANA_RUN: Final = re.compile(r"[\u3041-\u3096]{3,}|[\u30a1-\u30f6ー]{3,}")
_LEAST: Final = 4
"""Letters of a word that may get a wrong one: a shorter word easily becomes another."""

_UNDECOMPOSED: Final = str.maketrans({"ß": "ss", "ł": "l", "đ": "d", "ø": "o", "æ": "ae", "œ": "oe", "ı": "i", "Ł": "L", "Đ": "D"})
_UMLAUTS: Final = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ß": "ss"})
_THAI_TONES: Final = re.compile("[\u0e48-\u0e4b]")
_SHORT_VOWELS: Final = re.compile("[\u064b-\u0652]")

_HAMZA: Final = dict.fromkeys("أإآٱ", "ا") | {"ؤ": "و", "ئ": "ي"}
_FINALS: Final = {"ة": "ه", "ه": "ة", "ى": "ي", "ي": "ى"}
"""Letters that are taken for each other at the end of an Arabic word."""

_SMALL: Final = str.maketrans("ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮ", "あいうえおつやゆよわアイウエオツヤユヨワ")
_VOICED: Final = "\u3099\u309a"
_OTHER_KANA: Final = {n: n + 0x60 for n in range(0x3041, 0x3097)} | {n + 0x60: n for n in range(0x3041, 0x3097)}

_JAMO: Final = {"ᄁ": "ᄀ", "ᄄ": "ᄃ", "ᄈ": "ᄇ", "ᄊ": "ᄉ", "ᄍ": "ᄌ", "ᅤ": "ᅢ", "ᅨ": "ᅦ", "ᅢ": "ᅦ", "ᅦ": "ᅢ"}
"""Letters of Shift without it, and two vowels that sound alike."""
_FINAL_JAMO: Final = range(0x11A8, 0x11C3)

_ABBREVIATIONS: Final[Mapping[str, Mapping[str, str]]] = {
    "en": {"and": "n", "with": "w", "you": "u"},
    "es": {"para": "pa", "por": "x", "que": "q"},
    "fr": {"pour": "pr", "dans": "ds", "avec": "avc"},
    "id": {"untuk": "utk", "dengan": "dgn", "yang": "yg"},
    "it": {"per": "x", "che": "ke"},
    "pt": {"para": "pra", "com": "c", "que": "q"},
}


def corrupt(text: str, language: str, seed: int, kinds: Sequence[Slip] = SLIPS) -> Typed | None:
    """`text` (normalised) with one slip of one of `kinds`, or None where none of them has a place in it.

    Of the kinds that have one, and of the variants of a kind, each is equally likely; a hash of text, language and seed decides.
    """
    salt = (text, language, str(seed))
    for slip in sorted(kinds, key=lambda kind: digest("slip", kind, *salt)):
        if found := variants(text, language, slip):
            typed = normalise(found[int(digest("variant", *salt), 16) % len(found)])
            return Typed(typed, slip) if typed not in (text, "") else None
    return None


def variants(text: str, language: str, kind: Slip) -> list[str]:
    """Every text that one slip of that kind makes of a normalised text, sorted; the text itself is none of them."""
    return sorted(set(_KINDS[kind](text, language)) - {text, ""}) if language in TABLE else []


def corrupted(rows: pl.DataFrame, seed: int, kinds: Sequence[Slip] = SLIPS) -> pl.DataFrame:
    """`rows` (`query`, `language`) with `typed`, the corrupted query, and `slip`; those in which nothing can be changed left out.

    Rows of the same query in the same language are typed alike.
    """
    texts = rows.select("query", "language").unique().sort("query", "language")
    typed = [corrupt(query, language, seed, kinds) or (None, None) for query, language in texts.iter_rows()]
    made = pl.DataFrame(typed, schema={"typed": pl.String, "slip": pl.String}, orient="row")
    known = pl.concat([texts, made], how="horizontal").drop_nulls("typed")
    return rows.join(known, on=["query", "language"], how="inner", maintain_order="left")


def _words(text: str, language: str) -> Iterator[tuple[int, int]]:
    """The bounds of the runs of the language's letters that may be changed."""
    shouted, before = text.isupper(), ""
    for token in re.finditer(r"\S+", text):
        word, follows = token.group(), before[-1:].isdigit()
        before = word
        code = any(letter.isdigit() for letter in word) or (word.isupper() and not shouted and len(word) > 1)
        if not (code or follows):
            for run in _RUNS.get(language, _LATIN).finditer(word):
                yield token.start() + run.start(), token.start() + run.end()


def _inside(text: str, language: str) -> Iterator[tuple[int, int]]:
    """The places of letters, each with the end of its word, in words that are long enough; the first of a word is nearly always
    right.
    """
    for start, end in _words(text, language):
        if end - start >= _LEAST:
            yield from ((at, end) for at in range(start + 1, end))


def _keyboard(text: str, language: str) -> Iterator[str]:
    keyboard = TABLE[language].keyboard
    if keyboard is None:
        return
    near = _neighbours(keyboard)
    if keyboard == "dubeolsik":
        yield from _by_jamo(text, near)
        return
    for at, _ in _inside(text, language):
        for key in near.get(text[at].lower(), ""):
            yield text[:at] + (key.upper() if text[at].isupper() else key) + text[at + 1 :]


@cache
def _neighbours(keyboard: Keyboard) -> dict[str, str]:
    """Letter → the letters of the keys that touch its key."""
    rows = [unicodedata.normalize("NFKD", row) if keyboard == "dubeolsik" else row for row in _LAYOUTS[keyboard]]
    near: dict[str, set[str]] = {}
    for upper, lower in zip(rows, [*rows[1:], ""], strict=True):
        beside = [(upper[n], upper[n + 1]) for n in range(len(upper) - 1)]
        below = [(upper[n + shift], lower[n]) for n in range(len(lower)) for shift in (0, 1) if n + shift < len(upper)]
        for one, other in [*beside, *below]:
            near.setdefault(one, set()).add(other)
            near.setdefault(other, set()).add(one)
    return {letter: "".join(sorted(keys - {" "})) for letter, keys in near.items() if letter != " "}


def _letters(text: str, language: str) -> Iterator[str]:
    if language == "ko" or TABLE[language].keyboard is None:
        return
    for at, end in _inside(text, language):
        yield text[:at] + text[at + 1 :]
        yield text[:at] + text[at] + text[at:]
        if at + 1 < end:
            yield text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def _accents(text: str, language: str) -> Iterator[str]:
    """Without any accent, since who leaves out one leaves out all."""
    if language == "th":
        yield _THAI_TONES.sub("", text)
    elif language == "ar":
        yield _SHORT_VOWELS.sub("", text)
    elif language not in ("ja", "ko", "zh"):
        yield _each_word(text, language, _unaccented)
        if language == "de":
            yield _each_word(text, language, lambda word: word.translate(_UMLAUTS))


def _each_word(text: str, language: str, change: Callable[[str], str]) -> str:
    parts, done = [], 0
    for start, end in _words(text, language):
        parts += [text[done:start], change(text[start:end])]
        done = end
    return "".join([*parts, text[done:]])


def _unaccented(word: str) -> str:
    letters = unicodedata.normalize("NFD", word.translate(_UNDECOMPOSED))
    return "".join(letter for letter in letters if unicodedata.category(letter) != "Mn")


def _script(text: str, language: str) -> Iterator[str]:
    if language == "ar":
        yield from _arabic(text)
    elif language == "ko":
        yield from _by_jamo(text, _JAMO, finals=True)
    elif language == "ja":
        yield from _kana(text)


def _arabic(text: str) -> Iterator[str]:
    for start, end in _words(text, "ar"):
        for at in range(start, end):
            if letter := _HAMZA.get(text[at]):
                yield text[:at] + letter + text[at + 1 :]
        if end - start > 1 and (letter := _FINALS.get(text[end - 1])):
            yield text[: end - 1] + letter + text[end:]


def _by_jamo(text: str, instead: Mapping[str, str], *, finals: bool = False) -> Iterator[str]:
    """Each syllable with each of its letters replaced by one of `instead`, as far as that is a syllable again.

    finals: also without its final consonant.
    """
    for start, end in _words(text, "ko"):
        for at in range(start, end):
            jamo = unicodedata.normalize("NFD", text[at])
            made = [jamo[:n] + other + jamo[n + 1 :] for n in range(2) for other in instead.get(jamo[n], "")]
            if finals and ord(jamo[-1]) in _FINAL_JAMO:
                made.append(jamo[:-1])
            syllables = (unicodedata.normalize("NFC", letters) for letters in made)
            yield from (text[:at] + syllable + text[at + 1 :] for syllable in syllables if len(syllable) == 1)


def _kana(text: str) -> Iterator[str]:
    for at, letter in enumerate(text):
        parts = unicodedata.normalize("NFD", letter)
        plain = parts[0] if parts[1:] and parts[1] in _VOICED else letter.translate(_SMALL)
        plain = "" if letter == "ー" else plain
        yield text[:at] + plain + text[at + 1 :]
    for run in _KANA_RUN.finditer(text):
        yield text[: run.start()] + run.group().translate(_OTHER_KANA) + text[run.end() :]


def _short(text: str, language: str) -> Iterator[str]:
    known = _ABBREVIATIONS.get(language, {})
    for start, end in _words(text, language):
        if letters := known.get(text[start:end].lower()):
            yield text[:start] + letters + text[end:]


_KINDS: Final[Mapping[Slip, Callable[[str, str], Iterator[str]]]] = {
    "keyboard": _keyboard,
    "letters": _letters,
    "accents": _accents,
    "script": _script,
    "short": _short,
}
