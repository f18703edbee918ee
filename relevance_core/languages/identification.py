"""Which language a short text is written in, by statistics of letters that ship with the package `lingua-language-detector`.

A guess among languages, never a fact: two words in Latin letters are often possible in several languages, and a brand name is in
none. From which probability on it counts is the caller's decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Final

from relevance_core.errors import SettingsError
from relevance_core.languages import LANGUAGES

if TYPE_CHECKING:
    from lingua import LanguageDetector

_BATCH: Final = 10_000  # an answer holds an object for every language; those of a million texts would fill the memory


def identify(texts: Sequence[str], among: Sequence[str] = ()) -> list[tuple[str, float]]:
    """The likeliest language of each text, as an ISO 639-1 code, and its probability among those that were considered.

    among: the codes that are possible (none: every known language); the fewer, the surer. ("", 0.0) for a text without a letter
    that one of them is written in. Each distinct text is looked at once, on all cores. Raises SettingsError for a code that is
    unknown, and for fewer than two.
    """
    distinct = list(dict.fromkeys(texts))
    detector = _detector(tuple(sorted(set(among or LANGUAGES))))
    named: dict[str, tuple[str, float]] = {}
    for start in range(0, len(distinct), _BATCH):
        batch = distinct[start : start + _BATCH]
        for text, (best, *_) in zip(batch, detector.compute_language_confidence_values_in_parallel(batch), strict=True):
            named[text] = (best.language.iso_code_639_1.name.lower(), best.value) if best.value else ("", 0.0)
    return [named[text] for text in texts]


@cache
def _detector(codes: tuple[str, ...]) -> LanguageDetector:
    from lingua import IsoCode639_1, LanguageDetectorBuilder

    try:
        if len(codes) < 2:
            raise ValueError("there is nothing to choose from")
        return LanguageDetectorBuilder.from_iso_codes_639_1(*(IsoCode639_1.from_str(code.upper()) for code in codes)).build()
    except ValueError as error:
        raise SettingsError(
            f"languages can't be told apart among {', '.join(codes)}: {error}", expected="two or more ISO 639-1 codes"
        ) from error
