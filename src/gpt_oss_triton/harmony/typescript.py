"""JSON Schema as the TypeScript-like types that gpt-oss was trained to read its functions' parameters in.

Where the harmony library renders a schema faithfully this renders the same text: comments above a property,
its default behind it, four blanks for each level, `oneOf` one variant a line. The deliberate differences are
where the library loses or breaks something:

- `anyOf`, `allOf`, `const`, local `$ref`, `null`, tuples, maps and enums of anything but strings, which are
  `any` there, are written as types; what refers to itself is named where it comes again.
- What stands beside `oneOf`, `anyOf` or `allOf` is not lost: where both say what there is they are joined by `&`.
  Members that only bound or require something leave the type as it is, also where the library writes `any`.
- Bounds, lengths, patterns and formats follow the default in the comment behind a property.
- A union or an intersection in an array is bracketed. A property's name that is no identifier is quoted.
- Every line of a comment is one. The description of an object property stands above it once, not twice, and that of
  a union's first variant is not lost.
- An object without properties is `object` inside of other types, and no parameter at all as a function's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from gpt_oss_triton.harmony.pointer import resolve
from gpt_oss_triton.harmony.schema_comments import (
    as_json,
    comment_lines,
    notes_behind,
    remarks_above,
    text_of,
)
from gpt_oss_triton.harmony.schema_members import has_shape, only_variants, typed_parts, variants_of

_MAX_TYPES = 20_000  # of all functions; references can make a small schema large
_MAX_CHARACTERS = 1_048_576  # of all functions: eight a token of the longest context; types take four
_MAX_DEPTH = 64
_IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
_INDENT = "    "
_TYPES = {"string", "number", "boolean", "object", "null"}


class SchemaTooLarge(Exception):
    """The types would be nested too deeply, too many or too long."""


class _Compound(str):
    """A union or an intersection: within another type it is bracketed."""


class TypeWriter:
    """Writes the types of one prompt, which has bounds for all of them together."""

    def __init__(self) -> None:
        self._types = 0
        self._characters = 0
        self._root: dict[str, Any] = {}  # schema that is being written
        self._open: list[str] = []  # references that are being written out

    def parameter_type(self, schema: dict[str, Any]) -> str | None:
        """The type of a function's one parameter; None for a function that takes nothing.

        Raises:
            SchemaTooLarge: more than 64 levels, or 20,000 types or 1,048,576 characters in all, with references
                written out. It is found while they are written.
        """
        if _is_empty_object(schema):
            return None
        self._root = schema
        lines = comment_lines(text_of(schema, "description"))
        comment = "".join(f"{self._charged(line)}\n" for line in lines)
        return comment + self._type_of(schema, "", 0)

    def _charged(self, text: str) -> str:
        """The text, counted. Every piece is when it is made; those that are put together of others are not again."""
        self._spend(len(text))
        return text

    def _spend(self, characters: int) -> None:
        self._characters += characters
        if self._characters > _MAX_CHARACTERS:
            raise SchemaTooLarge

    def _type_of(self, schema: Any, indent: str, depth: int) -> str:
        """`indent` is that of the properties, where it is an object."""
        self._types += 1
        if self._types > _MAX_TYPES or depth > _MAX_DEPTH:
            raise SchemaTooLarge
        if not isinstance(schema, dict):
            return "any"
        self._spend(_parts(schema))  # what is read and not written takes time as well
        written = self._plain_type(schema, indent, depth + 1)
        if schema.get("nullable") is True and not re.search(r"\bnull\b", written):
            return _Compound(f"{written}{_line_break(written, indent)} | null")
        return written

    def _plain_type(self, schema: dict[str, Any], indent: str, depth: int) -> str:
        if isinstance(reference := schema.get("$ref"), str):
            return self._reference(reference, indent, depth)
        if isinstance(values := schema.get("enum"), list) and values:
            return _joined(" | ", [self._charged(as_json(value)) for value in values])
        if "const" in schema:
            return self._charged(as_json(schema["const"]))
        types = [self._own_type(schema, indent, depth)] if has_shape(schema) else []
        if variants := variants_of(schema):
            types.append(self._union(schema, variants, indent, depth))
        types += [self._type_of(part, indent, depth) for part in typed_parts(schema)]
        if not types:
            return self._own_type(schema, indent, depth)
        return _all_of(types, indent)

    def _union(self, schema: dict[str, Any], variants: list[Any], indent: str, depth: int) -> str:
        if not _in_lines(schema, variants):
            return _alternatives(self._type_of(variant, indent, depth) for variant in variants)
        return _Compound("".join(f"\n{indent} | {line}" for line in self._lines(variants, indent, depth)))

    def _own_type(self, schema: dict[str, Any], indent: str, depth: int) -> str:
        """What it says without its unions and intersections."""
        kind = schema.get("type")
        if isinstance(kind, list) and kind:
            return _alternatives(self._named(name, schema, indent, depth) for name in kind)
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
        self._spend(len(reference))
        name = reference.rpartition("/")[2]
        target = self._target(reference)
        if reference in self._open:
            return name if _IDENTIFIER.fullmatch(name) else "any"
        self._open.append(reference)
        written = self._type_of(target, indent, depth)
        self._open.pop()
        return written

    def _target(self, reference: str) -> Any:
        """What it points to; None for what is not in the schema."""
        try:
            return resolve(self._root, reference)
        except LookupError:
            return None

    def _array(self, schema: dict[str, Any], indent: str, depth: int) -> str:
        if isinstance(places := schema.get("prefixItems"), list) and places:
            return f"[{', '.join(self._type_of(place, indent, depth) for place in places)}]"
        if "items" not in schema:
            return "Array<any>"
        return f"{_bracketed(self._type_of(schema['items'], indent, depth), indent)}[]"

    def _object(self, schema: dict[str, Any], indent: str, depth: int) -> str:
        properties = schema.get("properties")
        if not isinstance(properties, dict) or not properties:
            values = schema.get("additionalProperties")
            if isinstance(values, dict):
                return f"{{ [key: string]: {self._type_of(values, indent + _INDENT, depth)} }}"
            return "object"
        required = schema.get("required")
        names = {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()
        lines = ["{"]
        for name, value in properties.items():
            mark = "" if name in names else "?"
            lines += self._property(f"{_name(name)}{mark}", value, indent, depth)
        return "\n".join([*lines, self._charged(f"{indent}}}")])

    def _property(self, name: str, schema: Any, indent: str, depth: int) -> list[str]:
        head = self._charged(f"{indent}{name}:")
        if not isinstance(schema, dict):
            return [f"{head} any,"]
        schema = self._with_description(schema)
        lines = [self._charged(line) for line in remarks_above(schema, indent)]
        if only_variants(schema) and _in_lines(schema, variants := variants_of(schema)):
            lines += [self._charged(f"{indent}// {note}") for note in notes_behind(schema)]
            lines.append(head)
            lines += [f"{indent} | {line}" for line in self._lines(variants, indent, depth, schema)]
            return [*lines, f"{indent},"]
        notes = self._charged(", ".join(notes_behind(schema)))
        written = self._type_of(schema, indent + _INDENT, depth)
        return [*lines, f"{head} {written}," + (f" // {notes}" if notes else "")]

    def _with_description(self, schema: dict[str, Any]) -> dict[str, Any]:
        """A reference's target says what the property is, where the property itself does not."""
        target = self._target(schema["$ref"]) if isinstance(schema.get("$ref"), str) else None
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
            self._spend(len(indent) + len(notes))
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


def _parts(schema: dict[str, Any]) -> int:
    return len(schema) + sum(len(value) for value in schema.values() if isinstance(value, dict | list))


def _in_lines(schema: dict[str, Any], variants: list[Any]) -> bool:
    if not variants:
        return False
    return "oneOf" in schema or any(text_of(v, "description") or notes_behind(v) for v in variants)


def _alternatives(types: Iterable[str]) -> str:
    return _joined(" | ", list(dict.fromkeys(types)))


def _all_of(types: list[str], indent: str) -> str:
    telling = [each for each in types if each not in ("any", "object")] or types[:1]
    return telling[0] if len(telling) == 1 else _joined(" & ", [_bracketed(each, indent) for each in telling])


def _joined(sign: str, types: list[str]) -> str:
    return types[0] if len(types) == 1 else _Compound(sign.join(types))


def _bracketed(written: str, indent: str) -> str:
    return f"({written}{_line_break(written, indent)})" if isinstance(written, _Compound) else written


def _line_break(written: str, indent: str) -> str:
    """Behind a union that has a line for each variant: the last one may end with a comment."""
    return f"\n{indent}" if written.startswith("\n") else ""


def _name(name: str) -> str:
    return name if _IDENTIFIER.fullmatch(name) else as_json(name)
