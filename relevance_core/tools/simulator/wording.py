"""Wording of the simulated marketplace: queries in each language, and item titles in English.

A need and an item are the same six features; a feature that a need leaves open is -1. The words come from leaves and lexicon,
their order from the language: adjectives that agree, the material with its preposition, the audience with its own.
"""

from __future__ import annotations

from random import Random
from typing import Final, NamedTuple

from relevance_core.tools.simulator.leaves import LEAVES, Leaf, Noun
from relevance_core.tools.simulator.lexicon import (
    AUDIENCES,
    BRANDS,
    COLOURS,
    ENGLISH_POSSESSIVES,
    FILLERS,
    MATERIAL_PREPOSITION,
    MATERIALS,
    SIZE_UNITS,
    UNITS,
    adjective,
    adjective_forms,
    size_word,
)

MATERIAL_NAMES: Final = tuple(MATERIALS)
AUDIENCE_NAMES: Final = tuple(AUDIENCES)
UNSTATED: Final = -1

_CHEAP, _SALE = 0.06, 0.04


class Features(NamedTuple):
    """The features of an item, or those that a query asks for; -1 for an unstated one.

    `leaf`, `brand`, `colour`, `material` and `audience` are positions in LEAVES, BRANDS, COLOURS, MATERIAL_NAMES and
    AUDIENCE_NAMES; `size` is the number itself, in the unit of the leaf.
    """

    leaf: int
    brand: int = UNSTATED
    colour: int = UNSTATED
    material: int = UNSTATED
    audience: int = UNSTATED
    size: int = UNSTATED


def query_text(need: Features, language: str, rng: Random) -> str:
    """Phrases the need as somebody types it in that language: lower case, no punctuation, one of its usual orders."""
    noun = rng.choice(LEAVES[need.leaf].nouns[language])
    order = {"en": _english, "de": _german}.get(language, _romance)
    words = order(need, language, noun, rng)
    if need.brand != UNSTATED:
        words.insert(0 if rng.random() < 0.6 else len(words), BRANDS[need.brand])
    if rng.random() < _SALE:
        words.append(FILLERS["sale"][language])
    return " ".join(words)


def item_title(item: Features, rng: Random) -> str:
    """Phrases the item's English title: every feature that it has, in one of three orders."""
    noun = _title_noun(LEAVES[item.leaf], rng)
    colour = [COLOURS[item.colour]] if item.colour != UNSTATED else []
    material = [_forms(MATERIALS, MATERIAL_NAMES[item.material], "en")[0]] if item.material != UNSTATED else []
    audience = AUDIENCE_NAMES[item.audience] if item.audience != UNSTATED else ""
    suffix = [AUDIENCES[audience]["en"][0]] if audience else []
    size = [_size(item, "en")] if item.size != UNSTATED else []
    order = rng.randrange(3)
    if order == 0:
        parts = [[*([ENGLISH_POSSESSIVES[audience]] if audience else []), *colour, *material, noun], size]
    elif order == 1:
        parts = [[*colour, *material, noun, *suffix], size]
    else:
        parts = [[noun, *suffix], material, colour, size]
    body = ", ".join(" ".join(part) for part in parts if part)
    return f"{BRANDS[item.brand].capitalize()} {body}" if item.brand != UNSTATED else body[:1].upper() + body[1:]


def typo(text: str, rng: Random) -> str:
    """Swaps two neighbouring letters of `text`, or drops one, in a word of five letters or more, if it has one.

    The first letter of a word stays, as it does in most typing errors.
    """
    words = text.split(" ")
    long = [n for n, word in enumerate(words) if len(word) >= 5 and word.isalpha()]
    if not long:
        return text
    which = rng.choice(long)
    word = words[which]
    at = rng.randrange(1, len(word) - 1)
    swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    words[which] = swapped if rng.random() < 0.5 and swapped != word else word[:at] + word[at + 1 :]
    return " ".join(words)


def _forms(table: dict[str, dict[str, str]], name: str, language: str) -> list[str]:
    return table[name][language].split("|")


def _title_noun(leaf: Leaf, rng: Random) -> str:
    nouns = leaf.nouns["en"]
    return (nouns[0] if rng.random() < 0.5 else rng.choice(nouns)).text


def _size(need: Features, language: str, *, before_noun: bool = False) -> str:
    unit = LEAVES[need.leaf].unit
    if unit in SIZE_UNITS:
        return f"{size_word(unit, language)} {need.size}"
    forms = _forms(UNITS, unit, language)
    return f"{need.size} {forms[-1] if before_noun else forms[0]}"


def _material(need: Features, language: str, rng: Random) -> list[str]:
    if need.material == UNSTATED:
        return []
    form = rng.choice(_forms(MATERIALS, MATERIAL_NAMES[need.material], language))
    return [form] if language == "en" else [MATERIAL_PREPOSITION[language], form]


def _audience(need: Features, language: str, rng: Random) -> list[str]:
    return [rng.choice(AUDIENCES[AUDIENCE_NAMES[need.audience]][language])] if need.audience != UNSTATED else []


def _english(need: Features, language: str, noun: Noun, rng: Random) -> list[str]:
    colour = [rng.choice(adjective_forms(COLOURS[need.colour], language))] if need.colour != UNSTATED else []
    before = [*colour, *_material(need, language, rng)]
    after: list[str] = []
    if need.audience != UNSTATED and rng.random() < 0.4:
        before.insert(0, ENGLISH_POSSESSIVES[AUDIENCE_NAMES[need.audience]])
    else:
        after += _audience(need, language, rng)
    if need.size != UNSTATED:
        if LEAVES[need.leaf].unit not in SIZE_UNITS and rng.random() < 0.5:
            before.insert(0, _size(need, language, before_noun=True))
        else:
            after.append(_size(need, language))
    cheap = ["cheap"] if rng.random() < _CHEAP else []
    return [*cheap, *before, noun.text, *after]


def _romance(need: Features, language: str, noun: Noun, rng: Random) -> list[str]:
    colour = [adjective(COLOURS[need.colour], language, noun.agreement)] if need.colour != UNSTATED else []
    material = _material(need, language, rng)
    cheap = [adjective("cheap", language, noun.agreement)] if rng.random() < _CHEAP else []
    described = [*colour, *material] if rng.random() < 0.7 else [*material, *colour]
    size = [_size(need, language)] if need.size != UNSTATED else []
    return [noun.text, *described, *cheap, *_audience(need, language, rng), *size]


def _german(need: Features, language: str, noun: Noun, rng: Random) -> list[str]:
    before, after = [], _material(need, language, rng)
    names = (["cheap"] if rng.random() < _CHEAP else []) + ([COLOURS[need.colour]] if need.colour != UNSTATED else [])
    if rng.random() < 0.6:
        before = [adjective(name, language, noun.agreement) for name in names]
    else:
        after = [*(adjective_forms(name, language)[0] for name in reversed(names)), *after]
    size = [_size(need, language)] if need.size != UNSTATED else []
    return [*before, noun.text, *after, *_audience(need, language, rng), *size]
