"""The OpenAPI description of request bodies, made from the types and the tables that check them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from frontend.field_policy import Field

_REFS = "#/components/schemas/{name}"


def body_schema(*names: str) -> dict[str, Any]:
    """A route's `openapi_extra`: its body is one of these request records."""
    refs = [{"$ref": _REFS.format(name=name)} for name in names]
    schema = refs[0] if len(refs) == 1 else {"anyOf": refs}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def add_schemas(document: dict[str, Any], requests: Mapping[type, Mapping[str, Field]]) -> None:
    """Put the request records' schemas where the routes' references point to.

    Args:
        requests: what becomes of the fields of each record's body.
    """
    _, schemas = msgspec.json.schema_components(requests, ref_template=_REFS)
    for request, fields in requests.items():
        _describe(schemas[request.__name__], fields)
    document.setdefault("components", {}).setdefault("schemas", {}).update(schemas)


def _describe(schema: dict[str, Any], fields: Mapping[str, Field]) -> None:
    schema["additionalProperties"] = False
    for name, field in fields.items():
        if field.treatment == "ignored":
            schema["properties"][name] = msgspec.json.schema(field.kind)
        elif field.treatment == "refused":
            schema["properties"][name] = {"enum": [*field.neutral, None]}
        schema["properties"][name]["description"] = f"{field.treatment}: {field.why}"
