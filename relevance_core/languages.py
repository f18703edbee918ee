"""The languages that a log may carry, by name. Imports nothing, so that a DAG file can label its choices with them."""

from typing import Final

LANGUAGES: Final = {
    "ar": "Arabic",
    "de": "German",
    "en": "English",
    "es": "Spanish",
    "fr": "French",
    "id": "Indonesian",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "nl": "Dutch",
    "pl": "Polish",
    "pt": "Portuguese",
    "sv": "Swedish",
    "th": "Thai",
    "tr": "Turkish",
    "vi": "Vietnamese",
    "zh": "Chinese",
}
"""ISO 639-1 code → English name."""


def named(language: str) -> str:
    """The English name of a language, or the code itself where there is none."""
    return LANGUAGES.get(language, language)
