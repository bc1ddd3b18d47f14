from __future__ import annotations

import json
from typing import Any

import pytest

from frontend.caller import Caller
from frontend.chat_request import Chat, read_chat
from frontend.reasoning_memory import ReasoningMemory

MINE, OTHER, ROTATED = Caller("a", "normal", salt="1"), Caller("b", "normal"), Caller("a", "normal", salt="2")
USER = {"role": "user", "content": "hi"}


def calling(call_id: str, **fields: Any) -> list[dict[str, Any]]:
    function = {"name": "f", "arguments": "{}"}
    return [
        {
            "role": "assistant",
            "tool_calls": [{"id": call_id, "type": "function", "function": function}],
            **fields,
        },
        {"role": "tool", "tool_call_id": call_id, "content": "42"},
    ]


def chat(*messages: dict[str, Any]) -> Chat:
    return read_chat(json.dumps({"model": "m", "messages": [USER, *messages]}).encode())


def reasonings(chat: Chat) -> list[str | None]:
    return [message.reasoning for message in chat.prompt.messages if message.role == "assistant"]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_calls_of_the_running_turn_get_theirs() -> None:
    memory = ReasoningMemory(60)
    for number in range(3):
        memory.keep(MINE, f"c{number}", f"thought {number}")
    answer = {"role": "assistant", "content": "done"}
    asked = chat(*calling("c0"), answer, USER, *calling("c1"), *calling("unknown"), *calling("c2"))
    assert reasonings(memory.recall(MINE, asked)) == [None, None, "thought 1", None, "thought 2"]
    assert reasonings(asked) == [None] * 5, "the caller's own is untouched"


@pytest.mark.parametrize("fields", [{"reasoning": ""}, {"reasoning_content": "mine"}])
def test_what_was_sent_stands(fields: dict[str, Any]) -> None:
    memory = ReasoningMemory(60)
    memory.keep(MINE, "c", "thought")
    asked = chat(*calling("c", **fields))
    assert memory.recall(MINE, asked) == asked


@pytest.mark.parametrize("caller", [OTHER, ROTATED])
def test_it_is_the_callers_own(caller: Caller) -> None:
    memory = ReasoningMemory(60)
    memory.keep(MINE, "c", "thought")
    assert reasonings(memory.recall(caller, chat(*calling("c")))) == [None]
    assert reasonings(memory.recall(MINE, chat(*calling("c")))) == ["thought"]


def test_it_is_forgotten_after_its_last_use() -> None:
    clock = Clock()
    memory = ReasoningMemory(10, clock=clock)
    memory.keep(MINE, "c", "thought")
    for _ in range(3):
        clock.now += 9
        assert reasonings(memory.recall(MINE, chat(*calling("c")))) == ["thought"]
    clock.now += 11
    assert reasonings(memory.recall(MINE, chat(*calling("c")))) == [None]


def test_it_is_bounded() -> None:
    memory = ReasoningMemory(60, max_bytes=10_000)
    memory.keep(MINE, "huge", "x" * 20_000)
    for number in range(1000):
        memory.keep(MINE, f"c{number}", "x" * 1000)
    assert reasonings(memory.recall(MINE, chat(*calling("huge")))) == [None]
    asked = chat(*(turn for number in range(1000) for turn in calling(f"c{number}")))
    known = [number for number, text in enumerate(reasonings(memory.recall(MINE, asked))) if text]
    assert known == list(range(1000 - len(known), 1000))
    assert 0 < len(known) < 10


def test_it_can_be_switched_off() -> None:
    memory = ReasoningMemory(0)
    memory.keep(MINE, "c", "thought")
    assert reasonings(memory.recall(MINE, chat(*calling("c")))) == [None]
