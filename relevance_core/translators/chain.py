"""Several translators, the next of which takes what the one before could not do."""

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
"""Gets the translations of texts by one translator, in their order."""


@dataclass(frozen=True)
class Chain:
    """Asks its translators in turn.

    How it works. An answer is taken if at most `max_untranslated` of its words, and not all of them, were left as they were, and
    every number, unit and brand of the text is in it: what the glossary's brands say holds for the models too. The next translator
    gets the texts without such an answer, and all of those whose languages the one before does not know. Where none has one, the
    answer that lost nothing and left the fewest words stands, for the guards of *translate* to judge.
    """

    parts: tuple[Translator, ...]
    max_untranslated: float
    brands: tuple[str, ...] = ()
    name: str = field(default="chain", init=False)
    batch: ClassVar[int] = sys.maxsize  # each of its translators keeps its own answers as they come

    @cached_property
    def version(self) -> str:
        """12 hex digits of its translators in their order, the brands, and what is taken."""
        named = [f"{part.name}-{part.version}" for part in self.parts]
        return hashlib.sha256(json.dumps(["chain-1", named, self.max_untranslated, self.brands]).encode()).hexdigest()[:12]

    @property
    def languages(self) -> frozenset[str]:
        """Those of all its translators together."""
        return frozenset[str]().union(*(part.languages for part in self.parts))

    def can(self, source: str, target: str) -> bool:
        """Whether one of them can."""
        return any(part.can(source, target) for part in self.parts)

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[Translated]:
        """One answer a text. Raises SettingsError for a pair that none can do, and what its translators raise."""
        return self.in_turn(texts, source, target, lambda part, asked: part.translate(asked, source, target))

    def in_turn(self, texts: Sequence[str], source: str, target: str, ask: Ask) -> list[Translated]:
        """The same, with `ask` for the answers of each translator: the translation memory's way in."""
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
        """How many numbers, units and brands the answer lost, and the share of the words that it left."""
        lost = self._keepsakes.of(normalise(text), source) - self._keepsakes.of(answer.text, target)
        return lost.total(), answer.untranslated_words / answer.words if answer.words else 0.0

    def _good(self, text: str, answer: Translated, source: str, target: str) -> bool:
        lost, share = self._fault(text, answer, source, target)
        return not lost and share <= self.max_untranslated and share < 1
