"""The refusals of pydantic in the words of this package: what is wrong with a setting's value, and what was expected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from relevance_core.config.types import FORMS

_WHOLE, _NUMBER = ("no whole number", "a whole number"), ("no number", "a number")
_TABLE, _LIST = ("no table", "a table of settings"), ("no list", "a list: a,b or [a, b]")
_TEXT, _SWITCH = ("no text", "a text in quotes"), ("neither true nor false", "true or false")
_TIME: Final = ("no date or time", "YYYY-MM-DD, or with a time YYYY-MM-DDTHH:MM")

_KINDS: Final[Mapping[str, tuple[str, str]]] = {
    "int_": _WHOLE,
    "float_": _NUMBER,
    "finite_number": ("no finite number", "a number"),
    "multiple_of": ("out of bounds", "a multiple of {multiple_of}"),
    "greater_than_equal": ("out of bounds", "a number ≥ {ge:g}"),
    "greater_than": ("out of bounds", "a number > {gt:g}"),
    "less_than_equal": ("out of bounds", "a number ≤ {le:g}"),
    "less_than": ("out of bounds", "a number < {lt:g}"),
    "literal_error": ("unknown", "{expected}"),
    "string_type": _TEXT,
    "bool_": _SWITCH,
    "tuple_type": _LIST,
    "list_type": _LIST,
    "too_short": ("too short a list", "{min_length} or more values"),
    "too_long": ("too long a list", "{max_length} values or fewer"),
    "missing": ("too short a list", "one more value"),
    "dict_type": _TABLE,
    "model_": _TABLE,
    "datetime_": _TIME,
    "date_": _TIME,
    "invalid_key": ("no name of a setting", "names in quotes"),
}
"""The beginning of pydantic's kind of error → what is wrong with the value, and what was expected. The first that fits counts."""


def told(error: Mapping[str, Any]) -> tuple[str, str]:
    """Returns what is wrong and what was expected, for one error as pydantic lists them."""
    kind, about, given = str(error["type"]), error.get("ctx", {}), error["input"]
    if kind in ("value_error", "assertion_error"):
        return str(about["error"]), ""
    named = "this" if isinstance(given, Mapping) else repr(given)
    if kind == "string_pattern_mismatch":
        return f"{named} has another form", FORMS.get(about["pattern"], about["pattern"])
    for beginning, (what, expected) in _KINDS.items():
        if kind.startswith(beginning):
            return f"{named} is {what}", expected.format(**about)
    return f"{named} can't be taken: {error['msg']}", ""
