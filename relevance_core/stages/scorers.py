"""The scorer that the settings ask for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from relevance_core.config import Settings
from relevance_core.prompts import Prompt

if TYPE_CHECKING:
    from relevance_core.models.base_ref import BaseRef
    from relevance_core.models.scorer import Scorer
    from relevance_core.models.vllm_scorer import VllmScorer


def open_scorer(settings: Settings, base: BaseRef, adapter: Path, prompt: Prompt) -> Scorer | VllmScorer:
    """By `engine.scorer`. Raises ModelError for a base or an adapter that can't be loaded, SettingsError for vllm without vLLM."""
    if settings.engine.scorer == "vllm":
        from relevance_core.models.vllm_scorer import VllmScorer
        from relevance_core.serving.machine import require_python

        return VllmScorer(base, adapter, prompt, require_python(settings.serving))
    from relevance_core.models.scorer import Scorer

    return Scorer(base.source, adapter, prompt, settings.engine, revision=base.revision, dtype=base.dtype)
