"""A body's honoured fields as a request record, and an error that says where they do not fit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec

from frontend import field_policy, json_body
from frontend.allowed_values import allowed_values
from frontend.field_policy import Field
from gpt_oss_triton.errors import InvalidRequest

T = TypeVar("T")

_MAX_ECHO_CHARS = 256  # of the caller's own text in an error
_MISSING_OR_UNKNOWN = re.compile(
    r"Object (?P<what>missing required|contains unknown) field `(?P<name>.*)`", re.DOTALL
)


def read_fields(
    body: bytes,
    kind: type[T],
    table: Mapping[str, Field],
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> T:
    """A request record from a body. `defaults` stand in for honoured fields that it leaves out.

    Raises:
        InvalidRequest: `param` is the path of the first field at fault, as in `messages[0].content`.
    """
    fields = {**defaults, **field_policy.take(json_body.read_object(body), table)}
    try:
        return msgspec.convert(fields, kind, str_keys=True)
    except msgspec.ValidationError as error:
        raise invalid(str(error), kind) from None


def invalid(text: str, kind: Any, under: str = "") -> InvalidRequest:
    """msgspec's message, whose end names the place (`… - at `$.prompt[0]``), as our error.

    Args:
        kind: what was converted to.
        under: path of what was converted, where that is a part of the body.
    """
    message, _, place = text.partition(" - at ")
    inner = place.rpartition("`$")[2].strip("`")
    path = under + inner.replace("[...]", "")
    if match := _MISSING_OR_UNKNOWN.fullmatch(message):
        path = f"{path}.{match['name']}"
        message = (
            "This field is required" if match["what"] == "missing required" else "There is no such field"
        )
    path = path.removeprefix(".")[:_MAX_ECHO_CHARS]
    message = message[:_MAX_ECHO_CHARS]
    if message.startswith("Invalid ") and (allowed := allowed_values(kind, inner)):
        message = f"{message}; it may be {', '.join(allowed)}"
    return InvalidRequest(f"{path}: {message}.", param=path or None)
