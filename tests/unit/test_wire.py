"""Records that differ in what they say have different fingerprints; those that differ in what is said of them have not."""

from __future__ import annotations

from typing import Any

import msgspec

from gpt_oss_triton.wire import form_of


def record(fields: dict[str, Any], doc: str = "") -> type[msgspec.Struct]:
    return msgspec.defstruct("Record", fields.items(), namespace={"__doc__": doc})


def test_the_form_of_records() -> None:
    form = form_of(record({"name": str, "description": str}))
    assert form == form_of(record({"name": str, "description": str}, "What it is."))
    assert form != form_of(record({"name": str, "description": int}))
    assert form != form_of(record({"name": str}))
    assert form != form_of(record({"name": int, "description": str}))
