"""The interface of translators, and the machine that they run on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from relevance_core.config import EngineSettings, ServingSettings
from relevance_core.errors import SettingsError
from relevance_core.languages import named


class Machine(NamedTuple):
    """The servers of translation models with their key, and this machine's device and threads.

    None of it changes an answer, so it is no part of a translator's version, and is not stored with a translator.
    """

    serving: ServingSettings = ServingSettings()
    engine: EngineSettings = EngineSettings()


HERE: Final = Machine()
"""This machine under default settings: without a server."""


class Translated(NamedTuple):
    """A translation, and the part of it that the translator left untranslated.

    words: number of words in the source (characters, in a language of UNSPACED), without the numbers, units and brands that stay;
    untranslated_words: number of those that were left as they were.
    """

    text: str
    untranslated_words: int
    words: int


class Translator(Protocol):
    """Translates texts between two languages (ISO 639-1 codes); the same text and version give the same answer."""

    @property
    def name(self) -> str:
        """The kind of translator."""
        ...

    @property
    def version(self) -> str:
        """A digest of everything that decides its answers."""
        ...

    @property
    def batch(self) -> int:
        """Number of texts after which the translation memory stores the answers: small where an answer is expensive."""
        ...

    @property
    def languages(self) -> frozenset[str]:
        """The languages that it translates from or into."""
        ...

    def can(self, source: str, target: str) -> bool:
        """Tells whether it translates from `source` into `target`."""
        ...

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Translated]:
        """Returns one answer per text, in order. Raises a RelevanceError for an unsupported pair of languages, before any work."""
        ...


def require(translator: Translator, source: str, target: str) -> None:
    """Raises SettingsError for a pair of languages that the translator does not support."""
    if not translator.can(source, target):
        raise SettingsError(
            f"{translator.name} can't translate {named(source)} ({source}) into {named(target)} ({target})",
            where="translate.translator",
            expected=f"two of {', '.join(sorted(translator.languages))}",
            do="add a translator that can to translate.translator, or leave the language out",
        )
