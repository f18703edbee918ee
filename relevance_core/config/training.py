"""Settings of the model: base, prompt, training, evaluation, gate and approval."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from relevance_core.config.types import Part, Share, optional


class BuiltinSettings(Part):
    """The base model that the loop builds itself, where `base.model` is builtin:tiny."""

    vocabulary: int | None = Field(None, ge=300, description="size of the byte-level BPE; default: by the corpus")
    hidden: int | None = Field(None, ge=64, multiple_of=64, description="width; default: by the corpus")
    layers: int = Field(2, ge=1, description="transformer layers")
    contrastive_steps: int | None = Field(None, ge=0, description="steps of the embeddings; default: by the corpus")
    documents: int | None = Field(
        None, ge=0, description="pretraining documents of one query and its candidates; default: by the corpus"
    )


class BaseSettings(Part):
    """The base model."""

    model: str = Field("builtin:tiny", description="builtin:tiny, or a Hugging Face id or folder (production: Qwen/Qwen3-14B-Base)")
    revision: str = Field("main", description="revision of a Hugging Face id")
    dtype: Literal["auto", "float32", "bfloat16"] = Field("auto", description="auto: bfloat16 on a GPU, else float32")
    click_days: int = Field(90, ge=1, description="days of click logs before the window's end that the builtin base reads")
    builtin: BuiltinSettings = BuiltinSettings()


class PromptSettings(Part):
    """How a pair becomes text."""

    template: Literal["auto", "compact", "instruction"] = Field("auto", description="auto: compact for builtin:tiny")
    translation: bool = Field(False, description="carry the query's English translation beside the query (the winners' input)")
    max_tokens: int = Field(256, ge=32, description="longest prompt; the target is cut first, then the query")


class TrainSettings(Part):
    """LoRA fine-tuning."""

    r: int = Field(32, ge=1)
    alpha: int = Field(64, ge=1)
    dropout: Share = 0.1
    learning_rate: float = Field(3e-3, gt=0, description="3e-3 suits the tiny base; 1e-4 a 14B one")
    epochs: float = Field(2.0, gt=0)
    batch_size: int = Field(64, ge=1)
    warmup_ratio: Share = 0.06
    max_grad_norm: float = Field(1.0, gt=0)
    save_steps: int = Field(200, ge=1, description="steps between checkpoints; a killed training goes on from the last")
    tapt: Literal["off", "other-task"] = optional(
        "off", description="other-task: a first training of the adapter, on the other task's training rows"
    )
    tapt_epochs: float = optional(1.0, gt=0, description="of that first training")


class GateSettings(Part):
    """What makes a candidate the champion (contract 7)."""

    min_f1: Share = Field(0.6, description="absolute floor")
    min_over_always_yes: float = Field(0.01, description="smallest F1 above the always-yes answer")
    confidence: Share = Field(0.95, description="share of paired bootstrap draws in which the candidate must be better")
    min_gain: float = Field(0.0, description="smallest mean F1 gain over the champion")
    resamples: int = Field(1000, ge=100)
    max_language_loss: Share = Field(0.02, description="δ: largest F1 loss of one language with enough rows")
    min_language_rows: int = Field(100, ge=1, description="judgement rows from which a language's F1 loss counts")
    min_evidence_rows: int = Field(30, ge=1, description="judgement rows a language must have to be onboarded without approval")


class ApprovalSettings(Part):
    """The answer of a person to the verdict needs-approval, which the DAG waits for."""

    hours: float = Field(12.0, gt=0, description="longest wait for an answer; a version that got none by then is held")
