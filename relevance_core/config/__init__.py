"""Settings of the loop: frozen, validated when built, cheap to import, so that a DAG file can read them.

Each stage has a model of its own; `Settings` holds them all. A value comes from the defaults, then a TOML or YAML file, then the
environment (`RELEVANCE_SETTINGS`, one JSON object), then `--set key=value`. Each field's description says what it sets.
"""

from relevance_core.config.data import SourceSettings, SplitSettings, ValidationSettings, WindowSettings
from relevance_core.config.dotted import merge, nest, value_at
from relevance_core.config.history import lost
from relevance_core.config.loading import build, load, nested, of_record, window_until
from relevance_core.config.machine import EngineSettings, ServingSettings
from relevance_core.config.narrow import UnnamedSetting
from relevance_core.config.settings import Settings
from relevance_core.config.strategies import DenoiseSettings, MineSettings, TranslateSettings
from relevance_core.config.training import (
    ApprovalSettings,
    BaseSettings,
    BuiltinSettings,
    GateSettings,
    PromptSettings,
    TrainSettings,
)
from relevance_core.config.types import (
    Address,
    Language,
    NegativeKind,
    Share,
    Task,
    TranslationGuard,
    TranslatorName,
)

__all__ = [
    "Address",
    "ApprovalSettings",
    "BaseSettings",
    "BuiltinSettings",
    "DenoiseSettings",
    "EngineSettings",
    "GateSettings",
    "Language",
    "MineSettings",
    "NegativeKind",
    "PromptSettings",
    "ServingSettings",
    "Settings",
    "Share",
    "SourceSettings",
    "SplitSettings",
    "Task",
    "TrainSettings",
    "TranslateSettings",
    "TranslationGuard",
    "TranslatorName",
    "UnnamedSetting",
    "ValidationSettings",
    "WindowSettings",
    "build",
    "load",
    "lost",
    "merge",
    "nest",
    "nested",
    "of_record",
    "value_at",
    "window_until",
]
