"""What a run's *translate* leaves for the stages after it: its translator, and English as the run's prompt has it."""

from __future__ import annotations

import polars as pl

from relevance_core.config import Settings
from relevance_core.runs.stage import Artifact
from relevance_core.translators import Machine, Translator, add_english, open_translator


def translator_of_run(settings: Settings, translate: Artifact) -> Translator | None:
    """The translator that *translate* kept in the store; None where there was nothing to translate with.

    settings: those of the machine count. Raises NotFound when it is gone.
    """
    reference = translate.report.figures.get("translator")
    return open_translator(reference, translate.store, Machine(settings.serving, settings.engine)) if reference else None


def with_english(rows: pl.DataFrame, settings: Settings, translate: Artifact) -> pl.DataFrame:
    """`rows` (`language`, `query`) with `english` as of `add_english`; null everywhere without `prompt.translation`."""
    translator = translator_of_run(settings, translate) if settings.prompt.translation else None
    return add_english(rows, translator, translate.store)
