"""JSON Schema as the TypeScript-like types that gpt-oss was trained to read its functions' parameters in.

Where the harmony library renders a schema faithfully this renders the same text: comments above a property,
its default behind it, four blanks for each level, `oneOf` one variant a line. The deliberate differences are
where the library loses or breaks something:

- `anyOf`, `allOf`, `const`, local `$ref`, `null`, tuples, maps and enums of anything but strings, which are
  `any` there, are written as types; what refers to itself is named where it comes again.
- Bounds, lengths, patterns and formats follow the default in the comment behind a property.
- A union in an array is bracketed. A property's name that is no identifier is quoted.
- Every line of a comment is one. The description of an object property stands above it once, not twice, and that of
  a union's first variant is not lost.
- An object without properties is `object` inside of other types, and no parameter at all as a function's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from gpt_oss_triton.harmony.schema_comments import (
    as_json,
    comment_lines,
    notes_behind,
    remarks_above,
    text_of,
)

_MAX_TYPES = 20_000  # of all functions; references can make a small schema large
_MAX_DEPTH = 64
_IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
_INDENT = "    "
_TYPES = {"string", "number", "boolean", "object", "null"}


class SchemaTooLarge(Exception):
    """The types would be nested too deeply, or be too many."""


class TypeWriter:
    """Writes the types of one prompt, which has a bound for all of them together."""

    def __init__(self) -> None:
        self._types = 0
        self._root: dict[str, Any] = {}  # schema that is being written
        self._open: list[str] = []  # references that are being written out

    def parameter_type(self, schema: dict[str, Any]) -> str | None:
        """The type of a function's one parameter; None for a function that takes nothing.

        Raises:
            SchemaTooLarge: more than 64 levels, or 20,000 types in all, with references written out.
        """
        if _is_empty_object(schema):
            return None
        self._root = schema
        comment = "".join(f"{line}\n" for line in comment_lines(text_of(schema, "description")))
        return comment + self._type_of(schema, "", 0)

    def _type_of(self, schema: Any, indent: str, depth: int) -> str:
        """`indent` is that of the properties, where it is an object."""
        self._types += 1
        if self._types > _MAX_TYPES or depth > _MAX_DEPTH:
            raise SchemaTooLarge
        if not isinstance(schema, dict):
            return "any"
        written = self._plain_type(schema, indent, depth + 1)
        if schema.get("nullable") is True and not re.search(r"\bnull\b", written):
            written += " | null"
        return written

    def _plain_type(self, schema: dict[str, Any], indent: str, depth: int) -> str:
        if isinstance(reference := schema.get("$ref"), str):
            return self._reference(reference, indent, depth)
        if isinstance(values := schema.get("enum"), list) and values:
            return " | ".join(as_json(value) for value in values)
        if "const" in schema:
            return as_json(schema["const"])
        if variants := _variants(schema):
            if _in_lines(schema, variants):
                return "".join(f"\n{indent} | {line}" for line in self._lines(variants, indent, depth))
            return _union(self._type_of(variant, indent, depth) for variant in variants)
        if isinstance(parts := schema.get("allOf"), list) and parts:
            written = [self._type_of(part, indent, depth) for part in parts]
            return written[0] if len(written) == 1 else " & ".join(map(_bracketed, written))
        kind = schema.get("type")
        if isinstance(kind, list):
            return _union(self._named(name, schema, indent, depth) for name in kind)
        if kind is None and isinstance(schema.get("properties"), dict):
            kind = "object"
        return self._named(kind, schema, indent, depth)

    def _named(self, kind: Any, schema: dict[str, Any], indent: str, depth: int) -> str:
        if kind == "object":
            return self._object(schema, indent, depth)
        if kind == "array":
            return self._array(schema, indent, depth)
        if kind == "integer":
            return "number"
        return kind if isinstance(kind, str) and kind in _TYPES else "any"

    def _reference(self, reference: str, indent: str, depth: int) -> str:
        name = reference.rpartition("/")[2]
        target = _resolve(self._root, reference)
        if reference in self._open:
            return name if _IDENTIFIER.fullmatch(name) else "any"
        self._open.append(reference)
        written = self._type_of(target, indent, depth)
        self._open.pop()
        return written

    def _array(self, schema: dict[str, Any], indent: str, depth: int) -> str:
        if isinstance(places := schema.get("prefixItems"), list) and places:
            return f"[{', '.join(self._type_of(place, indent, depth) for place in places)}]"
        if "items" not in schema:
            return "Array<any>"
        return f"{_bracketed(self._type_of(schema['items'], indent, depth))}[]"

    def _object(self, schema: dict[str, Any], indent: str, depth: int) -> str:
        properties = schema.get("properties")
        if not isinstance(properties, dict) or not properties:
            values = schema.get("additionalProperties")
            if isinstance(values, dict):
                return f"{{ [key: string]: {self._type_of(values, indent + _INDENT, depth)} }}"
            return "object"
        required = schema.get("required")
        required = required if isinstance(required, list) else []
        lines = ["{"]
        for name, value in properties.items():
            mark = "" if name in required else "?"
            lines += self._property(f"{_name(name)}{mark}", value, indent, depth)
        return "\n".join([*lines, f"{indent}}}"])

    def _property(self, name: str, schema: Any, indent: str, depth: int) -> list[str]:
        if not isinstance(schema, dict):
            return [f"{indent}{name}: any,"]
        schema = self._with_description(schema)
        lines = remarks_above(schema, indent)
        variants = _variants(schema)
        if "$ref" not in schema and _in_lines(schema, variants):
            lines += [f"{indent}// {note}" for note in notes_behind(schema)]
            lines.append(f"{indent}{name}:")
            lines += [f"{indent} | {line}" for line in self._lines(variants, indent, depth, schema)]
            return [*lines, f"{indent},"]
        notes = ", ".join(notes_behind(schema))
        written = self._type_of(schema, indent + _INDENT, depth)
        return [*lines, f"{indent}{name}: {written}," + (f" // {notes}" if notes else "")]

    def _with_description(self, schema: dict[str, Any]) -> dict[str, Any]:
        """A reference's target says what the property is, where the property itself does not."""
        target = _resolve(self._root, schema["$ref"]) if isinstance(schema.get("$ref"), str) else None
        return {**target, **schema} if isinstance(target, dict) else schema

    def _lines(
        self, variants: list[Any], indent: str, depth: int, owner: dict[str, Any] | None = None
    ) -> list[str]:
        """One variant a line; its description is left out where it says what the owner's does."""
        lines = []
        for variant in variants:
            written = self._type_of(variant, f"{indent}   ", depth)
            description = text_of(variant, "description")
            if owner is not None and description == text_of(owner, "description"):
                description = ""
            notes = " ".join(filter(None, [*description.split(), ", ".join(notes_behind(variant))]))
            lines.append(written + (f" // {notes}" if notes else ""))
        return lines


_UNTYPED = {"$ref", "enum", "const", "oneOf", "anyOf", "allOf", "patternProperties"}


def _is_empty_object(schema: dict[str, Any]) -> bool:
    return (
        schema.get("type", "object") == "object"
        and not schema.get("properties")
        and not isinstance(schema.get("additionalProperties"), dict)
        and not _UNTYPED & schema.keys()
    )


def _resolve(root: dict[str, Any], reference: str) -> Any:
    """What a local reference points to; None for any other."""
    if not reference.startswith("#"):
        return None
    found: Any = root
    for part in filter(None, reference[1:].split("/")):
        key = part.replace("~1", "/").replace("~0", "~")
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _variants(schema: dict[str, Any]) -> list[Any]:
    for keyword in ("oneOf", "anyOf"):
        if isinstance(variants := schema.get(keyword), list) and variants:
            return variants
    return []


def _in_lines(schema: dict[str, Any], variants: list[Any]) -> bool:
    if not variants:
        return False
    return "oneOf" in schema or any(text_of(v, "description") or notes_behind(v) for v in variants)


def _union(types: Iterable[str]) -> str:
    return " | ".join(dict.fromkeys(types))


def _bracketed(written: str) -> str:
    return f"({written})" if " | " in written and not written.endswith("}") else written


def _name(name: str) -> str:
    return name if _IDENTIFIER.fullmatch(name) else as_json(name)
