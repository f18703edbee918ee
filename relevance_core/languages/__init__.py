"""The languages that a log may carry, and how people and translation models call them.

Imports nothing heavy, so that a DAG file can label its choices with them.
"""

from typing import Final, Literal, NamedTuple

Family = Literal["seed-x", "nllb", "m2m100", "madlad"]
Keyboard = Literal["qwerty", "azerty", "qwertz", "arabic", "dubeolsik"]


class Language(NamedTuple):
    """A language: its English name, its code in FLORES-200, which NLLB uses, and the keyboard that it is typed on letter by letter.

    keyboard: None where what is typed is not what is seen (Japanese and Chinese, converted from a reading) or where the layout's
    neighbours are not kept here (Thai).
    """

    name: str
    flores: str
    keyboard: Keyboard | None = "qwerty"


TABLE: Final = {
    "ar": Language("Arabic", "arb_Arab", "arabic"),
    "de": Language("German", "deu_Latn", "qwertz"),
    "en": Language("English", "eng_Latn"),
    "es": Language("Spanish", "spa_Latn"),
    "fr": Language("French", "fra_Latn", "azerty"),
    "id": Language("Indonesian", "ind_Latn"),
    "it": Language("Italian", "ita_Latn"),
    "ja": Language("Japanese", "jpn_Jpan", None),
    "ko": Language("Korean", "kor_Hang", "dubeolsik"),
    "nl": Language("Dutch", "nld_Latn"),
    "pl": Language("Polish", "pol_Latn"),
    "pt": Language("Portuguese", "por_Latn"),
    "sv": Language("Swedish", "swe_Latn"),
    "th": Language("Thai", "tha_Thai", None),
    "tr": Language("Turkish", "tur_Latn"),
    "vi": Language("Vietnamese", "vie_Latn"),
    "zh": Language("Chinese", "zho_Hans", None),
}
"""ISO 639-1 code → language. Every family knows each of them; Seed-X, M2M100 and MADLAD make their codes of ISO 639-1's."""

LANGUAGES: Final = {code: language.name for code, language in TABLE.items()}
"""ISO 639-1 code → English name."""

_OF_ISO: Final[dict[Family, str]] = {"seed-x": "<{}>", "m2m100": "__{}__", "madlad": "<2{}>"}


def named(language: str) -> str:
    """The English name of a language, or the code itself where there is none."""
    return LANGUAGES.get(language, language)


def token_of(language: str, family: Family) -> str:
    """The token that tells a model of the family to write the language. KeyError for a language that is not in the table."""
    known = TABLE[language]
    return known.flores if family == "nllb" else _OF_ISO[family].format(language)
