"""Language identification of short texts, by the letter statistics in the package `lingua-language-detector`.

The answer is a guess: two words in Latin letters are often possible in several languages, and a brand name is in none. The caller
decides from which probability it counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Final

from relevance_core.errors import SettingsError
from relevance_core.languages import LANGUAGES

if TYPE_CHECKING:
    from lingua import LanguageDetector

_BATCH: Final = 10_000  # an answer holds an object per language; a million answers would fill the memory


def identify(texts: Sequence[str], among: Sequence[str] = ()) -> list[tuple[str, float]]:
    """Returns each text's likeliest language (ISO 639-1) and its probability among the languages considered.

    A text without a letter of any of these languages gets ("", 0.0). Duplicates are identified once; all cores are used.

    Args:
        texts: texts in any form.
        among: codes to choose from; none: every known language. Fewer codes give surer answers.

    Raises:
        SettingsError: an unknown code, or fewer than two codes.
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
