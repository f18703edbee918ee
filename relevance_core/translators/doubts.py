"""What speaks against a translation in its own text: a lost model name, a copy, a repetition, another language.

Each guard looks at form alone, in doubt for the translation: what is short, a brand, or common to both texts is no evidence.
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
"""Guard → the reason in the ledger, in the order in which they are asked."""

_LONGEST_PHRASE: Final = 8
_TURNS: Final = 3
_LOOP: Final = re.compile(r"([^\W\d_]{1,4}?)\1{4,}")
"""One to four letters, five times or more without a space between."""

_FEWEST_LETTERS: Final = 10
_LETTERS_OF_A_WIDE_ONE: Final = 3


class Answer(NamedTuple):
    """A text and what a translator said for it, both normalised."""

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
    """The (reason, detail) of the first guard that each answer does not pass; None for one that passes all of `guards`.

    detail: the model name that was lost, the phrase that is repeated, the language and its probability; else empty. brands: names
    that are no word of a language. translator: whose glossary, if it has one, may know that both languages call a thing the same.
    confidence: the probability from which a text is in another language.
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
    """A word of letters and digits (`a52`, `xm4`) that the answer lacks, also written apart. Those that begin with a digit are
    numbers, which another guard looks for."""
    said = "".join(phrase_of(answer.said, answer.target))
    names = [word for word in phrase_of(answer.text, answer.source) if _is_model(word)]
    return next((name for name in names if name not in said), None)


def _is_model(word: str) -> bool:
    return not word[0].isdigit() and any(sign.isdigit() for sign in word) and any(sign.isalpha() for sign in word)


def _copies(answers: Sequence[Answer], keep: Keepsakes, glossary: GlossaryTranslator | None) -> list[str | None]:
    """Empty for an answer with the words of its source, in whatever order, case and accents, unless the glossary has just these."""
    return ["" if _is_copy(answer, keep) and not _vouched(answer, keep, glossary) else None for answer in answers]


def _is_copy(answer: Answer, keep: Keepsakes) -> bool:
    # Both are read as the source: a copy of a text without spaces has to fall into the same words.
    asked, said = (Counter(map(_folded, keep.others(text, answer.source))) for text in (answer.text, answer.said))
    return bool(asked) and asked == said


def _vouched(answer: Answer, keep: Keepsakes, glossary: GlossaryTranslator | None) -> bool:
    """Whether the glossary knows every word, and calls it the same in both languages."""
    own = _by_glossary(answer, glossary)
    return own is not None and _is_copy(answer._replace(said=own), keep)


def _of_glossary(answer: Answer, glossary: GlossaryTranslator | None) -> bool:
    own = _by_glossary(answer, glossary)
    return own is not None and own.casefold() == answer.said.casefold()


def _by_glossary(answer: Answer, glossary: GlossaryTranslator | None) -> str | None:
    """What the glossary says for the text; None where it does not know both languages and every word."""
    if glossary is None or not glossary.can(answer.source, answer.target):
        return None
    (own,) = glossary.translate([answer.text], answer.source, answer.target)
    return None if own.untranslated_words else own.text


def _glossary_of(translator: Translator | None) -> GlossaryTranslator | None:
    parts = translator.parts if isinstance(translator, Chain) else (translator,)
    return next((part for part in parts if isinstance(part, GlossaryTranslator)), None)


def _folded(word: str) -> str:
    """The word without accents."""
    return "".join(sign for sign in unicodedata.normalize("NFKD", word.casefold()) if not unicodedata.combining(sign))


def _repeated(answer: Answer) -> str | None:
    """What the answer says three times on end, and its source less often: a model that goes round in circles.

    A phrase of up to eight words; in a script without spaces, of two to eight characters. And one to four letters, five times.
    """
    phrase, turns = _turns(phrase_of(answer.said, answer.target), answer.target)
    if turns >= _TURNS and turns > _turns(phrase_of(answer.text, answer.source), answer.source)[1]:
        return phrase
    loop = _LOOP.search(answer.said.casefold())
    return loop[1] if loop and not _LOOP.search(answer.text.casefold()) else None


def _turns(words: Sequence[str], language: str) -> tuple[str, int]:
    """The phrase that stands most often directly behind itself, and how often it stands there, from 1."""
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
    """The language, with its probability, of the answers that are in another one than they should be.

    Asked is whether a text is in the target's language, the source's, or English, which models fall back to: the fewer languages,
    the surer. Only words that the translator chose count: neither numbers and brands nor what the source has too, ten letters of
    them at least (a character of Chinese, Japanese or Korean is three). A text in a script of none of the three is in another
    language for sure; one in a fourth language of the same script is not looked for. Chinese characters alone may be Japanese, and
    what the glossary says is a name of the language, whatever its letters look like.
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
    """What the answer says that its source does not; of two scripts the one that is not Latin, in which names stand as they are."""
    known = set(phrase_of(answer.text, answer.source))
    words = [word for word in keep.others(answer.said, answer.target) if word not in known]
    return ("" if answer.target in UNSPACED else " ").join([word for word in words if not _is_latin(word)] or words)


def _is_latin(word: str) -> bool:
    return all(unicodedata.name(sign, "").startswith("LATIN") for sign in word if sign.isalpha())


def _letters(text: str) -> int:
    """Letters of a text, a wide one counted as three."""
    return sum(_LETTERS_OF_A_WIDE_ONE if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text if sign.isalpha())
