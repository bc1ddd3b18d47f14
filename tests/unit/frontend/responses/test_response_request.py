from __future__ import annotations

import json
from typing import Any

import pytest

from frontend.chat_request import Chat, read_chat
from frontend.responses.fields import FIELDS
from frontend.responses.request import CreateResponse, read_response, turns_of
from frontend.responses.translation import chat_from
from gpt_oss_triton.errors import InvalidRequest, UnsupportedParameter
from gpt_oss_triton.wire import Message

MINIMAL = {"model": "m", "input": "hi"}
PARAMETERS = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
FUNCTION = {"type": "function", "name": "f", "description": "F.", "parameters": PARAMETERS, "strict": False}
CHAT_FUNCTION = {"type": "function", "function": {k: v for k, v in FUNCTION.items() if k != "type"}}

# OpenAI's specification 2.3.0, CreateResponse
OPENAI_FIELDS = {
    "background", "conversation", "include", "input", "instructions", "max_output_tokens", "max_tool_calls", "metadata",
    "model", "parallel_tool_calls", "previous_response_id", "prompt", "prompt_cache_key", "prompt_cache_retention",
    "reasoning", "safety_identifier", "service_tier", "store", "stream", "stream_options", "temperature", "text",
    "tool_choice", "tools", "top_logprobs", "top_p", "truncation", "user",
}  # fmt: skip


def read(**fields: Any) -> Chat:
    request = read_response(json.dumps({**MINIMAL, **fields}).encode(), {})
    return chat_from(request, turns_of(request), "medium")


def chat(**fields: Any) -> Chat:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    return read_chat(json.dumps(body).encode())


def test_every_field_of_openai_is_in_the_table() -> None:
    assert FIELDS.keys() >= OPENAI_FIELDS


def test_every_field_of_the_real_client_is_in_the_table() -> None:
    from openai.types.responses import response_create_params as params

    assert FIELDS.keys() >= params.ResponseCreateParamsBase.__annotations__.keys()


def test_the_honoured_fields_are_those_of_the_request() -> None:
    honoured = {name for name, field in FIELDS.items() if field.treatment == "honoured"}
    assert honoured == set(CreateResponse.__struct_fields__)


@pytest.mark.parametrize("name", sorted(FIELDS.keys() - {"model", "input"}))
def test_null_is_as_good_as_absent(name: str) -> None:
    assert read(**{name: None}) == read()


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, field in FIELDS.items() for value in field.neutral]
)
def test_neutral_values_are_accepted(name: str, value: Any) -> None:
    assert read(**{name: value}) == read()


@pytest.mark.parametrize(
    ("of_response", "of_chat"),
    [
        ({}, {}),
        ({"max_output_tokens": 9}, {"max_completion_tokens": 9}),
        ({"reasoning": {"effort": "high", "summary": "auto"}}, {"reasoning_effort": "high"}),
        ({"temperature": 0, "top_p": 0.5, "seed": 3}, {"temperature": 0, "top_p": 0.5, "seed": 3}),
        ({"include": ["message.output_text.logprobs"], "top_logprobs": 2}, {"logprobs": True, "top_logprobs": 2}),
        ({"include": ["reasoning.encrypted_content"]}, {}),
        ({"tools": [FUNCTION]}, {"tools": [CHAT_FUNCTION]}),
        (
            {"tools": [{**FUNCTION, "allowed_callers": ["direct"], "defer_loading": False, "output_schema": {}}]},
            {"tools": [CHAT_FUNCTION]},
        ),
        ({"tools": [FUNCTION], "tool_choice": "required"}, {"tools": [CHAT_FUNCTION], "tool_choice": "required"}),
        (
            {"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "f"}},
            {"tools": [CHAT_FUNCTION], "tool_choice": {"type": "function", "function": {"name": "f"}}},
        ),
        (
            {
                "tools": [FUNCTION],
                "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
            },
            {
                "tools": [CHAT_FUNCTION],
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]},
                },
            },
        ),
        ({"text": {"format": {"type": "json_object"}}}, {"response_format": {"type": "json_object"}}),
        (
            {"text": {"format": {"type": "json_schema", "name": "n", "schema": PARAMETERS, "strict": True}}},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "schema": PARAMETERS, "strict": True},
                }
            },
        ),
    ],
)  # fmt: skip
def test_a_response_is_the_chat_that_says_the_same(
    of_response: dict[str, Any], of_chat: dict[str, Any]
) -> None:
    ours, chats = read(**of_response), chat(**of_chat)
    assert (ours.prompt, ours.options, ours.functions) == (chats.prompt, chats.options, chats.functions)


def test_instructions_come_first() -> None:
    assert read(instructions="Be brief.").prompt.messages == [
        Message("system", "Be brief."),
        Message("user", "hi"),
    ]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": []}, "input"),
        ({"input": [{"type": "reasoning", "summary": []}]}, "input"),
        ({"input": 5}, "input"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}, "input[0].call_id"),
        ({"input": [{"role": "user", "content": "\x00"}, "x"]}, "input[1]"),
        ({"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
                    {"type": "function_call_output", "call_id": "c", "name": "g", "output": "x"}]}, "input[1].name"),
        ({"instructions": 5}, "instructions"),
        ({"tools": [{"name": "f"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{**FUNCTION, "unheard_of": 1}]}, "tools[0].unheard_of"),
        ({"tools": [{**FUNCTION, "allowed_callers": ["direct", "programmatic"]}]}, "tools[0].allowed_callers[1]"),
        ({"tools": [FUNCTION, FUNCTION]}, "tools[1].name"),
        ({"tools": [{**FUNCTION, "parameters": {"type": "array"}}]}, "tools[0].parameters"),
        ({"tools": [{**FUNCTION, "strict": True, "parameters": {"type": "object", "properties": {"a": {"not": {}}}}}]},
         "tools[0].parameters"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "name": "g"}}, "tool_choice.name"),
        ({"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "g"}]}},
         "tool_choice.tools[0].name"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "nothing"}}}}, "text.format.schema"),
        ({"reasoning": {"effort": "some"}}, "reasoning.effort"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"include": ["everything"]}, "include[0]"),
        ({"metadata": {"a": 1}}, "metadata[...]"),
        ({"metadata": {str(i): "" for i in range(17)}}, "metadata"),
        ({"metadata": {"a": "x" * 513}}, "metadata[...]"),
        ({"stream_options": {"include_obfuscation": False}}, "stream_options"),
        ({"inputs": "x"}, "inputs"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(**fields)
    assert (caught.value.code, caught.value.param) == ("invalid_value", param.replace("[...]", ""))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [FUNCTION, {"type": "code_interpreter"}]}, "tools[1].type"),
        ({"tools": [{**FUNCTION, "defer_loading": True}]}, "tools[0].defer_loading"),
        ({"tools": [{**FUNCTION, "output_schema": {"type": "string"}}]}, "tools[0].output_schema"),
        ({"tool_choice": {"type": "file_search"}}, "tool_choice.type"),
        ({"text": {"verbosity": "low"}}, "text.verbosity"),
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input[0].content[0].type"),
    ],
)  # fmt: skip
def test_what_is_not_served_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        read(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    "item", [{"role": "user", "content": "hi"}, {"type": "reasoning", "id": "r", "summary": []}]
)
def test_what_is_null_in_an_item_is_as_good_as_absent(item: dict[str, Any]) -> None:
    """A client's own dump of an item has fields that only the client knows."""
    dumped = {"type": None, "async_": None, "status": None, **item}
    assert read(input=[{"role": "user", "content": "x"}, dumped]) == read(
        input=[{"role": "user", "content": "x"}, item]
    )


@pytest.mark.parametrize(
    "item",
    [
        {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "42"}]},
    ],
)
def test_what_is_null_in_a_part_is_as_good_as_absent(item: dict[str, Any]) -> None:
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    name = "output" if "output" in item else "content"
    (part,) = item[name]
    dumped = {**item, name: [{"prompt_cache_breakpoint": None, "only_the_client_knows": None, **part}]}
    assert read(input=[call, dumped]) == read(input=[call, item])


def test_what_is_null_in_a_tool_is_as_good_as_absent_except_in_its_schema() -> None:
    schema = {"type": "object", "properties": {"x": {"enum": ["a", None], "default": None}}}
    function = {**FUNCTION, "parameters": schema}
    dumped = {
        "allowed_callers": None,
        "defer_loading": None,
        "output_schema": None,
        "async_": None,
        **function,
    }
    assert read(tools=[dumped]) == read(tools=[function])
    assert read(tools=[dumped]).prompt.tools[0].parameters == schema
