"""The types of the settings' values, and the base class of every part."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from operator import eq
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

_LANGUAGE: Final = r"^[a-z]{2}$"
_ADDRESS: Final = r"^https?://[^/\s]+"
_TRANSLATOR: Final = r"^(glossary|(vllm|seq2seq):[^@\s]+(@[^@\s]+)?)$"
FORMS: Final[Mapping[str, str]] = {
    _LANGUAGE: "a language's two lower-case letters, such as de",
    _ADDRESS: "an address such as http://10.0.0.5:8000",
    _TRANSLATOR: "glossary, vllm:MODEL[@REVISION] or seq2seq:MODEL[@REVISION]",
}
"""Pattern of a text → its form in words."""

Task = Literal["QC", "QI"]
Share = Annotated[float, Field(ge=0, le=1)]
Language = Annotated[str, Field(pattern=_LANGUAGE)]
TranslationGuard = Literal["models", "copy", "repetition", "language"]
Address = Annotated[str, Field(pattern=_ADDRESS)]
NegativeKind = Literal["hard", "easy", "random"]
TranslatorName = Annotated[str, Field(pattern=_TRANSLATOR)]


def optional(default: Any, **about: Any) -> Any:
    """Returns the field of a setting that is written only when it differs from its default.

    A store's finished stages and runs then keep their keys when a later release adds the setting.
    """
    return Field(default, exclude_if=partial(eq, default), **about)


class Part(BaseModel):
    """A part of the settings: frozen, and strict about unknown names and about numbers that are not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    def values(self) -> dict[str, Any]:
        """Returns the fields with their values, inner parts as they are; of narrowed settings only the named fields."""
        return {name: getattr(self, name) for name in type(self).model_fields}

    @model_validator(mode="before")
    @classmethod
    def _as_meant(cls, values: Any) -> Any:
        """Splits a text for a setting of several values, as in `--set onboard=de,it`; true and false stand for no number."""
        if not isinstance(values, Mapping):
            return values
        kinds = {name: str(field.annotation) for name, field in cls.model_fields.items()}
        return {key: _meant(value, kinds.get(key, "")) for key, value in values.items()}


def _meant(value: Any, kind: str) -> Any:
    """Returns a value for a setting of this type in the form that pydantic reads as it was meant."""
    if isinstance(value, str) and "tuple" in kind:
        return [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, bool) and ("int" in kind or "float" in kind):
        return json.dumps(value)  # pydantic would take true for 1
    return value
