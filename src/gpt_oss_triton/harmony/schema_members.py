"""What the members of a JSON schema's union or intersection (`oneOf`, `anyOf`, `allOf`) add to its own type."""

from __future__ import annotations

from typing import Any

from gpt_oss_triton.harmony.schema_comments import text_of

_SAYS_TYPE = {"$ref", "enum", "const", "oneOf", "anyOf", "allOf"}
_CONTENT = {"properties", "items", "prefixItems", "additionalProperties"}


def variants_of(schema: dict[str, Any]) -> list[Any]:
    """The members of its union; none where it has a type to which they add nothing."""
    for keyword in ("oneOf", "anyOf"):
        members = schema.get(keyword)
        if not isinstance(members, list) or not members:
            continue
        if not _has_type(schema) or any(_adds_type(schema, m) or text_of(m, "description") for m in members):
            return [_as_member(schema, member) for member in members]
    return []


def typed_parts(schema: dict[str, Any]) -> list[Any]:
    """The members of its intersection that say a type."""
    parts = schema.get("allOf")
    if not isinstance(parts, list):
        return []
    return [_as_member(schema, part) for part in parts if _adds_type(schema, part)]


def only_variants(schema: dict[str, Any]) -> bool:
    return "$ref" not in schema and not has_shape(schema) and not typed_parts(schema)


def has_shape(schema: dict[str, Any]) -> bool:
    """Whether its own type, without unions and intersections, is more than a word."""
    return _has_type(schema) and _says_content(schema)


def _has_type(schema: dict[str, Any]) -> bool:
    return "type" in schema or isinstance(schema.get("properties"), dict)


def _says_content(schema: dict[str, Any]) -> bool:
    return any(isinstance(schema.get(keyword), dict | list) and schema[keyword] for keyword in _CONTENT)


def _adds_type(schema: dict[str, Any], member: Any) -> bool:
    """Whether a member says more than what is required, or how large or long something is."""
    if not isinstance(member, dict):
        return False
    if not member.keys().isdisjoint(_SAYS_TYPE) or _says_content(member):
        return True
    return "type" in member and not (has_shape(schema) and member["type"] == schema.get("type", "object"))


def _as_member(schema: dict[str, Any], member: Any) -> Any:
    """A member of the schema's union or intersection, which is of the schema's type unless it says another."""
    if not _has_type(schema):
        return member
    own = {"type": schema.get("type", "object")}
    return {**own, **member} if isinstance(member, dict) else own
