from __future__ import annotations

import json
from typing import Any

import pytest

from frontend.chat_fields import FIELDS, honoured
from frontend.chat_request import ChatRequest, read_chat
from gpt_oss_triton.errors import InvalidRequest, UnsupportedParameter

MINIMAL = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}

# OpenAI's specification 2.3.0, CreateChatCompletionRequest
OPENAI_FIELDS = [
    "model",
    "messages",
    "audio",
    "frequency_penalty",
    "function_call",
    "functions",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "metadata",
    "modalities",
    "n",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning_effort",
    "response_format",
    "safety_identifier",
    "seed",
    "service_tier",
    "stop",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
    "web_search_options",
]


def test_every_field_of_openai_is_in_the_table() -> None:
    assert set(OPENAI_FIELDS) <= FIELDS.keys()


def test_the_honoured_fields_are_those_of_the_request() -> None:
    assert {name for name, field in FIELDS.items() if field.treatment == "honoured"} == set(
        ChatRequest.__struct_fields__
    )


@pytest.mark.parametrize("name", FIELDS.keys() - {"model", "messages"})
def test_null_is_as_good_as_absent(name: str) -> None:
    assert read_chat(json.dumps({**MINIMAL, name: None}).encode()) == read_chat(json.dumps(MINIMAL).encode())


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, field in FIELDS.items() for value in field.neutral]
)
def test_neutral_values_are_accepted(name: str, value: Any) -> None:
    assert honoured({name: value}) == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tools", [{"type": "function", "function": {"name": "f"}}]),
        ("tool_choice", "required"),
        ("tool_choice", {"type": "function", "function": {"name": "f"}}),
        ("response_format", {"type": "json_object"}),
        ("response_format", {"type": "json_schema", "json_schema": {"name": "x"}}),
        ("n", 2),
        ("logprobs", True),
        ("top_logprobs", 3),
        ("prediction", {"type": "content", "content": "x"}),
        ("audio", {"voice": "alloy", "format": "wav"}),
        ("modalities", ["text", "audio"]),
        ("functions", [{"name": "f"}]),
        ("function_call", {"name": "f"}),
        ("store", True),
        ("verbosity", "low"),
        ("web_search_options", {}),
        ("chat_template_kwargs", {"enable_thinking": False}),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        honoured({name: value})
    assert caught.value.param == name
    assert name in caught.value.message


@pytest.mark.parametrize(
    ("name", "value"),
    [("n", True), ("n", "1"), ("user", 5), ("metadata", {"a": 1}), ("logprobs", 0), ("tools", {})],
)
def test_types_are_strict_where_the_value_is_not_used(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        honoured({name: value})
    assert (caught.value.code, caught.value.param) == ("invalid_value", name)


def test_unknown_field_is_named() -> None:
    with pytest.raises(InvalidRequest, match="top_kk") as caught:
        honoured({**MINIMAL, "top_kk": 1})
    assert caught.value.param == "top_kk"
