"""Whether a value is what a flat JSON schema of the corpus asks for: checked apart from the grammar that enforced it."""

from __future__ import annotations

from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


def conforms(value: Any, schema: dict[str, Any]) -> bool:
    """For the keywords type, enum, items, properties and required; of an object, no other properties are allowed."""
    kind: str = schema["type"]
    if not isinstance(value, _TYPES[kind]) or value not in schema.get("enum", [value]):
        return False
    if isinstance(value, bool):  # which Python takes for a number
        return kind == "boolean"
    if isinstance(value, list):
        return all(conforms(item, schema["items"]) for item in value)
    if isinstance(value, dict):
        properties = schema["properties"]
        return set(schema["required"]) <= value.keys() <= properties.keys() and all(
            conforms(item, properties[name]) for name, item in value.items()
        )
    return True
