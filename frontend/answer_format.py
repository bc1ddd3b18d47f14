"""The form that an answer has to have: free text, JSON, or JSON by a schema."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from frontend.chat_messages import FunctionName
from gpt_oss_triton.harmony.grammar import ANY_OBJECT, check_enforceable
from gpt_oss_triton.wire import ResponseFormat

_SCHEMA_PARAM = "response_format.json_schema.schema"


class TextFormat(Struct, tag_field="type", tag="text", forbid_unknown_fields=True, frozen=True):
    pass


class JsonObjectFormat(Struct, tag_field="type", tag="json_object", forbid_unknown_fields=True):
    pass


class JsonSchema(Struct, forbid_unknown_fields=True):
    """`strict` changes nothing: a schema is enforced in any case."""

    name: FunctionName
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class JsonSchemaFormat(Struct, tag_field="type", tag="json_schema", forbid_unknown_fields=True):
    json_schema: JsonSchema


Format = TextFormat | JsonObjectFormat | JsonSchemaFormat


def read_format(wanted: Format) -> tuple[dict[str, Any] | None, ResponseFormat | None]:
    """The schema that the answer is held to, and what the prompt says of it; None for free text.

    Raises:
        InvalidRequest: the schema cannot be enforced.
    """
    match wanted:
        case TextFormat():
            return None, None
        case JsonObjectFormat():
            return ANY_OBJECT, None
        case JsonSchemaFormat(json_schema):
            schema = json_schema.schema if json_schema.schema is not None else ANY_OBJECT
            check_enforceable(schema, _SCHEMA_PARAM)
            return schema, ResponseFormat(json_schema.name, schema, json_schema.description or "")
