"""Settings of the model: base, prompt, training, gate and approval."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from relevance_core.config.types import Part, Share, optional


class BuiltinSettings(Part):
    """The small base model that the loop builds itself, where `base.model` is builtin:tiny."""

    vocabulary: int | None = Field(None, ge=300, description="entries of the byte-level BPE vocabulary; default: by the corpus")
    hidden: int | None = Field(None, ge=64, multiple_of=64, description="hidden size; default: by the corpus")
    layers: int = Field(2, ge=1, description="transformer layers")
    contrastive_steps: int | None = Field(
        None, ge=0, description="contrastive steps that pretrain the embeddings; default: by the corpus"
    )
    documents: int | None = Field(
        None, ge=0, description="pretraining documents, each a query and its candidates; default: by the corpus"
    )


class BaseSettings(Part):
    """The base model under the adapters."""

    model: str = Field(
        "builtin:tiny", description="base model: builtin:tiny, or a Hugging Face id or folder (production: Qwen/Qwen3-14B-Base)"
    )
    revision: str = Field("main", description="revision of a Hugging Face id")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="dtype of the base's weights; auto: bfloat16 on a GPU, else float32"
    )
    click_days: int = Field(90, ge=1, description="days of click logs before window.end that the builtin base reads")
    builtin: BuiltinSettings = BuiltinSettings()


class PromptSettings(Part):
    """The prompt that a pair is written into."""

    template: Literal["auto", "compact", "instruction"] = Field(
        "auto", description="prompt template; auto: compact for builtin:tiny, else instruction"
    )
    translation: bool = Field(
        False, description="put the query's English translation beside the query (as the competition's winners did)"
    )
    max_tokens: int = Field(256, ge=32, description="longest prompt, in tokens; the target is cut first, then the query")


class TrainSettings(Part):
    """LoRA fine-tuning of the base."""

    r: int = Field(32, ge=1, description="LoRA rank")
    alpha: int = Field(64, ge=1, description="LoRA scaling: updates are multiplied by alpha / r")
    dropout: Share = Field(0.1, description="LoRA dropout")
    learning_rate: float = Field(
        3e-3, gt=0, description="peak learning rate; 3e-3 suits the tiny base, 1e-4 a base of 14B parameters"
    )
    epochs: float = Field(2.0, gt=0, description="passes over the training rows")
    batch_size: int = Field(64, ge=1, description="rows per optimiser step")
    warmup_ratio: Share = Field(0.06, description="share of the steps in which the learning rate rises")
    max_grad_norm: float = Field(1.0, gt=0, description="norm to which gradients are clipped")
    save_steps: int = Field(200, ge=1, description="steps between checkpoints; a killed training resumes from the last")
    tapt: Literal["off", "other-task"] = optional(
        "off", description="other-task: the adapter is first trained on the other task's training rows"
    )
    tapt_epochs: float = optional(1.0, gt=0, description="epochs of that first training")


class GateSettings(Part):
    """Conditions under which a candidate replaces the champion (contract 7)."""

    min_f1: Share = Field(0.6, description="lowest F1 of a candidate")
    min_over_always_yes: float = Field(0.01, description="smallest F1 gain over answering always yes")
    confidence: Share = Field(0.95, description="share of paired bootstrap draws in which the candidate must beat the champion")
    min_gain: float = Field(0.0, description="smallest mean F1 gain over the champion")
    resamples: int = Field(1000, ge=100, description="bootstrap draws")
    max_language_loss: Share = Field(0.02, description="largest F1 loss in any language with gate.min_language_rows rows (δ)")
    min_language_rows: int = Field(100, ge=1, description="fewest judgement rows for a language's F1 loss to count")
    min_evidence_rows: int = Field(
        30, ge=1, description="fewest judgement rows for a language to be onboarded without a person's approval"
    )


class ApprovalSettings(Part):
    """A person's answer to the verdict needs-approval, for which the DAG waits."""

    hours: float = Field(
        12.0, gt=0, description="longest wait for an answer, in hours; a version without an answer by then is held"
    )
