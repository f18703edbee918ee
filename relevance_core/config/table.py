"""The settings as a Markdown document: the output of `relevance settings`, kept as docs/settings.md."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from relevance_core.config import Settings

HEADER = """# Settings

Every setting, its default, its values and its meaning. Give settings in a TOML or YAML file (`--settings FILE`), as one JSON
object in the environment (`RELEVANCE_SETTINGS`), or singly (`--set train.epochs=1`); the later wins. A list may be given as `a,b`.
An unknown name or a value out of bounds stops the command before it begins. This page is printed by `relevance settings`.
"""


def as_markdown() -> str:
    """Returns the whole page."""
    page = [HEADER, _section("The run", "The tasks, languages and seed of a run.", _plain(Settings), "")]
    for name, part in _parts(Settings).items():
        page += _sections(name, part)
    return "\n".join(page)


def _sections(name: str, part: type[BaseModel]) -> list[str]:
    """The section of a part, and those of its inner parts."""
    page = [_section(f"`{name}`", (part.__doc__ or "").strip(), _plain(part), f"{name}.")]
    for inner, its in _parts(part).items():
        page += _sections(f"{name}.{inner}", its)
    return page


def _parts(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """The fields of a model that are parts of settings, by name."""
    kinds = {name: field.annotation for name, field in model.model_fields.items()}
    return {name: kind for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, BaseModel)}


def _plain(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The model's other fields: plain settings, by name."""
    return {name: field for name, field in model.model_fields.items() if name not in _parts(model)}


def _section(title: str, text: str, fields: dict[str, FieldInfo], prefix: str) -> str:
    rows = [f"## {title}", "", " ".join(text.split()), "", "| setting | default | values | meaning |", "|---|---|---|---|"]
    for name, field in fields.items():
        rows.append(f"| `{prefix}{name}` | `{_default(field)}` | {_values(field)} | {field.description or ''} |")
    return "\n".join(rows) + "\n"


def _default(field: FieldInfo) -> str:
    value = field.default
    return json.dumps(list(value) if isinstance(value, tuple) else value, default=str)


def _values(field: FieldInfo) -> str:
    """The type and bounds in words, from the field's JSON schema."""
    kind: Any = field.annotation
    for bound in field.metadata:
        kind = Annotated[kind, bound]
    schema = TypeAdapter(kind).json_schema()
    return " or ".join(_option(option) for option in schema.get("anyOf", [schema]))


def _option(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = {"null": "none", "array": "list", "object": "table"}.get(schema.get("type", ""), schema.get("type", ""))
    if schema.get("type") == "array":
        items = schema.get("items", {})
        kind = f"list of {_option(items)}" if isinstance(items, dict) and items else "list"
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return " ".join([kind, *(f"{sign} {schema[bound]}" for bound, sign in signs.items() if bound in schema)])
