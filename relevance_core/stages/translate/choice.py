"""Which languages to translate from, where `translate.sources` is `auto`: those that an ablation has shown to help.

The result is a JSON object, `{"sources": {"de": {"en": {"gain": 0.02, "low": 0.004}}}}`: for each target language, what F1 gained
by rows translated from each source language, with the lower end of the gain's interval. What else stands in it is not read.
"""

from __future__ import annotations

from typing import Annotated, Final, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from relevance_core.config import Language, TranslateSettings
from relevance_core.errors import DataError, NotFound
from relevance_core.sources import files

AUTO: Final = "auto"

_Gain = Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]
_FORM: Final = '{"sources": {"de": {"en": {"gain": 0.02, "low": 0.004}}}}'


class Gain(BaseModel):
    """What F1 gained, and the lower end of its interval."""

    model_config = ConfigDict(frozen=True)

    gain: _Gain
    low: _Gain

    @model_validator(mode="after")
    def _ordered(self) -> Gain:
        if self.low > self.gain:
            raise ValueError(f"the interval's lower end {self.low} is above the gain {self.gain}")
        return self


class Gains(BaseModel):
    """Target language → source language → what it gained."""

    model_config = ConfigDict(frozen=True)

    sources: dict[Language, dict[Language, Gain]]


class Choice(NamedTuple):
    """The languages to sample from, and why in words."""

    languages: frozenset[str]
    why: str
    measured: bool


def gains_file(settings: TranslateSettings) -> files.File | None:
    """The file of gains that *translate* reads, or None. Raises NotFound."""
    if not settings.enabled or AUTO not in settings.sources or not settings.sources_from:
        return None
    try:
        return files.open_file(settings.sources_from)
    except NotFound as error:
        raise NotFound(
            "there is no file of what the source languages gained",
            where=f"translate.sources_from: {settings.sources_from}",
            expected=f"a JSON file of the form {_FORM}",
            do="correct the address, or name the languages in translate.sources",
        ) from error


def read_gains(settings: TranslateSettings) -> Gains:
    """What is known of the source languages; nothing without a file. Raises NotFound, and DataError for one that can't be read."""
    file = gains_file(settings)
    if file is None:
        return Gains(sources={})
    try:
        return Gains.model_validate_json(file.read())
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(
            f"the file of what the source languages gained can't be read: {first['msg']}",
            where=", ".join([file.address, *([".".join(map(str, first["loc"]))] if first["loc"] else [])]),
            expected=_FORM,
            do="correct the file, or name the languages in translate.sources",
        ) from error


def choose(gains: Gains, target: str, possible: frozenset[str]) -> Choice:
    """The languages among `possible` whose gain for the target has an interval above zero; all of them where there is none.

    measured: whether it was the gains that chose. A language that was not measured is not taken beside those that helped.
    """
    known = gains.sources.get(target, {})
    helped = frozenset(source for source, gain in known.items() if gain.low > 0)
    if helped & possible:
        return Choice(helped & possible, f"{', '.join(sorted(helped & possible))} helped {target}", True)
    if not known:
        why = f"nothing is known of the languages that help {target}"
    elif not helped:
        why = f"no language is known to help {target}"
    else:
        why = f"{', '.join(sorted(helped))} helped {target}, but can't be translated from now"
    return Choice(possible, f"{why}: every trained language is taken", False)
