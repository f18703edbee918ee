"""The whole of the settings, part by part."""

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
        """These settings without those that lie outside `names` (dotted): reading another raises UnnamedSetting.

        reader: who reads them, for the error.
        """
        narrowed: Self = narrow(self, names, reader)
        return narrowed

    def template(self) -> Literal["compact", "instruction"]:
        """The prompt template in force."""
        if self.prompt.template != "auto":
            return self.prompt.template
        return "compact" if self.base.model == "builtin:tiny" else "instruction"
