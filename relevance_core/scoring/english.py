"""The outputs of a run's *translate* for later stages: its translator, and the English that the run's prompt shows."""

from __future__ import annotations

import polars as pl

from relevance_core.config import Settings
from relevance_core.runs.artifacts import Artifact
from relevance_core.translators import Machine, Translator, add_english, open_translator


def translator_of_run(settings: Settings, translate: Artifact) -> Translator | None:
    """Opens the translator that *translate* kept in the store; None where it had none.

    settings: only those of the machine are read. Raises NotFound when the translator is gone.
    """
    reference = translate.report.figures.get("translator")
    return open_translator(reference, translate.store, Machine(settings.serving, settings.engine)) if reference else None


def with_english(rows: pl.DataFrame, settings: Settings, translate: Artifact) -> pl.DataFrame:
    """Returns `rows` (`language`, `query`) with `english` from `add_english`; null everywhere without `prompt.translation`."""
    translator = translator_of_run(settings, translate) if settings.prompt.translation else None
    return add_english(rows, translator, translate.store)
