"""The scorer that the settings ask for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import polars as pl

from relevance_core.config import Settings
from relevance_core.prompts import Prompt
from relevance_core.registry import Manifest, Registry
from relevance_core.runs.stage import scratch
from relevance_core.scoring.published import base_of, prompt_of, translator_reference
from relevance_core.store import Store

if TYPE_CHECKING:
    from relevance_core.models.base_ref import BaseRef
    from relevance_core.scoring.scorer import Scorer
    from relevance_core.scoring.vllm_scorer import VllmScorer

TEXT: Final = ("task", "query", "target", "english")
"""The columns that a scorer reads."""


def open_scorer(settings: Settings, base: BaseRef, adapter: Path, prompt: Prompt) -> Scorer | VllmScorer:
    """By `engine.scorer`. Raises ModelError for a base or an adapter that can't be loaded, SettingsError for vllm without vLLM."""
    if settings.engine.scorer == "vllm":
        from relevance_core.machine import require_python
        from relevance_core.scoring.vllm_scorer import VllmScorer

        return VllmScorer(base, adapter, prompt, require_python(settings.serving))
    from relevance_core.scoring.scorer import Scorer

    return Scorer(base.source, adapter, prompt, settings.engine, revision=base.revision, dtype=base.dtype)


def open_version(store: Store, version: Manifest, settings: Settings) -> Callable[[pl.DataFrame, Callable[[str], None]], pl.Series]:
    """What gives p(yes) of rows (`task`, `language`, `query`, `target`) under a published version: its base, prompt and translator.

    settings: those of the machine count. Raises NotFound when its base or translator is gone, RegistryError when its files are
    damaged.
    """
    from relevance_core.translators import Machine, add_english, open_translator

    base = base_of(store, version)
    adapter = Registry(store).fetch(version.task, version.version, scratch("cache") / "adapters" / version.version)
    reference = translator_reference(version.prompt) if version.prompt.translation else None
    translator = open_translator(reference, store, Machine(settings.serving, settings.engine)) if reference else None
    scorer = open_scorer(settings, base, adapter, prompt_of(version.prompt))

    def score(rows: pl.DataFrame, say: Callable[[str], None]) -> pl.Series:
        return pl.Series(scorer.score(add_english(rows, translator, store).select(TEXT).iter_rows(), say), dtype=pl.Float64)

    return score
