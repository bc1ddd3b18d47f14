from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types.chat.completion_create_params import (
    CompletionCreateParamsBase as ParamsBase,
)
from openai.types.chat.completion_create_params import (
    CompletionCreateParamsStreaming as ParamsStreaming,
)

from frontend.chat_fields import FIELDS
from frontend.chat_request import ChatRequest, read_chat
from frontend.field_policy import take
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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("store", True),
        ("user", "u"),
        ("metadata", {"a": "b"}),
        ("prediction", {"type": "content", "content": "x"}),
    ],
)
def test_what_cannot_change_the_answer_changes_nothing(name: str, value: Any) -> None:
    assert read_chat(json.dumps({**MINIMAL, name: value}).encode()) == read_chat(json.dumps(MINIMAL).encode())


def test_every_field_of_the_installed_client_is_in_the_table() -> None:
    """A newer client may know more than the specification that the table was made from."""
    known = {name for params in (ParamsBase, ParamsStreaming) for name in params.__annotations__}
    assert known - FIELDS.keys() == set()


def test_the_honoured_fields_are_those_of_the_request() -> None:
    assert {name for name, field in FIELDS.items() if field.treatment == "honoured"} == set(
        ChatRequest.__struct_fields__
    )


@pytest.mark.parametrize("name", sorted(FIELDS.keys() - {"model", "messages"}))
def test_null_is_as_good_as_absent(name: str) -> None:
    assert read_chat(json.dumps({**MINIMAL, name: None}).encode()) == read_chat(json.dumps(MINIMAL).encode())


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, field in FIELDS.items() for value in field.neutral]
)
def test_neutral_values_are_accepted(name: str, value: Any) -> None:
    assert take({name: value}, FIELDS) == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("audio", {"voice": "alloy", "format": "wav"}),
        ("modalities", ["text", "audio"]),
        ("functions", [{"name": "f"}]),
        ("function_call", {"name": "f"}),
        ("verbosity", "low"),
        ("web_search_options", {}),
        ("chat_template_kwargs", {"enable_thinking": False}),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        take({name: value}, FIELDS)
    assert caught.value.param == name
    assert name in caught.value.message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("store", "yes"),
        ("user", 5),
        ("metadata", {"a": 1}),
        ("prediction", "x"),
        ("functions", {}),
        ("verbosity", 1),
    ],
)
def test_types_are_strict_where_the_value_is_not_used(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        take({name: value}, FIELDS)
    assert (caught.value.code, caught.value.param) == ("invalid_value", name)


def test_unknown_field_is_named() -> None:
    with pytest.raises(InvalidRequest, match="top_kk") as caught:
        take({**MINIMAL, "top_kk": 1}, FIELDS)
    assert caught.value.param == "top_kk"
