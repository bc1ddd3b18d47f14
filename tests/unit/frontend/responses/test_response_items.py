from __future__ import annotations

from typing import Any

import pytest

from frontend.chat_messages import read_messages
from frontend.responses.item_turns import read_items
from gpt_oss_triton.errors import InvalidRequest, UnsupportedParameter
from gpt_oss_triton.wire import Message, ToolCall

THOUGHT = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [],
    "content": [{"type": "reasoning_text", "text": "hm"}],
}
CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
OTHER_CALL = {**CALL, "call_id": "c2", "name": "g"}
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "42"}
ANSWER = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "So."}]}


def messages(*items: dict[str, Any]) -> list[Message]:
    return read_messages(read_items(items).turns)


def test_a_text_is_the_users() -> None:
    assert read_messages(read_items("hi").turns) == [Message("user", "hi")]


def test_messages_of_every_role_and_form() -> None:
    parts = [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]
    assert messages(
        {"role": "system", "content": "s"},
        {"type": "message", "role": "developer", "content": parts},
        {"role": "user", "content": parts, "id": "msg_1", "status": "completed"},
        {"role": "assistant", "content": "x", "phase": "final_answer"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
    ) == [
        Message("system", "s"),
        Message("developer", "a\nb"),
        Message("user", "a\nb"),
        Message("assistant", "x"),
        Message("assistant", "no"),
    ]


def test_the_items_of_one_turn_are_one_message_again() -> None:
    assert messages(THOUGHT, CALL, OTHER_CALL, OUTPUT, THOUGHT, ANSWER) == [
        Message("assistant", reasoning="hm", tool_calls=[ToolCall("f", "{}"), ToolCall("g", "{}")]),
        Message("tool", "42", name="f"),
        Message("assistant", "So.", reasoning="hm"),
    ]


def test_a_preamble_belongs_to_its_call() -> None:
    assert messages(THOUGHT, ANSWER, CALL) == [
        Message("assistant", "So.", reasoning="hm", tool_calls=[ToolCall("f", "{}")])
    ]


def test_what_comes_after_a_turns_text_or_calls_begins_another() -> None:
    assert messages(CALL, ANSWER, ANSWER, THOUGHT) == [
        Message("assistant", tool_calls=[ToolCall("f", "{}")]),
        Message("assistant", "So."),
        Message("assistant", "So."),
        Message("assistant", reasoning="hm"),
    ]


def test_thoughts_without_text_are_nothing() -> None:
    summary = [{"type": "summary_text", "text": "in short"}]
    encrypted = {"type": "reasoning", "summary": summary, "encrypted_content": "x", "content": None}
    assert messages(encrypted, ANSWER) == [Message("assistant", "So.")]


def test_thoughts_in_pieces_are_one() -> None:
    assert messages(THOUGHT, THOUGHT, ANSWER) == [Message("assistant", "So.", reasoning="hm\n\nhm")]


def test_a_tools_output_may_be_parts() -> None:
    output = {**OUTPUT, "output": [{"type": "input_text", "text": "4"}, {"type": "input_text", "text": "2"}]}
    assert messages(CALL, output)[1] == Message("tool", "4\n2", name="f")


def test_what_an_item_may_say_without_effect() -> None:
    part = {"type": "input_text", "text": "hi", "prompt_cache_breakpoint": {"mode": "explicit"}}
    direct = {"type": "direct"}
    output = {**OUTPUT, "name": "f", "caller": direct, "output": [{**part, "text": "42"}]}
    assert messages({"role": "user", "content": [part]}, {**CALL, "caller": direct}, output) == [
        Message("user", "hi"),
        Message("assistant", tool_calls=[ToolCall("f", "{}")]),
        Message("tool", "42", name="f"),
    ]


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"type": "web_search_call"}, "input[0].type"),
        ({**CALL, "namespace": "crm"}, "input[0].namespace"),
        ({**OUTPUT, "namespace": "crm"}, "input[0].namespace"),
    ],
)
def test_other_items_are_refused_by_name(item: dict[str, Any], param: str) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        read_items([item])
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"content": "x"}, "input[1].type"),
        ({"type": 5}, "input[1].type"),
        ({"type": []}, "input[1].type"),
        ({"type": {}, "role": "user"}, "input[1].type"),
        ({"role": "user"}, "input[1].content"),
        ({"role": "tool", "content": "x"}, "input[1].role"),
        ({"role": "user", "content": []}, "input[1].content"),
        ({"role": "user", "content": [{"type": "text", "text": "x"}]}, "input[1].content[0].type"),
        ({"role": "user", "content": "x", "name": "y"}, "input[1].name"),
        ({**CALL, "name": "no blanks"}, "input[1].name"),
        ({**CALL, "arguments": {}}, "input[1].arguments"),
        ({**CALL, "caller": {"type": "program", "caller_id": "p"}}, "input[1].caller.type"),
        ({**OUTPUT, "caller": {"type": "program", "caller_id": "p"}}, "input[1].caller.type"),
        ({"type": "function_call_output", "output": "x"}, "input[1].call_id"),
        ({**THOUGHT, "content": [{"type": "text", "text": "x"}]}, "input[1].content[0].type"),
    ],
)
def test_what_is_wrong_in_an_item_is_named(item: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_items([ANSWER, item])
    assert caught.value.param == param
