"""A version as a client needs it: its manifest, and pairs made into its own prompts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from relevance_core.config import ServingSettings
from relevance_core.errors import ModelError
from relevance_core.models.base_ref import BaseRef, answer_ids
from relevance_core.pairs import Task, normalise
from relevance_core.prompts import Prompt
from relevance_core.registry import Manifest, Registry
from relevance_core.registry.signing import Key
from relevance_core.scoring.published import base_of, prompt_of, translator_reference
from relevance_core.store import Store
from relevance_core.store.memory import Memory

if TYPE_CHECKING:
    from relevance_core.translators import Translator

_REMEMBERED: Final = 200_000


class Pair(NamedTuple):
    """What is to be judged. language: of the query, ISO 639-1. target: a category's path or an item's title, None for none."""

    language: str
    query: str
    target: str | None


@dataclass(frozen=True)
class Opened:
    """A version that is ready to make prompts. answers: the ids of yes and no in its base. For one thread at a time."""

    manifest: Manifest
    answers: tuple[int, int]
    tokenizer: Any
    prompt: Prompt
    english: English | None

    def encode(self, pairs: Iterable[Pair]) -> list[list[int]]:
        """The token ids of each pair's prompt: normalised, translated and cut as when the version was trained."""
        rows = [(pair.language.lower(), normalise(pair.query), normalise(pair.target or "")) for pair in pairs]
        english = self.english.of if self.english else _none
        task = self.manifest.task
        return self.prompt.encode(self.tokenizer, [(task, query, target, english(lang, query)) for lang, query, target in rows])


def open_version(store: Store, task: Task, version: str, key: Key | None, serving: ServingSettings | None = None) -> Opened:
    """Reads a version's manifest and loads its base's tokenizer and its translator.

    key: what the manifest must be signed with, None for nothing. serving: where the servers of its translation models
    are. Raises NotFound, RegistryError, ModelError, StoreError.
    """
    from relevance_core.translators import Machine, open_translator

    manifest = Registry(store).manifest(task, version, key)
    tokenizer = _tokenizer(base_of(store, manifest))
    info = manifest.prompt
    english = None
    if info.translation:
        english = English(open_translator(translator_reference(info), store, Machine(serving or ServingSettings())), store)
    return Opened(manifest, answer_ids(tokenizer), tokenizer, prompt_of(info), english)


def _tokenizer(base: BaseRef) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(base.source, revision=base.revision)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the tokenizer of the base {base.id} can't be loaded: {str(error).splitlines()[0]}",
            where=base.source,
            expected="a folder written by save_pretrained, or a Hugging Face id that is in the local cache",
            do=f"fetch it while online: hf download {base.source} --revision {base.revision} tokenizer.json tokenizer_config.json",
        ) from error


class English:
    """The English of queries one by one, the same as `translators.add_english` gives them in bulk.

    The version's translation memory is read once for each language, when its first query comes, and never written: what it lacks is
    translated here, and kept in this process.
    """

    def __init__(self, translator: Translator, store: Store) -> None:
        self._translator, self._store = translator, store
        self._known: dict[str, dict[str, str]] = {}

    def of(self, language: str, query: str) -> str | None:
        """The English of a normalised query; None for an English one and where the translator can't read the language."""
        if language == "en" or not self._translator.can(language, "en"):
            return None
        if language not in self._known:
            self._known[language] = self._memory(language)
        known = self._known[language]
        if query not in known:
            while len(known) >= _REMEMBERED:
                del known[next(iter(known))]
            known[query] = self._translator.translate([query], language, "en")[0].text
        return known[query]

    def _memory(self, language: str) -> dict[str, str]:
        name = f"{self._translator.name}-{self._translator.version}"
        rows = Memory(self._store, f"memory/{name}/{language}-en", "text").everything()
        return {} if rows is None else dict(zip(rows["text"].to_list(), rows["translation"].to_list(), strict=True))


def _none(language: str, query: str) -> None:
    """The English of a query for a version whose prompt has no place for it."""
