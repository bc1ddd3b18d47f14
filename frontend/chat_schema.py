"""The OpenAPI description of the chat endpoint, made from the types and the table that check its requests."""

from __future__ import annotations

from typing import Any

import msgspec

from frontend.chat_fields import FIELDS
from frontend.chat_request import ChatRequest

_REFS = "#/components/schemas/{name}"
_BODY = {"$ref": _REFS.format(name="ChatRequest")}

OPENAPI: dict[str, Any] = {  # for the route
    "requestBody": {"required": True, "content": {"application/json": {"schema": _BODY}}}
}


def add_schemas(document: dict[str, Any]) -> None:
    """Put the request's schemas where the route's references point to."""
    _, schemas = msgspec.json.schema_components([ChatRequest], ref_template=_REFS)
    chat = schemas["ChatRequest"]
    chat["additionalProperties"] = False
    for name, field in FIELDS.items():
        if field.treatment == "ignored":
            chat["properties"][name] = msgspec.json.schema(field.kind)
        elif field.treatment == "refused":
            chat["properties"][name] = {"enum": [*field.neutral, None]}
        chat["properties"][name]["description"] = f"{field.treatment}: {field.why}"
    document.setdefault("components", {}).setdefault("schemas", {}).update(schemas)
