"""Settings of the strategies: translation, hard negatives, the filter."""

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

    enabled: bool = True
    translator: tuple[TranslatorName, ...] = Field(
        ("glossary",),
        min_length=1,
        description="who translates: glossary, vllm:MODEL[@REVISION], seq2seq:MODEL[@REVISION]; the next gets what one could not",
    )
    max_new_tokens: int = Field(128, ge=1, description="longest translation of a model; a longer one is none")
    glossary: str = Field("auto", description="terms.tsv[.gz] of term_id, language, name; auto: found beside the logs")
    brands: str = Field("auto", description="text file of brand names, one a line, that a translation must keep; auto likewise")
    sources: tuple[Language, ...] = Field((), description="source languages; default: every trained language")
    min_rows: int = Field(400, ge=0, description="row quota per task: a trained language with fewer rows is topped up to it")
    rows: dict[Task, Annotated[int, Field(ge=0)]] = Field(
        {"QC": 10_000, "QI": 10_000}, description="most source pairs sampled for each onboarded language, per task"
    )
    of_largest: float = Field(
        1.0, ge=0, description="and at most this multiple of the rows that the largest trained language of the task has"
    )
    max_untranslated: Share = Field(0.34, description="largest share of words left as they were")
    length_ratio: tuple[float, float] = Field((0.2, 5.0), description="bounds of a translation's length, in lengths of its source")
    guards: tuple[TranslationGuard, ...] = optional(
        (), description="further guards: model names kept, copies, repetitions, the language of the translation"
    )
    language_confidence: Share = optional(
        0.8,
        description="probability from which the guard `language` takes a text for another language",
    )


class MineSettings(Part):
    """Semantic hard negatives (strategy 2)."""

    enabled: bool = True
    embedder: str = Field("builtin:minilm", description="a sentence-transformers id or folder; builtin:minilm is packaged")
    top_k: int = Field(20, ge=1)
    ratio: float = Field(0.5, ge=0, description="hard negatives added, as a multiple of the task's training positives")
    duplicate_similarity: Share = Field(0.98, description="targets more alike than this are taken as the same thing")
    index: Literal["auto", "flat", "ivf"] = Field(
        "auto", description="FAISS index of the targets; flat is exact, of ivf the report tells the recall"
    )
    index_from: int = Field(200_000, ge=1, description="targets from which auto is ivf; below, it is flat")
    mix: dict[NegativeKind, Share] = optional(
        {"hard": 1.0},
        description="shares of hard (ranks up to `mine.top_k`), easy (ranks after it) and random negatives in the same number",
    )
    easy_top: int = optional(100, ge=2, description="the last rank of an easy negative")

    @field_validator("mix")
    @classmethod
    def _whole(cls, mix: dict[NegativeKind, float]) -> dict[NegativeKind, float]:
        """Without kinds of share 0, so that one mix has one name."""
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
    """Self-validation filtering (strategy 3)."""

    enabled: bool = Field(False, description="finds wrong labels; docs/method.md says why it is off")
    mode: Literal["out-of-fold", "in-sample"] = "out-of-fold"
    folds: int = Field(2, ge=2)
    detector: Literal["confidence", "cleanlab", "both"] = Field(
        "confidence", description="what contradicts a label: p of the other one, cleanlab's confident learning, or the two together"
    )
    confidence: Share = Field(0.8, description="p of the other label above which a row contradicts its own")
    confidence_not_relevant: Share | None = Field(
        None, description="the same for rows labelled not relevant; default: `denoise.confidence`"
    )
    votes: int = Field(1, ge=1, description="models, of other seeds, that judge each row; more than half must contradict it")
    action: Literal["drop", "flip", "weight", "review"] = Field(
        "drop", description="weight: the row counts by the probability that its label is right"
    )
    max_share: Share = Field(0.25, description="cap on the share of a label × language that is acted on")
    epochs: float = Field(2.0, gt=0)

    @model_validator(mode="after")
    def _unseen(self) -> DenoiseSettings:
        if self.detector != "confidence" and self.mode == "in-sample":
            raise ValueError(f"detector {self.detector} judges by models that have not seen the row: it needs mode out-of-fold")
        return self
