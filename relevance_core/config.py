"""Settings of the loop: frozen, checked when built, importable in a DAG file (nothing heavy here).

One model a stage; `Settings` holds them all. A value comes from the defaults, then a TOML or YAML file, then the environment
(`RELEVANCE_SETTINGS`, one JSON object), then `--set key=value`. Every setting is described in its field.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import partial
from operator import eq
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from relevance_core.errors import SettingsError

Task = Literal["QC", "QI"]
Share = Annotated[float, Field(ge=0, le=1)]
Language = Annotated[str, Field(pattern=r"^[a-z]{2}$")]
SourceLanguage = Annotated[str, Field(pattern=r"^([a-z]{2}|auto)$")]
TranslationGuard = Literal["models", "copy", "repetition", "language"]
Address = Annotated[str, Field(pattern=r"^https?://[^/\s]+")]
NegativeKind = Literal["hard", "easy", "random"]
Slip = Literal["keyboard", "letters", "accents", "script", "short"]
SLIPS: Final[tuple[Slip, ...]] = get_args(Slip)
"""The kinds of slips of `relevance_core.corruption`."""

TranslatorName = Annotated[str, Field(pattern=r"^(glossary|(vllm|seq2seq):[^@\s]+(@[^@\s]+)?)$")]


def _optional(default: Any, **about: Any) -> Any:
    """The field of a setting that is left out of what is written while it has its default, so that a store's finished stages and
    runs keep their names beside a setting that they do not know.
    """
    return Field(default, exclude_if=partial(eq, default), **about)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _lists_from_text(cls, values: Any) -> Any:
        """A comma-separated text is what `--set onboard=de,it` means for a setting that holds several values."""
        if not isinstance(values, Mapping):
            return values
        return {
            key: [part.strip() for part in value.split(",") if part.strip()]
            if isinstance(value, str) and key in cls.model_fields and "tuple" in str(cls.model_fields[key].annotation)
            else value
            for key, value in values.items()
        }


class SourceSettings(_Part):
    """Where labelled logs and the unlabelled text beside them come from."""

    uri: str = Field("", description="folder with dt=YYYY-MM-DD partitions, or one file; a path, file:// or s3:// address")
    sql: str = Field("", description="SELECT with :start and :end (the window) that returns the log's columns, instead of uri")
    connection: SecretStr = Field(
        SecretStr(""), description="database URL of `sql`; the DAG fills it from the Airflow connection; never stored or printed"
    )
    clicks: str = Field("auto", description="click logs (task, language, query, target); auto: clicks/ beside the logs; '' none")
    catalogue: str = Field("auto", description="all targets (task, target_id, target); auto: found beside the logs; '' none")
    task: Task | None = Field(None, description="the task of rows that carry none")


class WindowSettings(_Part):
    """The fresh rows of a run are those in [start, end); history reaches further back."""

    start: datetime | None = Field(None, description="start of the fresh window (UTC); default: end minus `days`")
    end: datetime | None = Field(None, description="end of the window (UTC, exclusive): the watermark")
    days: int = Field(1, ge=1, description="length of the fresh window where no start is given")
    history_days: int = Field(90, ge=0, description="days before the window whose rows are used too")

    @field_validator("start", "end")
    @classmethod
    def _utc(cls, value: datetime | None) -> datetime | None:
        from datetime import UTC

        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)

    @model_validator(mode="after")
    def _ordered(self) -> WindowSettings:
        if self.start and self.end and self.start >= self.end:
            raise ValueError(f"window.start {self.start} is not before window.end {self.end}")
        return self

    def bounds(self) -> tuple[datetime, datetime]:
        """(start, end) of the fresh window. Raises SettingsError without an end: a window is never derived from now."""
        if self.end is None:
            raise SettingsError("the window has no end", where="window.end", do="give --window-end YYYY-MM-DD")
        return self.start or self.end - timedelta(days=self.days), self.end

    def history_start(self) -> datetime:
        """The first moment whose rows are used."""
        return self.bounds()[0] - timedelta(days=self.history_days)


class ValidationSettings(_Part):
    """Bounds of the *validate* stage. Row rules quarantine rows; batch rules stop the run."""

    languages: tuple[Language, ...] | None = Field(None, description="known languages; default: every one in languages.py")
    max_query_chars: int = Field(500, ge=1)
    max_target_chars: int = Field(2000, ge=1)
    max_quarantine_share: Share = Field(0.1, description="largest share of fresh rows that may fail a row rule")
    min_rows: int = Field(1, ge=0, description="fewest fresh rows of a run")
    min_rows_of_mean: Share = Field(0.3, description="fewest fresh rows, as a share of the trailing daily mean")
    max_rows_of_mean: float = Field(5.0, ge=1, description="most fresh rows, as a multiple of the trailing daily mean")
    min_positive_rate: Share = Field(0.1, description="per task and language with at least rate_min_rows fresh rows")
    max_positive_rate: Share = Field(0.95)
    rate_min_rows: int = Field(50, ge=1)
    max_language_drift: Share = Field(0.25, description="largest change of a language's share against the history")
    max_contradicting_share: Share = Field(0.2, description="share of fresh pairs that carry both labels")


class SplitSettings(_Part):
    """Which side a query is on (contract 4)."""

    dev_share: Share = Field(0.2, description="share of query groups on the dev side")
    calibration_share: Share = Field(0.4, description="share of dev groups that only calibrate the threshold")
    qc_group: Literal["query", "prefix"] = Field("query", description="QC by query, or by category prefix (the winners' split)")
    prefix_levels: int = Field(2, ge=1, description="levels of the category path that form the prefix")


class TranslateSettings(_Part):
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
    sources: tuple[SourceLanguage, ...] = Field(
        (), description="source languages; default: every trained language; auto: those that `translate.sources_from` says helped"
    )
    sources_from: str = _optional(
        "", description="for auto: a JSON file of what each source language gained each target; path or address"
    )
    min_rows: int = Field(400, ge=0, description="row quota per task: a trained language with fewer rows is topped up to it")
    rows: dict[Task, Annotated[int, Field(ge=0)]] = Field(
        {"QC": 10_000, "QI": 10_000}, description="most source pairs sampled for each onboarded language, per task"
    )
    of_largest: float = Field(
        1.0, ge=0, description="and at most this multiple of the rows that the largest trained language of the task has"
    )
    max_untranslated: Share = Field(0.34, description="largest share of words left as they were")
    length_ratio: tuple[float, float] = Field((0.2, 5.0), description="bounds of a translation's length, in lengths of its source")
    guards: tuple[TranslationGuard, ...] = _optional(
        (), description="further guards: model names kept, copies, repetitions, the language of the translation"
    )
    language_confidence: Share = _optional(
        0.8,
        description="probability from which the guard `language` takes a text for another language",
    )
    round_trip: int = _optional(
        0, ge=0, description="texts of each pair of languages that are translated back and compared; 0: none"
    )
    round_trip_similarity: Share = _optional(
        0.0,
        description="cosine of a text and its translation back, by `mine.embedder`, below which it is rejected; 0: only measured",
    )
    warn_rejected: Share = _optional(
        0.5,
        description="share of a language's pairs whose translation is rejected, above which to warn",
    )
    warn_similarity: Share = _optional(0.7, description="mean cosine of a language's round trip, below which to warn")

    @model_validator(mode="after")
    def _auto_alone(self) -> TranslateSettings:
        if "auto" in self.sources and len(self.sources) > 1:
            raise ValueError("sources are either named or auto, not both")
        return self


class MineSettings(_Part):
    """Semantic hard negatives (strategy 2)."""

    enabled: bool = True
    embedder: str = Field("builtin:minilm", description="a sentence-transformers id or folder; builtin:minilm is packaged")
    top_k: int = Field(20, ge=1)
    ratio: float = Field(0.5, ge=0, description="hard negatives added, as a multiple of the task's training positives")
    duplicate_similarity: Share = Field(0.98, description="targets more alike than this are taken as the same thing")
    skip_ranks: int = Field(0, ge=0, description="nearest ranks left out")
    index: Literal["auto", "flat", "ivf", "hnsw"] = Field(
        "auto",
        description="FAISS index of the targets; flat is exact, of ivf and hnsw the report tells the recall",
    )
    index_from: int = Field(200_000, ge=1, description="targets from which auto is ivf; below, it is flat")
    ratios: dict[Task, dict[Annotated[str, Field(pattern=r"^([a-z]{2}|default)$")], Annotated[float, Field(ge=0)]]] = _optional(
        {},
        description='`mine.ratio` by task and language, e.g. {"QI": {"default": 1, "de": 0.5}}; what is not named has `mine.ratio`',
    )
    mix: dict[NegativeKind, Share] = _optional(
        {"hard": 1.0},
        description="shares of hard (ranks up to `mine.top_k`), easy (ranks after it) and random negatives in the same number",
    )
    easy_top: int = _optional(100, ge=2, description="the last rank of an easy negative")
    absolute_margin: float | None = _optional(
        None,
        ge=0,
        description="how much less like the query than its positive a negative must be, in cosine; default: it is not asked",
    )
    relative_margin: Share | None = _optional(
        None, description="the same as a share of the positive's similarity; 0.05 is NV-Retriever's"
    )
    champion_review: Share | None = _optional(
        None,
        description="p(yes) of the champion above which a candidate is no negative and people are asked; default: it is not asked",
    )
    catalogue: str = _optional(
        "",
        description="file of more candidates: task and target, or category_path (QC) and item_title (QI); '' none",
    )

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

    def ratio_of(self, task: Task, language: str) -> float:
        """Negatives added for each positive of the task and language."""
        by_language = self.ratios.get(task, {})
        return by_language.get(language, by_language.get("default", self.ratio))


class DenoiseSettings(_Part):
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


class AugmentSettings(_Part):
    """Mistyped copies of training rows: a slip in the query, the rest as it was."""

    enabled: bool = False
    share: Share = Field(0.2, description="share of the rows that *denoise* keeps, taken by a hash, of which a copy is made")
    slips: tuple[Slip, ...] = Field(
        SLIPS, min_length=1, description="kinds of slips: a key beside, letters, accents, the script's own, abbreviations"
    )


class BaseSettings(_Part):
    """The base model."""

    model: str = Field("builtin:tiny", description="builtin:tiny, or a Hugging Face id or folder (production: Qwen/Qwen3-14B-Base)")
    revision: str = Field("main", description="revision of a Hugging Face id")
    dtype: Literal["auto", "float32", "bfloat16"] = Field("auto", description="auto: bfloat16 on a GPU, else float32")
    vocabulary: int | None = Field(None, ge=300, description="builtin: size of the byte-level BPE; default: by the corpus")
    hidden: int | None = Field(None, ge=64, multiple_of=64, description="builtin: width; default: by the corpus")
    layers: int = Field(2, ge=1, description="builtin: transformer layers")
    contrastive_steps: int | None = Field(None, ge=0, description="builtin: steps of the embeddings; default: by the corpus")
    documents: int | None = Field(
        None, ge=0, description="builtin: pretraining documents of one query and its candidates; default: by the corpus"
    )
    click_days: int = Field(90, ge=1, description="days of click logs before the window's end that the builtin base reads")


class PromptSettings(_Part):
    """How a pair becomes text."""

    template: Literal["auto", "compact", "instruction"] = Field("auto", description="auto: compact for builtin:tiny")
    translation: bool = Field(False, description="carry the query's English translation beside the query (the winners' input)")
    max_tokens: int = Field(256, ge=32, description="longest prompt; the target is cut first, then the query")


class TrainSettings(_Part):
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
    warm_start: bool = _optional(
        False,
        description="begin with the champion's weights where its base, prompt, rank and alpha are the run's",
    )
    tapt: Literal["off", "other-task", "text"] = _optional(
        "off",
        description="a first training of the adapter: on the other task's training rows, or on raw queries and titles",
    )
    tapt_epochs: float = _optional(1.0, gt=0, description="of that first training")
    shared: bool = _optional(False, description="one adapter for all tasks, trained on the rows of each; thresholds stay apart")

    @model_validator(mode="after")
    def _one_beginning(self) -> TrainSettings:
        if self.warm_start and self.tapt != "off":
            raise ValueError(f"tapt {self.tapt} and warm_start are two beginnings of one adapter: switch one of them off")
        if self.shared and (self.warm_start or self.tapt != "off"):
            raise ValueError("a shared adapter begins from nothing: switch warm_start and tapt off, which are of one task")
        return self


class EvaluateSettings(_Part):
    """What *evaluate* measures beside the judgement rows as they are; the gate does not look at it."""

    corrupted: bool = Field(False, description="score the judgement rows with mistyped queries too, at the same threshold")


class GateSettings(_Part):
    """What makes a candidate the champion (contract 7)."""

    min_f1: Share = Field(0.6, description="absolute floor")
    min_over_always_yes: float = Field(0.01, description="smallest F1 above the always-yes answer")
    confidence: Share = Field(0.95, description="share of paired bootstrap draws in which the candidate must be better")
    min_gain: float = Field(0.0, description="smallest mean F1 gain over the champion")
    resamples: int = Field(1000, ge=100)
    max_language_loss: Share = Field(0.02, description="δ: largest F1 loss of one language with enough rows")
    min_language_rows: int = Field(100, ge=1, description="judgement rows from which a language's F1 loss counts")
    min_evidence_rows: int = Field(30, ge=1, description="judgement rows a language must have to be onboarded without approval")


class ApprovalSettings(_Part):
    """The answer of a person to the verdict needs-approval, which the DAG waits for."""

    hours: float = Field(12.0, gt=0, description="longest wait for an answer; a version that got none by then is held")


class EngineSettings(_Part):
    """The machine."""

    workers: int = Field(0, ge=0, description="processes of the parallel parts; 0: one a core")
    threads: int = Field(1, ge=1, description="torch threads of a process")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    gpus: int = Field(1, ge=1, description="GPUs that a training takes, a process each; on a CPU: processes")
    scorer: Literal["transformers", "vllm"] = Field(
        "transformers", description="what scores in *denoise* and *evaluate*; vllm: the offline engine of serving.python, for GPUs"
    )


class ServingSettings(_Part):
    """vLLM servers, and what a version must show on them before it serves. No part of what a run is."""

    endpoints: tuple[str, ...] = Field(
        (), description="the vLLM servers, e.g. http://10.0.0.5:8000; none: a version is proved on one of its own"
    )
    python: str = Field(
        "auto", description="Python of the environment that has vLLM; auto: this one, else .venv-serving beside it; '' none"
    )
    tolerance: Annotated[float, Field(gt=0)] | None = Field(
        None, description="largest |p(yes)| difference to the golden pairs; default: 1e-3, with bfloat16 3e-2"
    )
    max_rank: int = Field(32, ge=1, description="largest LoRA rank that the servers take")
    slots: int = Field(4, ge=2, description="adapters that a server computes with at a time")
    cached: int = Field(8, ge=2, description="adapters that a server keeps in memory and on disk")
    verify_key: str = Field(
        "", description="file of the key that manifests must be signed with: Ed25519 public (PEM) or HMAC (text)"
    )
    sign_key: str = Field(
        "", description="file of the key that *publish* signs manifests with: Ed25519 private (PEM) or HMAC (text)"
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of the servers; auto: bfloat16 on a GPU, else float32"
    )
    start_servers: int = Field(
        0, ge=0, description="servers that a rollout starts on its machine for a base that none runs; 0: it stops and says so"
    )
    start_seconds: float = Field(600, gt=0, description="longest wait for a server that starts")
    drain_seconds: float = Field(10, ge=0, description="wait between the alias's move and the unloading of what served before")
    staleness_seconds: float = Field(5, ge=0, description="longest time that a client goes on with an alias that has moved")
    timeout_seconds: float = Field(30, gt=0, description="longest wait for one answer of a server")
    translators: tuple[Address, ...] = Field(
        (), description="servers of translation models (vllm: in translate.translator), e.g. http://10.0.0.7:8000"
    )
    translator_key: str = Field("", description="file of the key (a bearer token) that these servers ask for")
    mixed_bases: bool = Field(False, description="let the tasks serve on different bases, each with servers of its own")


class Settings(_Part):
    """Everything a run needs to know; the same settings and the same inputs give the same outputs."""

    tasks: tuple[Task, ...] = ("QC", "QI")
    onboard: tuple[Language, ...] = Field((), description="languages to bring in with this run")
    seed: int = 17
    source: SourceSettings = SourceSettings()
    window: WindowSettings = WindowSettings()
    validation: ValidationSettings = ValidationSettings()
    split: SplitSettings = SplitSettings()
    translate: TranslateSettings = TranslateSettings()
    base: BaseSettings = BaseSettings()
    prompt: PromptSettings = PromptSettings()
    mine: MineSettings = MineSettings()
    denoise: DenoiseSettings = DenoiseSettings()
    # Left out of what is written while they are off, as an `_optional` setting is.
    augment: AugmentSettings = Field(AugmentSettings(), exclude_if=lambda part: not part.enabled)
    train: TrainSettings = TrainSettings()
    evaluate: EvaluateSettings = Field(EvaluateSettings(), exclude_if=lambda part: not part.corrupted)
    gate: GateSettings = GateSettings()
    approval: ApprovalSettings = ApprovalSettings()
    serving: ServingSettings = ServingSettings()
    engine: EngineSettings = EngineSettings()

    @field_validator("tasks", "onboard")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError(f"named twice: {', '.join(value)}")
        return tuple(sorted(value))

    @field_validator("tasks")
    @classmethod
    def _some(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("at least one task of QC, QI")
        return value

    def template(self) -> Literal["compact", "instruction"]:
        """The prompt template in force."""
        if self.prompt.template != "auto":
            return self.prompt.template
        return "compact" if self.base.model == "builtin:tiny" else "instruction"


def load(file: str | Path | None = None, overrides: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> Settings:
    """The settings from a TOML or YAML `file`, the environment's RELEVANCE_SETTINGS and `key=value` overrides, in that order.

    Raises SettingsError that names the setting, the value and what was expected.
    """
    values: dict[str, Any] = _read(Path(file)) if file else {}
    text = (environment or {}).get("RELEVANCE_SETTINGS", "")
    if text:
        try:
            values = merge(values, json.loads(text))
        except json.JSONDecodeError as error:
            raise SettingsError(f"RELEVANCE_SETTINGS is not JSON: {error}", expected="one JSON object") from error
    return build(merge(values, nested(overrides)))


def nested(overrides: Sequence[str]) -> dict[str, Any]:
    """The plain values that `key.of.a.part=value` texts stand for. Raises SettingsError for one without '='."""
    values: dict[str, Any] = {}
    for item in overrides:
        key, found, text = item.partition("=")
        if not found:
            raise SettingsError(f"setting {item!r} has no '='", expected="key=value, for example --set train.epochs=1")
        value: Any = _parse(text)
        for name in reversed(key.strip().split(".")):
            value = {name: value}
        values = merge(values, value)
    return values


def build(values: Mapping[str, Any]) -> Settings:
    """Settings from nested plain values. Raises SettingsError."""
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "settings"
        given = "" if first["type"] == "extra_forbidden" else f" (given: {first['input']!r})"
        known = f"; known: {', '.join(_siblings(first['loc']))}" if first["type"] == "extra_forbidden" else ""
        raise SettingsError(f"{first['msg']}{given}{known}", where=name, do="see docs/settings.md for every setting") from error


def merge(into: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """`into` with `values` laid over it, part by part."""
    merged = dict(into)
    for key, value in values.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _siblings(loc: tuple[int | str, ...]) -> list[str]:
    model: Any = Settings
    for part in loc[:-1]:
        model = model.model_fields[str(part)].annotation
    return list(model.model_fields)


def _parse(text: str) -> Any:
    """A --set value: JSON where it is JSON, else the text itself."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise SettingsError("no such settings file", where=str(path), expected="a TOML or YAML file")
    text = path.read_text(encoding="utf-8")
    try:
        if path.suffix == ".toml":
            import tomllib

            return tomllib.loads(text)
        import yaml

        return dict(yaml.safe_load(text) or {})
    except (ValueError, TypeError) as error:
        raise SettingsError(f"cannot be parsed: {error}", where=str(path), expected="a TOML or YAML mapping") from error


def window_until(settings: Settings, end: date | datetime) -> Settings:
    """`settings` with the window's end set."""
    values = settings.model_dump()
    values["window"]["end"] = datetime(end.year, end.month, end.day) if not isinstance(end, datetime) else end
    return build(values)
