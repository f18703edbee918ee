"""Settings of the augmentation strategies: translation, hard negatives, label filtering."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from relevance_core.config.types import (
    Language,
    NegativeKind,
    Part,
    Share,
    Task,
    TranslationGuard,
    TranslatorName,
    optional,
)


class TranslateSettings(Part):
    """Translation augmentation (arXiv 2510.21671, strategy 1)."""

    enabled: bool = Field(True, description="translate training rows into onboarded and small languages")
    translator: tuple[TranslatorName, ...] = Field(
        ("glossary",),
        min_length=1,
        description="glossary, vllm:MODEL[@REVISION], seq2seq:MODEL[@REVISION]; each gets the texts that those before it failed on",
    )
    max_new_tokens: int = Field(128, ge=1, description="longest translation by a model, in tokens; a longer one is discarded")
    glossary: str = Field("auto", description="tab-separated terms (term_id, language, name); auto: terms.tsv[.gz] beside the logs")
    brands: str = Field(
        "auto", description="text file of brand names, one per line, that a translation must keep; auto: the file beside the logs"
    )
    sources: tuple[Language, ...] = Field((), description="languages to translate from; default: every trained language")
    min_rows: int = Field(
        400, ge=0, description="training rows per task up to which a trained language is topped up with translations"
    )
    rows: dict[Task, Annotated[int, Field(ge=0)]] = Field(
        {"QC": 10_000, "QI": 10_000}, description="most source pairs sampled for each onboarded language, by task"
    )
    of_largest: float = Field(
        1.0, ge=0, description="second cap on translate.rows: this multiple of the rows of the task's largest trained language"
    )
    max_untranslated: Share = Field(
        0.34, description="largest share of words left untranslated; above it the translation is rejected"
    )
    length_ratio: tuple[float, float] = Field(
        (0.2, 5.0), description="bounds of a translation's length, as a multiple of its source's"
    )
    guards: tuple[TranslationGuard, ...] = optional(
        (), description="further checks that reject a translation: lost model names, copies, repetitions, a wrong language"
    )
    language_confidence: Share = optional(
        0.8,
        description="lowest probability at which the guard `language` rejects a text as another language",
    )

    @field_validator("length_ratio")
    @classmethod
    def _ordered(cls, bounds: tuple[float, float]) -> tuple[float, float]:
        low, high = bounds
        if not 0 <= low < high:
            raise ValueError(f"the low bound {low:g} is not below the high bound {high:g}, or it is negative")
        return bounds


class MineSettings(Part):
    """Semantic hard negatives (arXiv 2510.21671, strategy 2)."""

    enabled: bool = Field(True, description="add mined negatives to the training rows")
    embedder: str = Field("builtin:minilm", description="sentence-transformers id or folder; builtin:minilm comes with the package")
    top_k: int = Field(20, ge=1, description="nearest targets of each positive that may become hard negatives")
    ratio: float = Field(0.5, ge=0, description="negatives added in each language, as a multiple of its training positives")
    duplicate_similarity: Share = Field(0.98, description="cosine similarity above which two targets count as duplicates")
    index: Literal["auto", "flat", "ivf"] = Field(
        "auto", description="FAISS index of the targets: flat is exact; ivf is approximate, its recall is in the report"
    )
    index_from: int = Field(200_000, ge=1, description="number of targets from which auto means ivf; below it, flat")
    mix: dict[NegativeKind, Share] = optional(
        {"hard": 1.0},
        description="shares of the kinds of negatives: hard (ranks up to mine.top_k), easy (ranks after it), random",
    )
    easy_top: int = optional(100, ge=2, description="last rank of an easy negative")

    @field_validator("mix")
    @classmethod
    def _whole(cls, mix: dict[NegativeKind, float]) -> dict[NegativeKind, float]:
        """Drops kinds of share 0, so that equal mixes are equal values. Raises ValueError unless the shares add up to 1."""
        if abs(sum(mix.values()) - 1) > 1e-9:
            raise ValueError(f"the shares add up to {sum(mix.values()):g}, not to 1")
        return {kind: share for kind, share in mix.items() if share}

    @model_validator(mode="after")
    def _further(self) -> MineSettings:
        if self.mix.get("easy") and self.easy_top <= self.top_k:
            raise ValueError(
                f"easy negatives have ranks from {self.top_k + 1} (top_k) to {self.easy_top} (easy_top): there are none"
            )
        return self


class DenoiseSettings(Part):
    """Self-validation filtering of wrong labels (arXiv 2510.21671, strategy 3)."""

    enabled: bool = Field(False, description="filter wrong labels; docs/method.md says why it is off by default")
    mode: Literal["out-of-fold", "in-sample"] = Field(
        "out-of-fold", description="out-of-fold: a model judges rows it did not train on; in-sample: its own training rows"
    )
    folds: int = Field(2, ge=2, description="folds of mode out-of-fold, one model each")
    detector: Literal["confidence", "cleanlab", "both"] = Field(
        "confidence", description="what contradicts a label: p of the other label, cleanlab's confident learning, or both together"
    )
    confidence: Share = Field(0.8, description="p of the other label from which a row's label is contradicted")
    confidence_not_relevant: Share | None = Field(
        None, description="the same for rows labelled not relevant; default: denoise.confidence"
    )
    votes: int = Field(
        1, ge=1, description="models, with different seeds, that judge each row; more than half must contradict its label"
    )
    action: Literal["drop", "flip", "weight", "review"] = Field(
        "drop",
        description="for a contradicted row: drop it, flip its label, weight it by p of its label, or list it for people's review",
    )
    max_share: Share = Field(0.25, description="largest share of the rows of a label and language that is acted on")
    epochs: float = Field(2.0, gt=0, description="epochs of each filter model")

    @model_validator(mode="after")
    def _unseen(self) -> DenoiseSettings:
        if self.detector != "confidence" and self.mode == "in-sample":
            raise ValueError(f"detector {self.detector} judges by models that have not seen the row: it needs mode out-of-fold")
        return self
