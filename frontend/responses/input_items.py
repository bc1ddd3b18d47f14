"""A request's input as the items that are listed afterwards: each with an id, content always in parts."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

_ID_OF = {"message": "msg", "reasoning": "rs", "function_call": "fc", "function_call_output": "fco"}


def input_items(given: str | Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items of an input that was read."""
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    return [_listed(item) for item in given]


def _listed(item: dict[str, Any]) -> dict[str, Any]:
    kind = item.get("type", "message")
    listed = {"type": kind, "status": "completed", **item}
    listed["id"] = item.get("id") or f"{_ID_OF[kind]}_{uuid.uuid4().hex}"
    content = item.get("content")
    if kind == "message" and isinstance(content, str):
        part = "output_text" if item["role"] == "assistant" else "input_text"
        listed["content"] = [{"type": part, "text": content}]
    return listed
