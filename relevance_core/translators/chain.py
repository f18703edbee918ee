"""A chain of translators, each of which gets the texts that the one before it could not translate."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

from relevance_core.pairs import normalise
from relevance_core.translators.protocol import Translated, Translator, require
from relevance_core.translators.words import Keepsakes

Ask = Callable[[Translator, Sequence[str]], Sequence[Translated]]
"""Returns the translations of texts by one translator, in their order."""


@dataclass(frozen=True)
class Chain:
    """Asks its translators in turn.

    How it works. An answer is accepted if at most `max_untranslated` of its words, and not all of them, were left untranslated, and
    it has every number, unit and brand of the text: the glossary's brands apply to the models too. The next translator gets the
    texts without an accepted answer; a translator that does not know the pair of languages is skipped. Where no answer is accepted,
    the answer that lost nothing and left the fewest words is returned, for the guards of *translate* to judge.
    """

    parts: tuple[Translator, ...]
    max_untranslated: float
    brands: tuple[str, ...] = ()
    name: str = field(default="chain", init=False)
    batch: ClassVar[int] = sys.maxsize  # each of its translators stores its own answers as they come

    @cached_property
    def version(self) -> str:
        """12 hex digits over its translators in their order, the brands, and the limit of acceptance."""
        named = [f"{part.name}-{part.version}" for part in self.parts]
        return hashlib.sha256(json.dumps(["chain-1", named, self.max_untranslated, self.brands]).encode()).hexdigest()[:12]

    @property
    def languages(self) -> frozenset[str]:
        """The languages of all its translators together."""
        return frozenset[str]().union(*(part.languages for part in self.parts))

    def can(self, source: str, target: str) -> bool:
        """Tells whether a translator of the chain knows the pair."""
        return any(part.can(source, target) for part in self.parts)

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Translated]:
        """Returns one answer per text. Raises SettingsError for a pair that no translator knows, and its translators' errors."""
        return self.in_turn(texts, source, target, lambda part, asked: part.translate(asked, source, target))

    def in_turn(self, texts: Sequence[str], source: str, target: str, ask: Ask) -> list[Translated]:
        """Translates as `translate` does, with each translator's answers from `ask`, which may read them from the memory."""
        require(self, source, target)
        best: dict[int, Translated] = {}
        pending = list(range(len(texts)))
        for part in (part for part in self.parts if part.can(source, target)):
            if not pending:
                break
            answers = ask(part, [texts[place] for place in pending])
            for place, answer in zip(pending, answers, strict=True):
                worth = self._fault(texts[place], answer, source, target)
                if place not in best or worth < self._fault(texts[place], best[place], source, target):
                    best[place] = answer
            pending = [place for place in pending if not self._good(texts[place], best[place], source, target)]
        return [best[place] for place in range(len(texts))]

    @cached_property
    def _keepsakes(self) -> Keepsakes:
        return Keepsakes(self.brands)

    def _fault(self, text: str, answer: Translated, source: str, target: str) -> tuple[int, float]:
        """Returns how many numbers, units and brands the answer lost, and the share of words that it left untranslated."""
        lost = self._keepsakes.of(normalise(text), source) - self._keepsakes.of(answer.text, target)
        return lost.total(), answer.untranslated_words / answer.words if answer.words else 0.0

    def _good(self, text: str, answer: Translated, source: str, target: str) -> bool:
        lost, share = self._fault(text, answer, source, target)
        return not lost and share <= self.max_untranslated and share < 1
