"""The glossary of the simulated marketplace: its leaves' nouns and its lexicon as terms with a name in every language."""

from __future__ import annotations

from relevance_core.tools.simulator.leaves import LEAVES, Leaf
from relevance_core.tools.simulator.lexicon import (
    ADJECTIVES,
    AUDIENCES,
    ENGLISH_POSSESSIVES,
    FILLERS,
    LANGUAGES,
    MATERIALS,
    SIZE_WORDS,
    UNITS,
    adjective_forms,
)


def _audience_forms(name: str, language: str) -> tuple[str, ...]:
    possessive = (ENGLISH_POSSESSIVES[name],) if language == "en" else ()
    return tuple(dict.fromkeys((*(phrase.split()[-1] for phrase in AUDIENCES[name][language]), *possessive)))


def _noun_terms(leaf: Leaf) -> list[tuple[str, dict[str, tuple[str, ...]]]]:
    """Returns the leaf's nouns as two terms, singular and plural; a language without a form for one number uses the other's."""
    both = []
    for number, plural in (("one", False), ("many", True)):
        forms = {
            lang: tuple(noun.text for noun in nouns if noun.plural == plural) or tuple(noun.text for noun in nouns)
            for lang, nouns in leaf.nouns.items()
        }
        both.append((f"noun.{leaf.name.replace(' ', '-')}.{number}", forms))
    return both


def terms() -> list[tuple[str, str, str]]:
    """Returns the glossary: (term_id, language, name), the preferred name of a term in a language before its other forms.

    It holds every form that a query can contain apart from numbers, brands and typing errors: nouns with their synonyms (singular
    and plural are two terms), the inflected forms of colours, materials, audiences, units, and the words around them.
    """
    named = [term for leaf in LEAVES for term in _noun_terms(leaf)]
    named += [
        (f"{'word' if name == 'cheap' else 'colour'}.{name}", {lang: adjective_forms(name, lang) for lang in LANGUAGES})
        for name in ADJECTIVES
    ]
    listed = (("material", MATERIALS), ("unit", UNITS), ("word", FILLERS))
    named += [
        (f"{kind}.{name}", {lang: tuple(forms[lang].split("|")) for lang in LANGUAGES})
        for kind, table in listed
        for name, forms in table.items()
    ]
    named += [(f"audience.{name}", {lang: _audience_forms(name, lang) for lang in LANGUAGES}) for name in AUDIENCES]
    named.append(("unit.size", {lang: tuple(dict.fromkeys(SIZE_WORDS[lang])) for lang in LANGUAGES}))
    return [(term, lang, text) for term, forms in named for lang in LANGUAGES for text in forms[lang]]
