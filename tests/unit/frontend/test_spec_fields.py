"""Every field of OpenAI's specification has its row in the tables that decide, or its place in the record that is read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from frontend import chat_fields, completion_fields
from frontend.field_policy import Field
from frontend.responses import fields as response_fields
from frontend.responses import items, request

SPEC: dict[str, Any] = json.loads((Path(__file__).parents[2] / "golden" / "openai-2.3.0.json").read_text())
SCHEMAS = SPEC["components"]["schemas"]


def properties(schema: dict[str, Any]) -> Iterator[str]:
    if "$ref" in schema:
        yield from properties(SCHEMAS[schema["$ref"].rpartition("/")[2]])
    yield from schema.get("properties", ())
    for part in schema.get("allOf", ()):
        yield from properties(part)


@pytest.mark.parametrize(
    ("request_schema", "table"),
    [
        ("CreateChatCompletionRequest", chat_fields.FIELDS),
        ("CreateCompletionRequest", completion_fields.FIELDS),
        ("CreateResponse", response_fields.FIELDS),
    ],
)
def test_every_field_is_decided(request_schema: str, table: Mapping[str, Field]) -> None:
    fields = set(properties(SCHEMAS[request_schema]))
    assert len(fields) > 15
    assert fields - table.keys() == set()


def within(part: Any, seen: set[str]) -> Iterator[dict[str, Any]]:
    """All that a part of the specification says or refers to."""
    if isinstance(part, list):
        for element in part:
            yield from within(element, seen)
    elif isinstance(part, dict):
        yield part
        reference = part.get("$ref")
        if isinstance(reference, str) and reference not in seen:
            seen.add(reference)
            yield from within(SCHEMAS[reference.rpartition("/")[2]], seen)
        for value in part.values():
            yield from within(value, seen)


def fields_of(root: str, kind: str) -> set[str]:
    """Those of all the forms in which something of this type may come."""
    fields: set[str] = set()
    for schema in within(SCHEMAS[root], set()):
        own = schema.get("properties")
        if isinstance(own, dict) and any(
            kind in part.get("enum", ()) for part in within(own.get("type"), set())
        ):
            fields |= own.keys()
    return fields


@pytest.mark.parametrize(
    ("root", "kind", "record"),
    [
        *(("InputItem", kind, record) for kind, record in items.KINDS.items()),
        ("InputItem", "item_reference", items.ItemReference),
        ("InputItem", "input_text", items.InputText),
        ("InputItem", "output_text", items.OutputText),
        ("InputItem", "refusal", items.Refusal),
        ("InputItem", "reasoning_text", items.ReasoningText),
        ("InputItem", "direct", items.DirectCaller),
        ("Tool", "function", request.Function),
        ("ToolChoiceParam", "function", request.FunctionChoice),
        ("ToolChoiceParam", "allowed_tools", request.AllowedChoice),
    ],
)
def test_every_field_of_an_item_and_of_a_tool_is_decided(root: str, kind: str, record: type[Struct]) -> None:
    fields = fields_of(root, kind)
    assert "type" in fields
    assert fields - {record.__struct_config__.tag_field, *record.__struct_encode_fields__} == set()
