"""What a client makes of a streamed answer: the message that it would have got unstreamed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any


def records(events: Iterable[bytes]) -> list[dict[str, Any]]:
    found = []
    for event in events:
        assert event.startswith(b"data: ")
        assert event.endswith(b"\n\n")
        assert event.count(b"\n") == 2, "one line"
        if event != b"data: [DONE]\n\n":
            found.append(json.loads(event[6:]))
    return found


def folded(chunks: Iterable[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """The choices, by their index. Asserts what every stream keeps to."""
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            known = choices.setdefault(choice["index"], {"message": {"role": None, "content": None}})
            assert "finish_reason" not in known, "nothing comes after the end"
            assert ("role" in choice["delta"]) == (known["message"]["role"] is None), (
                "the role comes once, first"
            )
            _add(known, choice)
    return choices


def _add(known: dict[str, Any], choice: dict[str, Any]) -> None:
    message = known["message"]
    for name, value in choice["delta"].items():
        if name == "tool_calls":
            for call in value:
                _add_call(message.setdefault("tool_calls", []), call)
        elif value is not None:
            message[name] = (message.get(name) or "") + value
    if choice["logprobs"] is not None:
        known.setdefault("logprobs", {"content": [], "refusal": None})["content"] += choice["logprobs"][
            "content"
        ]
    if choice["finish_reason"] is not None:
        known["finish_reason"] = choice["finish_reason"]
    if "token_ids" in choice:
        known["token_ids"] = choice["token_ids"]


def _add_call(calls: list[dict[str, Any]], call: dict[str, Any]) -> None:
    index = call["index"]
    if index == len(calls):
        assert call["id"].startswith("call_")
        assert call["function"]["arguments"] == ""
        calls.append({"id": call["id"], "type": call["type"], "function": dict(call["function"])})
        return
    assert index == len(calls) - 1, "calls come one after the other"
    assert call.keys() == {"index", "function"}, "id, type and name come once"
    assert call["function"].keys() == {"arguments"}
    calls[index]["function"]["arguments"] += call["function"]["arguments"]
