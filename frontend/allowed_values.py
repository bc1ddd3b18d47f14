"""The values that a place in a request may have, for the error that says which one it had instead."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from msgspec import inspect

_SEGMENT = re.compile(r"\.(?P<name>\w+)|\[")


def allowed_values(kind: Any, path: str) -> list[str]:
    """Those of the types that are served; none where any may stand.

    Args:
        kind: a type that msgspec converts to.
        path: of the place in it, as msgspec's errors tell it: `.tools[0].type`.
    """
    types = [_type_of(kind)]
    for segment in _SEGMENT.finditer(path):
        types = [inner for outer in types for inner in _inside(outer, segment["name"])]
    values = [value for found in types for value in _values(found)]
    return [str(value) for value in dict.fromkeys(values)]


@lru_cache(maxsize=64)
def _type_of(kind: Any) -> inspect.Type:
    return inspect.type_info(kind)


def _inside(outer: inspect.Type, name: str | None) -> Iterator[inspect.Type]:
    """Types of the outer one's field of that name, or of its elements."""
    match outer:
        case inspect.Metadata(inner):
            yield from _inside(inner, name)
        case inspect.UnionType(members):
            for member in members:
                yield from _inside(member, name)
        case inspect.ListType(item) if name is None:
            yield item
        case inspect.DictType(value_type=value) if name is None:
            yield value
        case inspect.StructType():
            # A kind that takes any fields is there to be refused by its name.
            if outer.tag_field is not None and outer.tag_field == name and outer.forbid_unknown_fields:
                yield inspect.LiteralType((outer.tag,))
            yield from (field.type for field in outer.fields if field.encode_name == name)


def _values(found: inspect.Type) -> Iterator[Any]:
    match found:
        case inspect.LiteralType(values):
            yield from values
        case inspect.Metadata(inner):
            yield from _values(inner)
        case inspect.UnionType(members):
            for member in members:
                yield from _values(member)
