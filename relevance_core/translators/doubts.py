"""Guards that reject a translation for its text alone: a lost model name, a copy, a repetition, another language.

Guards look at form only and give the translation the benefit of the doubt: short texts, brands and words common to both texts are
no evidence against it.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from relevance_core.config import TranslationGuard
from relevance_core.languages.identification import identify
from relevance_core.translators.chain import Chain
from relevance_core.translators.glossary import GlossaryTranslator
from relevance_core.translators.protocol import Translator
from relevance_core.translators.words import UNSPACED, Keepsakes, phrase_of

REASONS: Final[Mapping[TranslationGuard, str]] = {
    "models": "model name lost",
    "copy": "copy of the source",
    "repetition": "repetition",
    "language": "another language",
}
"""Guard → its reason in the ledger, in the order in which guards are asked."""

_LONGEST_PHRASE: Final = 8
_TURNS: Final = 3
_LOOP: Final = re.compile(r"([^\W\d_]{1,4}?)\1{4,}")
"""One to four letters, five times or more without a space between."""

_FEWEST_LETTERS: Final = 10
_LETTERS_OF_A_WIDE_ONE: Final = 3


class Answer(NamedTuple):
    """A text and a translator's answer, both normalised."""

    text: str
    source: str
    said: str
    target: str


def doubts(
    answers: Sequence[Answer],
    guards: Iterable[TranslationGuard],
    brands: Iterable[str],
    translator: Translator | None,
    confidence: float,
) -> list[tuple[str, str] | None]:
    """Returns, for each answer, the (reason, detail) of the first guard that rejects it; None for an answer that passes all.

    detail: the lost model name, the repeated phrase, the language and its probability; else empty.

    Args:
        answers: texts with their translations.
        guards: the guards to ask.
        brands: names that are no word of a language.
        translator: its glossary, if it has one, may know that both languages share a name.
        confidence: the lowest probability that counts as another language.
    """
    keep, wanted = Keepsakes(brands), set(guards)
    found: list[tuple[str, str] | None] = [None] * len(answers)
    for guard, reason in REASONS.items():
        if guard not in wanted:
            continue
        if guard == "models":
            details = [_lost_model(answer) for answer in answers]
        elif guard == "copy":
            details = _copies(answers, keep, _glossary_of(translator))
        elif guard == "repetition":
            details = [_repeated(answer) for answer in answers]
        else:
            details = _others(answers, keep, _glossary_of(translator), confidence)
        found = [known or (None if detail is None else (reason, detail)) for known, detail in zip(found, details, strict=True)]
    return found


def _lost_model(answer: Answer) -> str | None:
    """Returns a word of letters and digits (`a52`, `xm4`) that the answer lacks, also when written apart. Words that begin with a
    digit are numbers, which another guard checks.
    """
    said = "".join(phrase_of(answer.said, answer.target))
    names = [word for word in phrase_of(answer.text, answer.source) if _is_model(word)]
    return next((name for name in names if name not in said), None)


def _is_model(word: str) -> bool:
    return not word[0].isdigit() and any(sign.isdigit() for sign in word) and any(sign.isalpha() for sign in word)


def _copies(answers: Sequence[Answer], keep: Keepsakes, glossary: GlossaryTranslator | None) -> list[str | None]:
    """Returns "" for each answer that is a copy, None for the others.

    A copy has the words of its source, in whatever order, case and accents, unless the glossary gives just these words.
    """
    return ["" if _is_copy(answer, keep) and not _vouched(answer, keep, glossary) else None for answer in answers]


def _is_copy(answer: Answer, keep: Keepsakes) -> bool:
    # Both are tokenised in the source's language, so that a copy of a text without spaces gives the same words.
    asked, said = (Counter(map(_folded, keep.others(text, answer.source))) for text in (answer.text, answer.said))
    return bool(asked) and asked == said


def _vouched(answer: Answer, keep: Keepsakes, glossary: GlossaryTranslator | None) -> bool:
    """Tells whether the glossary knows every word, with the same name in both languages."""
    own = _by_glossary(answer, glossary)
    return own is not None and _is_copy(answer._replace(said=own), keep)


def _of_glossary(answer: Answer, glossary: GlossaryTranslator | None) -> bool:
    own = _by_glossary(answer, glossary)
    return own is not None and own.casefold() == answer.said.casefold()


def _by_glossary(answer: Answer, glossary: GlossaryTranslator | None) -> str | None:
    """Returns the glossary's answer for the text; None where it lacks a language or a word."""
    if glossary is None or not glossary.can(answer.source, answer.target):
        return None
    (own,) = glossary.translate([answer.text], answer.source, answer.target)
    return None if own.untranslated_words else own.text


def _glossary_of(translator: Translator | None) -> GlossaryTranslator | None:
    parts = translator.parts if isinstance(translator, Chain) else (translator,)
    return next((part for part in parts if isinstance(part, GlossaryTranslator)), None)


def _folded(word: str) -> str:
    """Returns the word without accents."""
    return "".join(sign for sign in unicodedata.normalize("NFKD", word.casefold()) if not unicodedata.combining(sign))


def _repeated(answer: Answer) -> str | None:
    """Returns a phrase that the answer repeats three times in a row and its source fewer times: the model is stuck in a loop.

    Phrases have up to eight words, or, in a script without spaces, two to eight characters; one to four letters count from five
    times.
    """
    phrase, turns = _turns(phrase_of(answer.said, answer.target), answer.target)
    if turns >= _TURNS and turns > _turns(phrase_of(answer.text, answer.source), answer.source)[1]:
        return phrase
    loop = _LOOP.search(answer.said.casefold())
    return loop[1] if loop and not _LOOP.search(answer.text.casefold()) else None


def _turns(words: Sequence[str], language: str) -> tuple[str, int]:
    """Returns the phrase that most often directly follows itself, and the number of its consecutive occurrences, from 1."""
    shortest, between = (2, "") if language in UNSPACED else (1, " ")
    best = ("", 1)
    for size in range(shortest, min(_LONGEST_PHRASE, len(words) // 2) + 1):
        streak = 0
        for at in range(len(words) - size):
            streak = streak + 1 if words[at] == words[at + size] else 0
            if streak // size + 1 > best[1]:
                best = (between.join(words[at + 1 : at + 1 + size]), streak // size + 1)
    return best


def _others(answers: Sequence[Answer], keep: Keepsakes, glossary: GlossaryTranslator | None, confidence: float) -> list[str | None]:
    """Returns, for each answer in an unexpected language, that language with its probability.

    Only three languages are considered, since fewer give surer answers: the target's, the source's, and English, which models fall
    back to. Only words that the translator chose count, not numbers, brands and words of the source, and only from ten letters on
    (a Chinese, Japanese or Korean character counts as three). A text in a script of none of the three is in another language for
    certain; a fourth language of the same script goes undetected. Chinese characters alone may be Japanese, and an answer that the
    glossary gives is never rejected.
    """
    texts = [_own_words(answer, keep) for answer in answers]
    found: list[str | None] = [None] * len(answers)
    judged = [place for place in range(len(answers)) if _letters(texts[place]) >= _FEWEST_LETTERS]
    by_pair: dict[tuple[str, str], list[int]] = {}
    for place in judged:
        by_pair.setdefault((answers[place].source, answers[place].target), []).append(place)
    for (source, target), places in by_pair.items():
        named = identify([texts[place] for place in places], sorted({source, target, "en"}))
        for place, (language, p) in zip(places, named, strict=True):
            detail = _foreign(language, p, target, confidence)
            found[place] = None if detail is None or _of_glossary(answers[place], glossary) else detail
    return found


def _foreign(language: str, p: float, target: str, confidence: float) -> str | None:
    if not language:
        return "another script"
    sure = language != target and (language, target) != ("zh", "ja") and p >= confidence
    return f"{language} {p:.2f}" if sure else None


def _own_words(answer: Answer, keep: Keepsakes) -> str:
    """Returns the answer's words that its source lacks; of two scripts, those not in Latin, which often writes names."""
    known = set(phrase_of(answer.text, answer.source))
    words = [word for word in keep.others(answer.said, answer.target) if word not in known]
    return ("" if answer.target in UNSPACED else " ").join([word for word in words if not _is_latin(word)] or words)


def _is_latin(word: str) -> bool:
    return all(unicodedata.name(sign, "").startswith("LATIN") for sign in word if sign.isalpha())


def _letters(text: str) -> int:
    """Counts the letters of a text, a wide letter as three."""
    return sum(_LETTERS_OF_A_WIDE_ONE if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text if sign.isalpha())
