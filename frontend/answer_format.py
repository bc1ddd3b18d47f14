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
    """A schema is enforced in any case; `strict` refuses one that cannot be enforced in every word."""

    name: FunctionName
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class JsonSchemaFormat(Struct, tag_field="type", tag="json_schema", forbid_unknown_fields=True):
    json_schema: JsonSchema


Format = TextFormat | JsonObjectFormat | JsonSchemaFormat


class Form(Struct, frozen=True):
    """Attributes:
    schema: what the answer is held to; None for free text.
    strict: to all of it; else what cannot be enforced is left to the model.
    told: what the prompt says of it.
    """

    schema: dict[str, Any] | None = None
    strict: bool = True
    told: ResponseFormat | None = None


def read_format(wanted: Format) -> Form:
    """
    Raises:
        InvalidRequest: the schema cannot be enforced; where it is not strict, only if it is no schema.
    """
    match wanted:
        case TextFormat():
            return Form()
        case JsonObjectFormat():
            return Form(ANY_OBJECT)
        case JsonSchemaFormat(json_schema):
            schema = json_schema.schema if json_schema.schema is not None else ANY_OBJECT
            strict = bool(json_schema.strict)
            check_enforceable(schema, _SCHEMA_PARAM, strict=strict)
            told = ResponseFormat(json_schema.name, schema, json_schema.description or "")
            return Form(schema, strict, told)
