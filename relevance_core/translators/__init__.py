"""Translators of queries: the glossary (the built-in default), translation models, and chains of them.

A translator has a `name`, a `version` (a digest of everything that decides its answers), `can` and `translate`. `save` keeps a
run's translator in the store, so that `open_translator` gives the same answers years later, wherever pairs are scored.
"""

from relevance_core.translators.chain import Chain
from relevance_core.translators.doubts import REASONS, Answer, doubts
from relevance_core.translators.endpoint import EndpointTranslator
from relevance_core.translators.english import English, add_english
from relevance_core.translators.glossary import GlossaryTranslator, Term, glossary_from, read_brands, read_terms
from relevance_core.translators.kept import open_translator, reference, save, translator_from
from relevance_core.translators.memory import count_remembered, memory_folder, translate_and_remember
from relevance_core.translators.protocol import Machine, Translated, Translator
from relevance_core.translators.seq2seq import Seq2SeqTranslator
from relevance_core.translators.words import UNITS, UNSPACED, Keepsakes, tokens

__all__ = [
    "REASONS",
    "UNITS",
    "UNSPACED",
    "Answer",
    "Chain",
    "EndpointTranslator",
    "English",
    "GlossaryTranslator",
    "Keepsakes",
    "Machine",
    "Seq2SeqTranslator",
    "Term",
    "Translated",
    "Translator",
    "add_english",
    "count_remembered",
    "doubts",
    "glossary_from",
    "memory_folder",
    "open_translator",
    "read_brands",
    "read_terms",
    "reference",
    "save",
    "tokens",
    "translate_and_remember",
    "translator_from",
]
