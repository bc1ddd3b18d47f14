"""What a JSON schema says beside types, as comments."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

_BOUNDS = (
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern",
    "format", "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties",
)  # fmt: skip


def remarks_above(schema: dict[str, Any], indent: str) -> Iterator[str]:
    """The comments above a property, made one at a time, so that their reader can stop."""
    if title := text_of(schema, "title"):
        yield from comment_lines(title, indent)
        yield f"{indent}//"
    yield from comment_lines(text_of(schema, "description"), indent)
    if isinstance(examples := schema.get("examples"), list) and examples:
        yield f"{indent}// Examples:"
        for example in examples:
            yield f"{indent}// - {as_json(example)}"


def notes_behind(schema: Any) -> list[str]:
    """What stands behind a type: its default, and its bounds."""
    if not isinstance(schema, dict):
        return []
    notes = []
    if "default" in schema:
        default = schema["default"]
        bare = isinstance(default, str) and schema.get("enum") and "\n" not in default
        notes.append(f"default: {default if bare else as_json(default)}")
    notes += [f"{name}: {_bare(schema[name])}" for name in _BOUNDS if name in schema]
    if schema.get("type") == "array":
        notes += [
            f"items {note}" for note in notes_behind(schema.get("items")) if not note.startswith("default")
        ]
    return notes


def _bare(value: Any) -> str:
    return value if isinstance(value, str) and value.isprintable() else as_json(value)


def text_of(schema: Any, name: str) -> str:
    """A keyword's text; "" where it has none."""
    text = schema.get(name) if isinstance(schema, dict) else None
    return text if isinstance(text, str) else ""


def comment_lines(text: str, indent: str = "") -> Iterator[str]:
    """A comment for each line of the text."""
    return (f"{indent}// {line}" for line in text.splitlines())


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
