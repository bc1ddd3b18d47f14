"""What becomes of each field of a request body: one table for each endpoint decides and documents.

A field is *honoured* (its type and meaning are in the endpoint's request record), *ignored* because it cannot
change the answer, or *refused* because it would and is not served. Values that ask for nothing (`neutral`)
are accepted everywhere, and so is null. A field that is not in the table is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from gpt_oss_triton.errors import InvalidRequest, UnsupportedParameter


@dataclass(frozen=True, slots=True)
class Field:
    """One row.

    Attributes:
        kind: type of an ignored or refused field's value.
        neutral: values of a refused field that ask for nothing.
        why: for the reader of the documentation.
    """

    treatment: Literal["honoured", "ignored", "refused"]
    why: str
    kind: Any = Any
    neutral: tuple[Any, ...] = ()


def honoured(why: str) -> Field:
    return Field("honoured", why)


def ignored(kind: Any, why: str) -> Field:
    return Field("ignored", why, kind)


def refused(kind: Any, why: str, *neutral: Any) -> Field:
    return Field("refused", why, kind, neutral)


def take(body: dict[str, Any], table: Mapping[str, Field]) -> dict[str, Any]:
    """The honoured fields of a body that are not null.

    Raises:
        InvalidRequest: a field is unknown, or has the wrong type.
        UnsupportedParameter: a refused field asks for something.
    """
    taken: dict[str, Any] = {}
    for name, value in body.items():
        field = table.get(name)
        if field is None:
            raise InvalidRequest(f"Unknown field: {name[:64]!r}.", param=name[:64])
        if value is None:
            continue
        if field.treatment == "honoured":
            taken[name] = value
            continue
        try:
            msgspec.convert(value, field.kind)
        except msgspec.ValidationError as error:
            message = str(error).partition(" - at ")[0]
            raise InvalidRequest(f"{name}: {message}.", param=name) from None
        if field.treatment == "refused" and value not in field.neutral:
            raise UnsupportedParameter(f"{name} is not supported here: {field.why}.", param=name)
    return taken
