"""The types of the settings' values, and the base class of every part."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from operator import eq
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Task = Literal["QC", "QI"]
Share = Annotated[float, Field(ge=0, le=1)]
Language = Annotated[str, Field(pattern=r"^[a-z]{2}$")]
TranslationGuard = Literal["models", "copy", "repetition", "language"]
Address = Annotated[str, Field(pattern=r"^https?://[^/\s]+")]
NegativeKind = Literal["hard", "easy", "random"]
TranslatorName = Annotated[str, Field(pattern=r"^(glossary|(vllm|seq2seq):[^@\s]+(@[^@\s]+)?)$")]


def optional(default: Any, **about: Any) -> Any:
    """Returns the field of a setting that is written only when it differs from its default.

    A store's finished stages and runs then keep their keys when a later release adds the setting.
    """
    return Field(default, exclude_if=partial(eq, default), **about)


class Part(BaseModel):
    """A part of the settings: frozen, and strict about unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    def values(self) -> dict[str, Any]:
        """Returns the fields with their values, inner parts as they are; of narrowed settings only the named fields."""
        return {name: getattr(self, name) for name in type(self).model_fields}

    @model_validator(mode="before")
    @classmethod
    def _lists_from_text(cls, values: Any) -> Any:
        """Splits a comma-separated text, as in `--set onboard=de,it`, for a setting that holds several values."""
        if not isinstance(values, Mapping):
            return values
        return {
            key: [part.strip() for part in value.split(",") if part.strip()]
            if isinstance(value, str) and key in cls.model_fields and "tuple" in str(cls.model_fields[key].annotation)
            else value
            for key, value in values.items()
        }
