"""A version for a client: its manifest, and the prompts that it makes of pairs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from relevance_core.config import ServingSettings
from relevance_core.pairs import Task, normalise
from relevance_core.registry import Manifest, Registry
from relevance_core.registry.signing import Key
from relevance_core.scoring.opened import Opened, open_version
from relevance_core.store import Store
from relevance_core.translators import English, Machine


class Pair(NamedTuple):
    """A pair to judge. language: of the query, ISO 639-1. target: a category's path or an item's title, None for none."""

    language: str
    query: str
    target: str | None


@dataclass(frozen=True)
class Prompts:
    """A version, ready to make prompts, for one thread at a time. english: translates queries, if the prompt has a place for it."""

    manifest: Manifest
    opened: Opened
    english: English | None

    @property
    def answers(self) -> tuple[int, int]:
        """The token ids of yes and no in its base."""
        return self.opened.answers

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of its base."""
        return self.opened.tokenizer

    def encode(self, pairs: Iterable[Pair]) -> list[list[int]]:
        """Returns the token ids of each pair's prompt: normalised, translated and cut as when the version was trained."""
        rule = self.opened.prompt.text_rule
        rows = [(pair.language.lower(), normalise(pair.query, rule), normalise(pair.target or "", rule)) for pair in pairs]
        english = self.english.of if self.english else _none
        texts = [(self.manifest.task, query, target, english(language, query)) for language, query, target in rows]
        return self.opened.prompt.encode(self.opened.tokenizer, texts)


def open_prompts(store: Store, task: Task, version: str, key: Key | None, serving: ServingSettings | None = None) -> Prompts:
    """Reads a version's manifest and loads its base's tokenizer and its translator.

    Args:
        store: holds the registry.
        task: QC or QI.
        version: the version's id.
        key: the key that the manifest must be signed with; None checks no signature.
        serving: has the servers of its translation models.

    Raises:
        NotFound: there is no such version.
        RegistryError: the manifest is damaged, unsigned or requires an unknown feature.
        ModelError: base or translator can't be opened on this machine.
        StoreError: the store can't be read.
    """
    manifest = Registry(store).manifest(task, version, key)
    opened = open_version(store, manifest, Machine(serving or ServingSettings()))
    return Prompts(manifest, opened, English(opened.translator, store) if opened.translator else None)


def _none(language: str, query: str) -> None:
    """Returns no English, for a version whose prompt has no place for it."""
