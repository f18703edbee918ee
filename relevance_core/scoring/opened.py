"""A version or a candidate, ready to score: the one module that resolves base, dtype, prompt, tokenizer, adapter and translator.

*evaluate*, the champion that judges candidates, a rollout, a server, a client, golden pairs and the ablation all open versions
here, so that a version is scored identically everywhere. A client works without torch: only `scorer` loads it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from relevance_core.config import Settings
from relevance_core.errors import ModelError
from relevance_core.machine import scratch
from relevance_core.models.base_ref import BaseRef, answer_ids
from relevance_core.models.folders import local_folder
from relevance_core.pairs import normalised
from relevance_core.prompts import Prompt, prompt_from
from relevance_core.registry import Manifest, PromptInfo, Registry, golden
from relevance_core.registry.golden import Golden
from relevance_core.runs.artifacts import Artifact
from relevance_core.scoring.bases import base_of, compare, open_base
from relevance_core.store import Store
from relevance_core.translators import Machine, Translator, add_english, open_translator, reference

if TYPE_CHECKING:
    from relevance_core.scoring.scorer import Scorer
    from relevance_core.scoring.vllm_scorer import VllmScorer

TEXT: Final = ("task", "query", "target", "english")
"""The columns that a scorer reads."""


@dataclass(frozen=True)
class Opened:
    """A version or a candidate, ready to score.

    Attributes:
        name: the version's name; for a candidate, the base's.
        base: in the dtype to score in.
        adapter: returns the adapter's folder, fetching it if need be.
        english: returns the translator of the queries; None where the prompt shows no English or the rows bring it along.
        digest: of the base's files; "" where none was recorded.
    """

    name: str
    base: BaseRef
    prompt: Prompt
    adapter: Callable[[], Path]
    machine: Machine
    english: Callable[[], Translator] | None = None
    store: Store | None = None
    digest: str = ""

    @cached_property
    def translator(self) -> Translator | None:
        """The translator of the queries into English. Raises NotFound when it is gone."""
        return self.english() if self.english else None

    @cached_property
    def tokenizer(self) -> Any:
        """The base's tokenizer. Raises ModelError if it can't be loaded."""
        from transformers import AutoTokenizer

        base = self.base
        files = f"{base.source} --revision {base.revision} tokenizer.json tokenizer_config.json"
        try:
            return AutoTokenizer.from_pretrained(base.source, revision=base.revision)
        except (OSError, ValueError) as error:
            raise ModelError(
                f"the tokenizer of the base {base.id} can't be loaded: {str(error).splitlines()[0]}",
                where=base.source,
                expected="a folder written by save_pretrained, or a Hugging Face id that is in the local cache",
                do=f"fetch it while online: hf download {files}",
            ) from error

    @property
    def answers(self) -> tuple[int, int]:
        """The token ids of yes and no."""
        return answer_ids(self.tokenizer)

    @cached_property
    def scorer(self) -> Scorer | VllmScorer:
        """The engine that `engine.scorer` names, with base and adapter loaded.

        Raises ModelError for a base or an adapter that can't be loaded, SettingsError for scorer vllm without vLLM.
        """
        if self.digest:  # loading would download a missing base without comparing its digest
            self.local_base()
        if self.machine.engine.scorer == "vllm":
            from relevance_core.machine import require_python
            from relevance_core.scoring.vllm_scorer import VllmScorer

            return VllmScorer(self.base, self.adapter(), self.prompt, require_python(self.machine.serving))
        from relevance_core.scoring.scorer import Scorer

        base = self.base
        return Scorer(base.source, self.adapter(), self.prompt, self.machine.engine, revision=base.revision, dtype=base.dtype)

    def score(self, rows: pl.DataFrame) -> pl.Series:
        """p(yes) of each row (`task`, `language`, `query`, `target`), its English made here; `english` in the rows is not read."""
        rows = rows.with_columns(normalised(rows[name], self.prompt.text_rule) for name in ("query", "target"))
        texts = add_english(rows, self.translator, self.store) if self.store else rows
        return pl.Series(self.scorer.score(texts.select(TEXT).iter_rows()), dtype=pl.Float64)

    def local_base(self) -> Path:
        """Returns the base's folder on this machine. Raises ModelError when it is missing."""
        return local_folder(self.base.source, self.base.revision, self.name).absolute()

    def require_tokenizer(self, pairs: Golden | None) -> None:
        """Raises ModelError when the tokenizer gives the golden texts other token ids than at training time."""
        if pairs is None or not pairs.texts:
            return
        found = self.prompt.encode(self.tokenizer, pairs.texts)
        differing = [place for place, ids in enumerate(found) if tuple(ids) != pairs.prompts[place]]
        if not differing and self.answers == pairs.answers:
            return
        told = f"golden pair {differing[0]} ({len(differing)} of {len(found)} differ)" if differing else "the answers"
        raise ModelError(
            f"the tokenizer of {self.base.id} makes other tokens of {told} than where {self.name} was trained",
            where=self.base.source,
            expected="the tokenizer that the adapter was trained with",
            do="bring the base's own tokenizer.json and tokenizer_config.json back",
        )


def open_adapter(base: BaseRef, adapter: Path, prompt: Prompt, machine: Machine) -> Opened:
    """Opens an adapter in a folder on an opened base, for rows that bring their English along."""
    return Opened(base.id, base, prompt, lambda: adapter, machine)


def open_candidate(settings: Settings, base: Artifact, train: Artifact) -> Opened:
    """Opens the output of a finished *train*, in the dtype of its training, for rows that bring their English along.

    base: the output of *base* that it was trained on. Raises the errors of `open_base`, and ModelError for another tokenizer.
    """
    adapter = train.folder("adapter")
    opened = open_adapter(open_base(base, train.json("training")["dtype"]), adapter, prompt_from(settings), machine_of(settings))
    opened.require_tokenizer(golden.read(adapter))
    return opened


def open_version(store: Store, version: Manifest, machine: Machine) -> Opened:
    """Opens a published version; one whose manifest predates dtype is opened in the device's default dtype.

    Raises RegistryError for a version that requires a feature unknown to this release or has damaged golden pairs, NotFound when
    its base is gone, ModelError when this machine's base differs from that of its training in tokenizer or files.
    """
    version.require_scorable()
    registry, info = Registry(store), version.prompt
    base = base_of(store, version)

    def translator() -> Translator:
        return open_translator(translator_reference(info), store, machine)

    def adapter() -> Path:
        return registry.fetch(version.task, version.version, scratch("cache") / "adapters" / version.version)

    english = translator if info.translation else None
    opened = Opened(version.name, base, prompt_of(info), adapter, machine, english, store, version.base_digest)
    if not compare(base, version.base_digest):  # the digest covers the tokenizer, which takes seconds to load
        opened.require_tokenizer(golden.find(registry, version))
    return opened


def machine_of(settings: Settings) -> Machine:
    """Returns the machine of these settings: its servers, devices and engines."""
    return Machine(settings.serving, settings.engine)


def trainers(settings: Settings) -> Machine:
    """Returns the machine of these settings with the trainer's own scorer, which computes golden pairs."""
    return Machine(settings.serving, settings.engine.model_copy(update={"scorer": "transformers"}))


def prompt_of(info: PromptInfo) -> Prompt:
    """Returns the prompt that a manifest records."""
    return Prompt.from_json(
        {
            "template": info.name,
            "version": int(info.version),
            "translation": info.translation,
            "max_tokens": info.max_tokens,
            "text_rule": info.text_rule,
        }
    )


def translator_reference(info: PromptInfo) -> dict[str, str]:
    """Returns the reference for `open_translator`, from the `name-version` that a manifest records."""
    name, _, version = info.translator.rpartition("-")
    return reference(name, version)


def dtype_of(versions: Sequence[Manifest]) -> str | None:
    """Returns the dtype in which a server answers for all these versions: float32 if any has it, None if no manifest has one."""
    stated = {version.dtype for version in versions if version.dtype}
    return "float32" if "float32" in stated else next(iter(stated), None)
