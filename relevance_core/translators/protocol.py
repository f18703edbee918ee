"""What a translator is, and where one runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from relevance_core.config import EngineSettings, ServingSettings
from relevance_core.errors import SettingsError
from relevance_core.languages import named


class Machine(NamedTuple):
    """Where translators run: the servers of translation models with their key, and this machine's device and threads.

    It decides no answer, so it is no part of a translator's version, and is not kept with one.
    """

    serving: ServingSettings = ServingSettings()
    engine: EngineSettings = EngineSettings()


HERE: Final = Machine()
"""This machine as the settings' defaults have it: without a server."""


class Translated(NamedTuple):
    """A translation, and how much of it the translator could not do.

    words: words of the source (characters, in a language of UNSPACED), without the numbers, units and brands that stay as they are;
    untranslated_words: those of them that were left as they were.
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
        """A digest of all that decides its answers."""
        ...

    @property
    def batch(self) -> int:
        """Texts after which the translation memory keeps what was answered: few where an answer is dear."""
        ...

    @property
    def languages(self) -> frozenset[str]:
        """The languages that it translates from or into."""
        ...

    def can(self, source: str, target: str) -> bool:
        """Whether it translates from `source` into `target`."""
        ...

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Translated]:
        """One answer a text, in their order. Raises a RelevanceError for a pair of languages that it can't do, before any work."""
        ...


def require(translator: Translator, source: str, target: str) -> None:
    """Raises SettingsError for a pair of languages that the translator can't do."""
    if not translator.can(source, target):
        raise SettingsError(
            f"{translator.name} can't translate {named(source)} ({source}) into {named(target)} ({target})",
            where="translate.translator",
            expected=f"two of {', '.join(sorted(translator.languages))}",
            do="add a translator that can to translate.translator, or leave the language out",
        )
