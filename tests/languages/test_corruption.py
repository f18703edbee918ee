"""Mistyped queries: which slips a script and a keyboard bring about, what is left alone, and that they never change."""

from __future__ import annotations

from collections import Counter

import polars as pl
import pytest

from relevance_core.config import SLIPS, Slip
from relevance_core.languages import TABLE, Keyboard
from relevance_core.languages.slips import _LAYOUTS, _neighbours, corrupt, corrupted, variants
from relevance_core.pairs import normalise


@pytest.mark.parametrize(
    ("language", "near"),
    [("en", {"a": "qswz", "p": "lo"}), ("fr", {"a": "qz", "q": "aswz"}), ("de", {"y": "asx", "z": "ghtu"}), ("ar", {"ض": "شص"})],
)
def test_a_wrong_key_is_one_beside_the_right_one(language: str, near: dict[str, str]) -> None:
    """a has q, w, s and z around it on qwerty, and on azerty z beside and q below it; on qwertz z and y have changed places."""
    keyboard = TABLE[language].keyboard
    assert keyboard is not None
    found = _neighbours(keyboard)
    assert {letter: found[letter] for letter in near} == near


@pytest.mark.parametrize("keyboard", list(_LAYOUTS))
def test_to_be_beside_is_mutual(keyboard: Keyboard) -> None:
    """Whichever layout: no letter is beside itself, and of two letters each is beside the other."""
    near = _neighbours(keyboard)
    assert all(letter not in keys and all(letter in near[key] for key in keys) for letter, keys in near.items())


@pytest.mark.parametrize(
    ("text", "language", "kind", "made"),
    [
        ("abcd", "en", "letters", ["abbcd", "abc", "abccd", "abcdd", "abd", "abdc", "acbd", "acd"]),
        ("für größe", "de", "accents", ["fuer groesse", "fur grosse"]),
        ("chaussures d'été", "fr", "accents", ["chaussures d'ete"]),
        ("łóżko", "pl", "accents", ["lozko"]),
        ("điện thoại", "vi", "accents", ["dien thoai"]),
        ("รองเท้า", "th", "accents", ["รองเทา"]),
        ("shoes with and", "en", "short", ["shoes w and", "shoes with n"]),
        ("バッグ", "ja", "script", ["ばっぐ", "ハッグ", "バック", "バツグ"]),
        ("コート", "ja", "script", ["こーと", "コト"]),
        ("빨간 색", "ko", "script", ["발간 색", "빠간 색", "빨가 색", "빨간 새", "빨간 섹"]),
        ("أحذية", "ar", "script", ["أحذيه", "احذية"]),
    ],
)
def test_the_variants_of_a_kind(text: str, language: str, kind: Slip, made: list[str]) -> None:
    """Every text that one slip of that kind makes, worked out by hand, and no other."""
    assert variants(text, language, kind) == made


def test_a_korean_key_stays_a_syllable() -> None:
    """ㄱ of 가 may become ㄷ, ㅅ, ㅇ or ㄹ, which lie around it, its ㅏ one of ㅓ, ㅣ, ㅑ, ㅐ and ㅡ; never a vowel a consonant."""
    made = variants("가", "ko", "keyboard")
    assert set(made) == {"다", "사", "아", "라", "거", "기", "갸", "개", "그"}


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("42mm 500 ml", "en"),
        ("WH-1000XM5", "en"),
        ("for RTX-4090 HDMI", "en"),
        ("27 zoll", "de"),
        ("靴 27cm nike", "ja"),
        ("红鞋", "zh"),
        ("обувь", "en"),
        ("shoes", "xx"),
        ("", "en"),
    ],
)
def test_what_is_no_word_of_the_language_stays(text: str, language: str) -> None:
    """Numbers, units, model codes, other scripts, languages that are not known, and nothing: none of the kinds has a place."""
    assert [kind for kind in SLIPS if variants(text, language, kind)] == []
    assert corrupt(text, language, 1) is None


def test_numbers_and_codes_of_a_query_survive_every_slip() -> None:
    """Whatever is done to `canon EOS-R5 kamera 24 mm schwarz`, the code, the number and the unit are still in it."""
    text = "canon EOS-R5 kamera 24 mm schwarz"
    found = [variant for kind in SLIPS for variant in variants(text, "de", kind)]
    assert len(found) > 50
    assert all("EOS-R5" in variant and "24 mm" in variant for variant in found)


def test_a_query_in_capitals_is_no_code() -> None:
    """Where all is in capitals they say nothing: its words are mistyped like any, in capitals."""
    assert "RED SHES" in variants("RED SHOES", "en", "letters")
    assert all(variant.isupper() for variant in variants("RED SHOES", "en", "keyboard"))


def test_the_same_text_is_always_mistyped_alike() -> None:
    """On every machine seed 17 gives this very text; other seeds and languages give others."""
    text = "leather running shoes"
    assert corrupt(text, "en", 17) == corrupt(text, "en", 17) == ("leather running shos", "letters")
    assert len({corrupt(text, "en", seed) for seed in range(20)}) > 10
    assert corrupt(text, "en", 17) != corrupt(text, "nl", 17)


def test_kinds_are_equally_likely_and_can_be_chosen() -> None:
    """Of 600 queries with place for two kinds between 250 and 350 get each; asked for one kind, all get that."""
    texts = [f"zapatillas número {chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(600)]
    kinds = Counter(typed.slip for text in texts if (typed := corrupt(text, "es", 1, ("letters", "accents"))))
    assert set(kinds) == {"letters", "accents"}
    assert min(kinds.values()) > 250
    accents = [corrupt(text, "es", 1, ("accents",)) for text in texts]
    assert {typed.slip for typed in accents if typed} == {"accents"}


@pytest.mark.parametrize("text", ["ガール", "빨간 신발", "أحذية نسائية", "ảo thun đẹp", "weiße Schuhe"])
def test_what_is_typed_is_normalised(text: str) -> None:
    """A mistyped text is as *ingest* would leave it, so that its ids are those of a logged query."""
    for language in ("ja", "ko", "ar", "vi", "de"):
        for seed in range(5):
            typed = corrupt(text, language, seed)
            assert typed is None or typed.text == normalise(typed.text) != text


def test_rows_of_a_query_are_typed_alike() -> None:
    """Two rows of a query get one text, a query without a place is left out, and the rows' other columns and order stay."""
    rows = pl.DataFrame({"n": [3, 1, 2], "query": ["red shoes", "红鞋", "red shoes"], "language": ["en", "zh", "en"]})
    made = corrupted(rows, 5)
    typed = corrupt("red shoes", "en", 5)
    assert typed is not None
    assert made.rows() == [(3, "red shoes", "en", *typed), (2, "red shoes", "en", *typed)]
