"""The examination's own check of JSON against the corpus's schemas agrees with a schema validator."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest

from gpt_oss_triton.demo.conformity import conforms

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "choice": {"type": "string", "enum": ["red", "blue"]},
        "count": {"type": "integer"},
        "size": {"type": "number"},
        "on": {"type": "boolean"},
        "names": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["text"],
    "additionalProperties": False,
}
FULL = {"text": "a", "choice": "red", "count": 1, "size": 1.5, "on": True, "names": ["a", "b"]}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"text": 1},
        {"choice": "green"},
        {"count": 1.5},
        {"count": True},
        {"count": "1"},
        {"size": 1},
        {"size": False},
        {"on": 1},
        {"on": None},
        {"names": []},
        {"names": ["a", 1]},
        {"names": "a"},
        {"more": 1},
    ],
    ids=str,
)
def test_values(change: dict[str, Any]) -> None:
    assert conforms(FULL | change, SCHEMA) is jsonschema_rs.is_valid(SCHEMA, FULL | change)


@pytest.mark.parametrize("value", [None, [], "", {}, {"count": 1}, {"text": "a"}], ids=str)
def test_what_is_missing(value: Any) -> None:
    assert conforms(value, SCHEMA) is jsonschema_rs.is_valid(SCHEMA, value)
