"""A version or a candidate, ready to score: the one place that knows the base, dtype, prompt, tokenizer, adapter and translator.

*evaluate*, the champion that judges candidates, a rollout, a server, a client, golden pairs and the ablation come through here, so
that a version is scored in the same way wherever that happens. A client does without torch: only `scorer` loads it.
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
from relevance_core.models.base_ref import BaseRef, Dtype, answer_ids
from relevance_core.models.folders import local_folder
from relevance_core.prompts import Prompt, prompt_from
from relevance_core.registry import Manifest, PromptInfo, Registry, golden
from relevance_core.registry.golden import Golden
from relevance_core.runs.stage import Artifact, scratch
from relevance_core.scoring.bases import base_of, checked, open_base
from relevance_core.store import Store
from relevance_core.translators import Machine, Translator, add_english, open_translator

if TYPE_CHECKING:
    from relevance_core.scoring.scorer import Scorer
    from relevance_core.scoring.vllm_scorer import VllmScorer

TEXT: Final = ("task", "query", "target", "english")
"""The columns that a scorer reads."""


@dataclass(frozen=True)
class Opened:
    """What is ready to score.

    name: a version's, or the base's for a candidate. base: in the dtype to score in. adapter: gives the adapter's folder, fetched
    when it is asked for. english: gives the translator of the queries; None where the prompt has no place for the English or the
    rows bring it along. digest: of the base's files; "" where none was recorded.
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
        """The translator of the queries' English. Raises NotFound when it is gone."""
        return self.english() if self.english else None

    @cached_property
    def tokenizer(self) -> Any:
        """The base's tokenizer. Raises ModelError for one that can't be loaded."""
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
        """The ids of yes and no."""
        return answer_ids(self.tokenizer)

    @cached_property
    def scorer(self) -> Scorer | VllmScorer:
        """The engine that `engine.scorer` names, with base and adapter loaded.

        Raises ModelError for a base or an adapter that can't be loaded, SettingsError for vllm without vLLM.
        """
        if self.digest:  # a base that is not here would be fetched, and nobody would have compared it
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
        texts = add_english(rows, self.translator, self.store) if self.store else rows
        return pl.Series(self.scorer.score(texts.select(TEXT).iter_rows()), dtype=pl.Float64)

    def local_base(self) -> Path:
        """The base's folder on this machine. Raises ModelError when it is not here."""
        return local_folder(self.base.source, self.base.revision, self.name).absolute()

    def require_tokenizer(self, pairs: Golden | None) -> None:
        """Raises ModelError when the tokenizer makes other tokens of the golden texts than where the version was trained."""
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
    """An adapter in a folder on an opened base, for rows that bring their English along."""
    return Opened(base.id, base, prompt, lambda: adapter, machine)


def open_candidate(settings: Settings, base: Artifact, train: Artifact) -> Opened:
    """What a finished *train* left, in the dtype that it was trained in, for rows that bring their English along.

    base: the output of *base* that it was trained on. Raises what `open_base` does, and ModelError for another tokenizer.
    """
    adapter = train.folder("adapter")
    opened = open_adapter(open_base(base, train.json("training")["dtype"]), adapter, prompt_from(settings), machine_of(settings))
    opened.require_tokenizer(golden.read(adapter))
    return opened


def open_version(store: Store, version: Manifest, machine: Machine) -> Opened:
    """A published version. One from before its manifest told the dtype is opened in what suits the device.

    Raises RegistryError for one that requires what this release does not know or whose golden pairs are damaged, NotFound when its
    base is gone, ModelError when the base on this machine has another tokenizer or other files than where it was trained.
    """
    version.require_scorable()
    registry, info = Registry(store), version.prompt
    dtype: Dtype = version.dtype or "auto"
    base = base_of(store, version.base, dtype)
    digest = version.base.digest if version.format > 1 else ""

    def translator() -> Translator:
        return open_translator(translator_reference(info), store, machine)

    def adapter() -> Path:
        return registry.fetch(version.task, version.version, scratch("cache") / "adapters" / version.version)

    english = translator if info.translation else None
    opened = Opened(version.name, base, prompt_of(info), adapter, machine, english, store, digest)
    opened.require_tokenizer(golden.find(registry, version))
    checked(base, digest)
    return opened


def machine_of(settings: Settings) -> Machine:
    """The machine of these settings: its servers, devices and engines."""
    return Machine(settings.serving, settings.engine)


def trainers(settings: Settings) -> Machine:
    """The same with the trainer's own scorer, to which golden pairs are held."""
    return Machine(settings.serving, settings.engine.model_copy(update={"scorer": "transformers"}))


def prompt_of(info: PromptInfo) -> Prompt:
    """The prompt that a manifest records."""
    return Prompt.from_json(
        {"template": info.name, "version": int(info.version), "translation": info.translation, "max_tokens": info.max_tokens}
    )


def translator_reference(info: PromptInfo) -> dict[str, str]:
    """What `open_translator` opens, from the `name-version` that a manifest records."""
    name, _, version = info.translator.rpartition("-")
    return {"name": name, "version": version, "key": f"translators/{info.translator}"}


def dtype_of(versions: Sequence[Manifest]) -> str | None:
    """The dtype in which a server answers for all of these versions: float32 where one of them has it; None where none tells."""
    stated = {version.dtype for version in versions if version.dtype}
    return "float32" if "float32" in stated else next(iter(stated), None)
