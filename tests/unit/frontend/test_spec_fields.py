"""Every field of OpenAI's specification has its row in the tables that decide."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from frontend import chat_fields, completion_fields
from frontend.field_policy import Field
from frontend.responses import fields as response_fields

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
