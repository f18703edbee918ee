"""The languages that a log may carry: their names for people, their codes for translation models.

Imports nothing heavy, so that a DAG file can label its choices with them.
"""

from typing import Final, Literal, NamedTuple

Family = Literal["seed-x", "nllb", "m2m100", "madlad"]


class Language(NamedTuple):
    """A language: its English name, and its code in FLORES-200, which NLLB uses."""

    name: str
    flores: str


TABLE: Final = {
    "ar": Language("Arabic", "arb_Arab"),
    "de": Language("German", "deu_Latn"),
    "en": Language("English", "eng_Latn"),
    "es": Language("Spanish", "spa_Latn"),
    "fr": Language("French", "fra_Latn"),
    "id": Language("Indonesian", "ind_Latn"),
    "it": Language("Italian", "ita_Latn"),
    "ja": Language("Japanese", "jpn_Jpan"),
    "ko": Language("Korean", "kor_Hang"),
    "nl": Language("Dutch", "nld_Latn"),
    "pl": Language("Polish", "pol_Latn"),
    "pt": Language("Portuguese", "por_Latn"),
    "sv": Language("Swedish", "swe_Latn"),
    "th": Language("Thai", "tha_Thai"),
    "tr": Language("Turkish", "tur_Latn"),
    "vi": Language("Vietnamese", "vie_Latn"),
    "zh": Language("Chinese", "zho_Hans"),
}
"""ISO 639-1 code → language. Every family knows each of them; Seed-X, M2M100 and MADLAD derive their codes from ISO 639-1."""

LANGUAGES: Final = {code: language.name for code, language in TABLE.items()}
"""ISO 639-1 code → English name."""

_OF_ISO: Final[dict[Family, str]] = {"seed-x": "<{}>", "m2m100": "__{}__", "madlad": "<2{}>"}


def named(language: str) -> str:
    """Returns a language's English name, or the code itself where the table lacks it."""
    return LANGUAGES.get(language, language)


def token_of(language: str, family: Family) -> str:
    """Returns the token that makes a model of the family write the language. Raises KeyError for a language outside the table."""
    known = TABLE[language]
    return known.flores if family == "nllb" else _OF_ISO[family].format(language)
