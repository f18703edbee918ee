"""The settings as a Markdown document: `relevance settings`, and docs/settings.md."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from relevance_core.config import Settings

HEADER = """# Settings

Every setting, its default and what it means. Give them in a TOML or YAML file (`--settings FILE`), as one JSON object in the
environment (`RELEVANCE_SETTINGS`), or one at a time (`--set train.epochs=1`); the later wins. A list may be given as `a,b`. An
unknown name or a value out of bounds stops the command before it begins. This page is printed by `relevance settings`.
"""


def as_markdown() -> str:
    """The whole page."""
    plain = {name: field for name, field in Settings.model_fields.items() if not _is_part(field)}
    parts = {name: field.annotation for name, field in Settings.model_fields.items() if _is_part(field)}
    page = [HEADER, _section("The run", "What a run is about.", plain, "")]
    for name, part in parts.items():
        if part is not None:
            page.append(_section(f"`{name}`", (part.__doc__ or "").strip(), part.model_fields, f"{name}."))
    return "\n".join(page)


def _section(title: str, text: str, fields: dict[str, FieldInfo], prefix: str) -> str:
    rows = [f"## {title}", "", " ".join(text.split()), "", "| setting | default | values | meaning |", "|---|---|---|---|"]
    for name, field in fields.items():
        rows.append(f"| `{prefix}{name}` | `{_default(field)}` | {_values(field)} | {field.description or ''} |")
    return "\n".join(rows) + "\n"


def _is_part(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


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
    return " ".join([kind, *(f"{sign} {schema[bound]:g}" for bound, sign in signs.items() if bound in schema)])
