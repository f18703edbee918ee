"""The root of the settings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Self

from pydantic import Field, field_validator

from relevance_core.config.data import SourceSettings, SplitSettings, ValidationSettings, WindowSettings
from relevance_core.config.machine import EngineSettings, ServingSettings
from relevance_core.config.narrow import narrow
from relevance_core.config.strategies import DenoiseSettings, MineSettings, TranslateSettings
from relevance_core.config.training import (
    ApprovalSettings,
    BaseSettings,
    GateSettings,
    PromptSettings,
    TrainSettings,
)
from relevance_core.config.types import Language, Part, Task


class Settings(Part):
    """All settings of a run; the same settings and inputs give the same outputs."""

    tasks: tuple[Task, ...] = Field(("QC", "QI"), description="tasks that the run trains: query–category, query–item")
    onboard: tuple[Language, ...] = Field((), description="languages to onboard in this run, as ISO 639-1 codes")
    seed: int = Field(17, ge=0, le=2**32 - 1, description="seed of every random choice")
    source: SourceSettings = SourceSettings()
    window: WindowSettings = WindowSettings()
    validation: ValidationSettings = ValidationSettings()
    split: SplitSettings = SplitSettings()
    translate: TranslateSettings = TranslateSettings()
    base: BaseSettings = BaseSettings()
    prompt: PromptSettings = PromptSettings()
    mine: MineSettings = MineSettings()
    denoise: DenoiseSettings = DenoiseSettings()

    train: TrainSettings = TrainSettings()
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

    def only(self, names: Iterable[str], reader: str = "the reader") -> Self:
        """Returns a view that shows only the settings at or below `names` (dotted); reading any other raises UnnamedSetting.

        reader: named in that error.
        """
        narrowed: Self = narrow(self, names, reader)
        return narrowed

    def template(self) -> Literal["compact", "instruction"]:
        """Returns the prompt template in force."""
        if self.prompt.template != "auto":
            return self.prompt.template
        return "compact" if self.base.model == "builtin:tiny" else "instruction"
