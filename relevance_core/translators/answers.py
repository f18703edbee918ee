"""What a model wrote, read as a translation."""

from __future__ import annotations

import re
from typing import Final

from relevance_core.pairs import normalise
from relevance_core.translators.protocol import Translated
from relevance_core.translators.words import stays, tokens

_TAG: Final = re.compile(r"<(?:2?[a-z]{2,3}|/?s|unk|pad)>")


def read(output: str, text: str, source: str, *, whole: bool = True) -> Translated:
    """The translation of a normalised `text` of the language `source` that a model's `output` holds.

    It is the first line, without the models' tags; one of a text without capitals gets none, as shoppers type. Nothing, a copy of
    the text, and an output that was cut at its longest (not `whole`: most go round in circles) leave the text as it was, with all
    of its words untranslated.
    """
    lines = [line for line in (normalise(_TAG.sub(" ", line)) for line in output.splitlines()) if line]
    said = lines[0] if lines and whole else ""
    words = [word for word, _, _ in tokens(text, source)]
    count = sum(not stays(words, n) for n in range(len(words)))
    if not said or said.casefold() == text.casefold():
        return Translated(text, count, count)
    return Translated(said.lower() if text == text.lower() else said, 0, count)
