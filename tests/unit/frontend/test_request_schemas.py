from __future__ import annotations

import re
from typing import Any

import pytest

from frontend import chat_fields, completion_fields
from frontend.app import create_app
from frontend.responses import fields as response_fields
from gpt_oss_triton.config import FrontendSettings

BODIES = {
    "/v1/chat/completions": "ChatRequest",
    "/v1/chat/completions/render": "ChatRequest",
    "/v1/completions": "CompletionRequest",
    "/v1/responses": "CreateResponse",
    "/detokenize": "DetokenizeRequest",
}
TABLES = {
    "ChatRequest": chat_fields.FIELDS,
    "CompletionRequest": completion_fields.FIELDS,
    "CreateResponse": response_fields.FIELDS,
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app(FrontendSettings()).openapi()


@pytest.mark.parametrize("path", BODIES)
def test_each_body_is_described(document: dict[str, Any], path: str) -> None:
    body = document["paths"][path]["post"]["requestBody"]
    assert body["content"]["application/json"]["schema"] == {"$ref": f"#/components/schemas/{BODIES[path]}"}


@pytest.mark.parametrize("name", TABLES)
def test_every_field_says_what_becomes_of_it(document: dict[str, Any], name: str) -> None:
    properties = document["components"]["schemas"][name]["properties"]
    assert {field: schema["description"].partition(": ")[0] for field, schema in properties.items()} == {
        field: row.treatment for field, row in TABLES[name].items()
    }


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    known = document["components"]["schemas"].keys()

    def references(value: Any) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
            return own.union(*(references(v) for v in value.values()))
        return set().union(*(references(v) for v in value)) if isinstance(value, list) else set()

    assert {ref.rpartition("/")[2] for ref in references(document)} <= known


def test_every_pattern_is_one_of_javascript(document: dict[str, Any]) -> None:
    def patterns(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["pattern"]] if isinstance(value.get("pattern"), str) else []
            return own + [found for v in value.values() for found in patterns(v)]
        return [found for v in value for found in patterns(v)] if isinstance(value, list) else []

    found = patterns(document["components"]["schemas"])
    assert found
    only_pythons = re.compile(r"\\[AZz]|\(\?P|\(\?[aiLmsux]")
    assert not [pattern for pattern in found if only_pythons.search(pattern)]
