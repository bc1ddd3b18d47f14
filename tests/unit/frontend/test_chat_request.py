from __future__ import annotations

import json
from typing import Any

import pytest

from frontend.chat_messages import PART_SEPARATOR
from frontend.chat_request import EFFORTS, read_chat
from gpt_oss_triton.errors import InvalidRequest, UnsupportedParameter
from gpt_oss_triton.wire import GenerationOptions, Message, ResponseFormat, Tool, ToolCall

USER = {"role": "user", "content": "hi"}


DEEP: dict[str, Any] = {"type": "object"}
for _ in range(80):
    DEEP = {"type": "object", "properties": {"a": DEEP}}
CALLER: dict[str, Any] = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a" : 1}'}}],
}
SCHEMA = {
    "type": "object",
    "properties": {"b": {"type": "integer"}, "a": {"type": "string"}},
    "required": ["b"],
    "additionalProperties": False,
}

LARGE = {"type": "object", "properties": {f"{n:04}" + "x" * 60: {"type": "integer"} for n in range(600)}}


def function(name: str, **fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **fields}}


LARGE_TOOLS = [function(f"f{n}", parameters=LARGE) for n in range(8)]


def allowed(mode: str, *names: str) -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


def json_schema(schema: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "thing", "schema": schema, **fields}}


def chat(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [USER], **fields}).encode()


def test_defaults() -> None:
    result = read_chat(chat())
    assert result.prompt.messages == [Message("user", "hi")]
    assert result.prompt.reasoning_effort == "medium"
    assert result.options == GenerationOptions()
    assert (result.stream, result.include_usage, result.include_reasoning) == (False, False, True)


def test_every_option_arrives() -> None:
    given: dict[str, Any] = {
        "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.1, "seed": 7, "frequency_penalty": 1.5,
        "presence_penalty": -1.5, "repetition_penalty": 1.1, "stop": ["a", "b"], "stop_token_ids": [1, 2],
        "ignore_eos": True,
    }  # fmt: skip
    result = read_chat(chat(**given, max_completion_tokens=9, logit_bias={"5": -100}))
    assert result.options == GenerationOptions(**given, max_tokens=9, logit_bias={5: -100.0})


def test_one_stop_string() -> None:
    assert read_chat(chat(stop="END")).options.stop == ["END"]


def test_both_names_of_the_token_limit_when_they_agree() -> None:
    assert read_chat(chat(max_tokens=5, max_completion_tokens=5)).options.max_tokens == 5


@pytest.mark.parametrize(("given", "used"), EFFORTS.items())
def test_efforts(given: str, used: str) -> None:
    assert read_chat(chat(reasoning_effort=given)).prompt.reasoning_effort == used


def test_roles_parts_and_names() -> None:
    messages = [
        {"role": "system", "content": "s"},
        {"role": "developer", "content": [{"type": "text", "text": "d"}]},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "x"},
        {"role": "assistant", "content": "c", "reasoning_content": "r", "tool_calls": None, "annotations": []},
        {"role": "assistant", "content": None, "refusal": "no"},
        {"role": "user", "content": ""},
    ]  # fmt: skip
    assert read_chat(chat(messages=messages)).prompt.messages == [
        Message("system", "s"),
        Message("developer", "d"),
        Message("user", f"a{PART_SEPARATOR}b", name="x"),
        Message("assistant", "c", reasoning="r"),
        Message("assistant", "no"),
        Message("user", ""),
    ]


def test_a_message_echoed_in_its_own_part() -> None:
    """OpenAI's Agents SDK for JavaScript puts all fields of an answer beside its text."""
    part = {
        "type": "text", "text": "One moment.", "role": "assistant", "refusal": None, "reasoning": "They ask.",
        "tool_calls": CALLER["tool_calls"], "annotations": [],
    }  # fmt: skip
    messages = [USER, {"role": "assistant", "content": [part]}, CALLER]
    assert read_chat(chat(messages=messages)).prompt.messages[1] == Message("assistant", "One moment.")
    with pytest.raises(InvalidRequest) as refused:
        read_chat(chat(messages=[{"role": "user", "content": [part]}]))
    assert refused.value.param == "messages[0].content[0].role"


def test_calls_and_their_results() -> None:
    result = {"role": "tool", "content": [{"type": "text", "text": "sunny"}], "tool_call_id": "1"}
    other = {"id": "2", "type": "function", "function": {"name": "g", "arguments": "{}"}}
    again = {**CALLER, "content": "Again.", "tool_calls": [other, {**CALLER["tool_calls"][0], "id": "3"}]}
    messages = [USER, CALLER, result, again, {**result, "tool_call_id": "3"}, {**result, "tool_call_id": "2"}]
    assert read_chat(chat(messages=messages)).prompt.messages == [
        Message("user", "hi"),
        Message("assistant", tool_calls=[ToolCall("f", '{"a" : 1}')]),
        Message("tool", "sunny", name="f"),
        Message("assistant", "Again.", tool_calls=[ToolCall("g", "{}"), ToolCall("f", '{"a" : 1}')]),
        Message("tool", "sunny", name="f"),
        Message("tool", "sunny", name="g"),
    ]


def test_tools_go_into_the_prompt_whatever_may_be_called() -> None:
    tools = [function("f", description="d", parameters=SCHEMA), function("g")]
    rendered = [Tool("f", "d", SCHEMA), Tool("g")]
    for choice, names in (
        (None, {"f", "g"}),
        ("auto", {"f", "g"}),
        ("required", {"f", "g"}),
        ("none", set()),
        ({"type": "function", "function": {"name": "g"}}, {"g"}),
        (allowed("auto", "f"), {"f"}),
    ):
        result = read_chat(chat(tools=tools, tool_choice=choice))
        assert (result.prompt.tools, result.functions) == (rendered, names)


@pytest.mark.parametrize(
    ("fields", "grammar_field"),
    [
        ({}, None),
        ({"tools": [function("f", parameters=SCHEMA)]}, None),
        ({"tools": [function("f")], "tool_choice": "auto"}, None),
        ({"tools": [], "parallel_tool_calls": False}, None),
        ({"tool_choice": "none"}, None),
        ({"response_format": {"type": "text"}}, None),
        ({"tools": [function("f")], "tool_choice": "none"}, "tools"),
        ({"tools": [function("f")], "tool_choice": "required"}, "tools"),
        ({"tools": [function("f")], "parallel_tool_calls": False}, "tools"),
        ({"tools": [function("f", parameters=SCHEMA, strict=True)]}, "tools"),
        ({"tools": [function("f"), function("g")], "tool_choice": allowed("auto", "g")}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"response_format": json_schema(SCHEMA), "tools": [function("f")]}, "response_format"),
    ],
)
def test_who_gets_a_grammar(fields: dict[str, Any], grammar_field: str | None) -> None:
    result = read_chat(chat(**fields))
    assert result.grammar_field == grammar_field
    assert (result.options.grammar is None) is (grammar_field is None)


def test_what_is_not_strict_need_not_be_enforceable() -> None:
    loose = [function("f", parameters={"type": "object", "uniqueItems": True})]
    for choice in ("auto", "required"):
        assert read_chat(chat(tools=loose, tool_choice=choice)).functions == {"f"}


def test_guided_calls_keep_to_the_schemas_of_all_functions() -> None:
    looking_ahead = {"type": "object", "properties": {"a": {"type": "string", "pattern": "(?=x)"}}}
    tools = [function("f", parameters=SCHEMA), function("g", parameters=looking_ahead), function("h")]
    grammar = read_chat(chat(tools=tools), guided=True).options.grammar
    assert grammar is not None
    for name in "fgh":
        assert f'"{name} "' in grammar
    assert json.dumps(SCHEMA)[1:-1] in grammar
    assert 'arguments_1: %json {"type": "object", "x-guidance"' in grammar, (
        "what cannot be enforced is left out"
    )


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"tools": [function("f", parameters=SCHEMA)], "ignore_eos": True},
    ],
    ids=["no function", "no end"],
)
def test_calls_that_cannot_be_guided_are_left_to_the_model(fields: dict[str, Any]) -> None:
    assert read_chat(chat(**fields), guided=True).options.grammar is None


@pytest.mark.parametrize(
    ("schema", "closed"),
    [
        ({"properties": {"a": {"type": "string"}}}, True),
        ({"properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "integer"}}, False),
        ({"type": "object", "allOf": [{"properties": {"a": {"type": "string"}}}]}, False),
    ],
)
def test_guided_calls_have_no_undeclared_arguments(schema: dict[str, Any], closed: bool) -> None:
    grammar = read_chat(chat(tools=[function("f", parameters=schema)]), guided=True).options.grammar
    assert grammar is not None
    assert ('"additionalProperties": false' in grammar) is closed


def test_schemas_too_large_for_one_grammar_leave_the_names_guided() -> None:
    grammar = read_chat(chat(tools=LARGE_TOOLS), guided=True).options.grammar
    assert grammar is not None
    assert '"f7 "' in grammar
    assert "0001xxx" not in grammar


@pytest.mark.parametrize(
    "fields",
    [
        {"parallel_tool_calls": False},
        {"response_format": {"type": "json_object"}},
        {"tool_choice": allowed("auto", *(f"f{n}" for n in range(7)))},
        {"tools": [*LARGE_TOOLS, function("g", parameters=SCHEMA, strict=True)]},
    ],
)
def test_what_was_asked_for_is_enforced_where_calls_cannot_be_guided(fields: dict[str, Any]) -> None:
    body = chat(**{"tools": LARGE_TOOLS, **fields})
    guided, asked = (read_chat(body, guided=guided).options.grammar for guided in (True, False))
    assert guided == asked is not None


def test_response_formats() -> None:
    result = read_chat(chat(response_format=json_schema(SCHEMA, description="A thing", strict=True)))
    assert result.prompt.response_format == ResponseFormat("thing", SCHEMA, "A thing")
    assert list(result.prompt.response_format.schema["properties"]) == ["b", "a"], "in the caller's order"
    assert read_chat(chat(response_format={"type": "json_object"})).prompt.response_format is None


def test_logprobs_are_asked_of_the_engine() -> None:
    assert read_chat(chat(logprobs=False)).options.logprobs is None
    assert read_chat(chat(logprobs=True)).options.logprobs == 0
    assert read_chat(chat(logprobs=True, top_logprobs=5)).options.logprobs == 5


def test_usage_in_the_stream() -> None:
    assert read_chat(chat(stream=True, stream_options={"include_usage": True})).include_usage


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [USER, USER, {"role": "robot", "content": "x"}]}, "messages[2].role"),
        ({"messages": [{"role": 1, "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "poem"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{**USER, "colour": "red"}]}, "messages[0].colour"),
        ({"messages": [{**USER, "name": "a b"}]}, "messages[0].name"),
        ({"messages": [{"role": "assistant", "reasoning": "a", "reasoning_content": "b"}]}, "messages[0].reasoning"),
        ({"model": 5}, "model"),
        ({"model": None}, "model"),
        ({"stream": "true"}, "stream"),
        ({"stream": 1}, "stream"),
        ({"temperature": "1"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"top_k": 1.5}, "top_k"),
        ({"seed": -(2**63) - 1}, "seed"),
        ({"seed": 2**64}, "seed"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"max_tokens": 2**40}, "max_tokens"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"stop": ["a", 5]}, "stop[1]"),
        ({"stop": ""}, "stop"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stop_token_ids": [-1]}, "stop_token_ids"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"5": 101}}, "logit_bias"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"colour": 1}}, "stream_options.colour"),
        ({"n": 0}, "n"),
        ({"n": 9}, "n"),
        ({"n": True}, "n"),
        ({"logprobs": 1}, "logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [function("a b")]}, "tools[0].function.name"),
        ({"tools": [function("x" * 65)]}, "tools[0].function.name"),
        ({"tools": [function("abc\n")]}, "tools[0].function.name"),
        ({"messages": [{**USER, "name": "ann\n"}]}, "messages[0].name"),
        ({"tools": [function("f"), function("f")]}, "tools[1].function.name"),
        ({"tools": [function("f")] * 129}, "tools"),
        ({"tools": [{**function("f"), "strict": True}]}, "tools[0].strict"),
        ({"tools": [function("f", parameters={"type": "array"})]}, "tools[0].function.parameters"),
        ({"tools": [function("f", parameters=DEEP)]}, "tools[0].function.parameters"),
        ({"tools": [function("f", parameters={"uniqueItems": True}, strict=True)]}, "tools[0].function.parameters"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "g"}}, "tools": [function("f")]}, "tool_choice.function.name"),
        ({"tool_choice": allowed("auto", "f", "g"), "tools": [function("f")]}, "tool_choice.allowed_tools.tools[1].function.name"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": json_schema({"not": {}}, strict=True)}, "response_format.json_schema.schema"),
        ({"response_format": json_schema({"type": "robot"})}, "response_format.json_schema.schema"),
        ({"response_format": json_schema({"title": "x" * 70_000})}, "response_format.json_schema.schema"),
        ({"response_format": json_schema(DEEP)}, "response_format.json_schema.schema"),
        ({"response_format": json_schema({"enum": [0] * 6000})}, "response_format.json_schema.schema"),
        ({"response_format": {"type": "json_object"}, "ignore_eos": True}, "ignore_eos"),
        ({"messages": [USER, {"role": "tool", "content": "x", "tool_call_id": "1"}]}, "messages[1].tool_call_id"),
        ({"messages": [USER, {"role": "tool", "content": "x"}]}, "messages[1].tool_call_id"),
        ({"messages": [CALLER, {"role": "tool", "content": None, "tool_call_id": "1"}]}, "messages[1].content"),
        ({"messages": [{**CALLER, "tool_calls": CALLER["tool_calls"] * 2}]}, "messages[0].tool_calls[1].id"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "1"}]}]}, "messages[0].tool_calls[0].type"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": []}]}, "messages[0].tool_calls"),
    ],
)  # fmt: skip
def test_bad_input_names_the_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_chat(chat(**fields))
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "function", "content": "x", "name": "f"}, "messages[0].role"),
        ({"role": "assistant", "tool_calls": [{"id": "1", "type": "custom", "custom": {}}]}, "messages[0].tool_calls[0].type"),
        ({"role": "assistant", "function_call": {"name": "f", "arguments": ""}}, "messages[0].function_call"),
        ({"role": "user", "content": [{"type": "text", "text": ""}, {"type": "image_url", "image_url": {"url": "x"}}]}, "messages[0].content[1].type"),
        ({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}, "messages[0].content[0].type"),
        ({"role": "user", "content": [{"type": "file", "file": {}}]}, "messages[0].content[0].type"),
    ],
)  # fmt: skip
def test_what_is_not_served_is_unsupported(message: dict[str, Any], param: str) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        read_chat(chat(messages=[message]))
    assert caught.value.param == param


def test_an_error_does_not_echo_a_book() -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_chat(chat(messages=[{"role": "x" * 1_000_000, "content": ""}]))
    assert len(caught.value.message) < 1000


def test_defaults_stand_in_for_what_is_left_out_and_for_null() -> None:
    defaults = {"temperature": 0.3, "top_p": 0.8, "reasoning_effort": "high"}
    result = read_chat(chat(temperature=None, top_p=0.5), defaults)
    assert (result.options.temperature, result.options.top_p) == (0.3, 0.5)
    assert result.prompt.reasoning_effort == "high"


@pytest.mark.parametrize(
    ("tier", "flex"), [("auto", False), ("flex", True), ("priority", False), ("fast", False)]
)
def test_only_the_flex_tier_gives_way(tier: str, flex: bool) -> None:
    assert read_chat(chat(service_tier=tier)).flex is flex


RESULT = {"role": "tool", "tool_call_id": "c", "content": "18"}
CALLED = {
    "role": "assistant",
    "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}],
}


def test_a_result_may_name_its_function() -> None:
    """As many examples do."""
    for name in ("f", None):
        result = read_chat(chat(messages=[CALLED, {**RESULT, "name": name}]))
        assert result.prompt.messages[1] == Message("tool", "18", name="f")
    with pytest.raises(InvalidRequest) as caught:
        read_chat(chat(messages=[CALLED, {**RESULT, "name": "g"}]))
    assert caught.value.param == "messages[1].name"


@pytest.mark.parametrize(
    ("given", "seed"), [(-1, 2**64 - 1), (-(2**63), 2**63), (0, 0), (2**64 - 1, 2**64 - 1), (None, None)]
)
def test_seeds_may_be_signed(given: int | None, seed: int | None) -> None:
    assert read_chat(chat(seed=given)).options.seed == seed


ODD = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
OVERLAPPING = {
    "oneOf": [{"type": "object", "properties": {"a": {}}}, {"type": "object", "properties": {"b": {}}}]
}


@pytest.mark.parametrize("schema", [ODD, OVERLAPPING])
def test_what_cannot_be_enforced_is_left_to_the_model_unless_it_is_strict(schema: dict[str, Any]) -> None:
    def wanted(strict: bool | None) -> dict[str, Any]:
        return {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": strict}}

    for strict in (False, None):
        result = read_chat(chat(response_format=wanted(strict)))
        assert result.prompt.response_format == ResponseFormat("n", schema)
        assert result.options.grammar is not None
    with pytest.raises(InvalidRequest) as caught:
        read_chat(chat(response_format=wanted(True)))
    assert caught.value.param == "response_format.json_schema.schema"
    assert "option" not in caught.value.message, "of the library's, which no caller can set"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"messages": [{"role": "user"}]}, "messages[0].content: This field is required."),
        ({"messages": [{"role": "user", "content": "", "x": 1}]}, "messages[0].x: There is no such field."),
        (
            {"messages": [{"role": "human", "content": ""}]},
            "messages[0].role: Invalid value 'human'; it may be system, developer, user, assistant, tool.",
        ),
        (
            {"reasoning_effort": "ultra"},
            "reasoning_effort: Invalid enum value 'ultra'; it may be high, low, max, medium, minimal, none, xhigh.",
        ),
        ({"tool_choice": "any"}, "tool_choice: Invalid enum value 'any'; it may be auto, none, required."),
        (
            {"response_format": {"type": "xml"}},
            "response_format.type: Invalid value 'xml'; it may be text, json_object, json_schema.",
        ),
    ],
)
def test_what_is_wrong_is_said_in_words(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_chat(chat(**fields))
    assert caught.value.message == message
