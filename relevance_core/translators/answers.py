"""Parsing of a model's output as a translation."""

from __future__ import annotations

import re
from typing import Final

from relevance_core.pairs import normalise
from relevance_core.translators.protocol import Translated
from relevance_core.translators.words import stays, tokens

_TAG: Final = re.compile(r"<(?:2?[a-z]{2,3}|/?s|unk|pad)>")


def read(output: str, text: str, source: str, *, whole: bool = True) -> Translated:
    """Parses the translation of a normalised text from a model's output.

    The translation is the output's first line without the models' tags, in lower case if the text has no capitals. An empty output,
    a copy of the text, and an output that hit the length limit (usually an endless repetition) leave the text as it was, with all
    of its words counted as untranslated.

    Args:
        output: written by the model.
        text: the normalised source text.
        source: its language.
        whole: the output ended before the length limit.
    """
    lines = [line for line in (normalise(_TAG.sub(" ", line)) for line in output.splitlines()) if line]
    said = lines[0] if lines and whole else ""
    words = [word for word, _, _ in tokens(text, source)]
    count = sum(not stays(words, n) for n in range(len(words)))
    if not said or said.casefold() == text.casefold():
        return Translated(text, count, count)
    return Translated(said.lower() if text == text.lower() else said, 0, count)
