"""Calls, structured output, several answers and log-probabilities on a real engine, with the demo model.

What it must write, its grammar makes it write: nothing here depends on what it knows. That it thinks before, and comes
to an end, it does by itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from gpt_oss_triton.launch.triton_server import TritonServer
from tests.e2e.shim_process import ShimProcess
from tests.e2e.triton_direct_client import ENSEMBLE

ASK: dict[str, Any] = {
    "model": ENSEMBLE,
    "messages": [{"role": "user", "content": "What is the weather like?"}],
    "max_completion_tokens": 600,
    "seed": 3,
    "temperature": 0,
}
PLACE = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "enum": ["Bern", "Zürich", "Genève"]},
        "days": {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 9}, "minItems": 1, "maxItems": 2},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}  # fmt: skip


def function(name: str, **fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": PLACE, **fields}}


TOOLS = [function("get_weather", strict=True), function("get_news")]


@pytest.fixture(scope="module")
def api(demo: TritonServer) -> Iterator[openai.OpenAI]:
    with ShimProcess(demo) as shim, shim.client() as client:
        yield client


def check_place(text: str) -> None:
    place = json.loads(text)
    assert place.keys() == {"city", "days"}
    assert place["city"] in ("Bern", "Zürich", "Genève")
    assert all(1 <= day <= 9 for day in place["days"])


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("required", {"get_weather", "get_news"}),
        ({"type": "function", "function": {"name": "get_news"}}, {"get_news"}),
    ],
)
def test_a_call_comes_where_one_has_to(api: openai.OpenAI, choice: Any, names: set[str]) -> None:
    answer = api.chat.completions.create(**ASK, tools=TOOLS, tool_choice=choice).choices[0]
    assert answer.finish_reason == "tool_calls"
    assert answer.message.reasoning  # type: ignore[attr-defined]
    assert answer.message.tool_calls is not None
    (call,) = answer.message.tool_calls
    assert call.type == "function"
    assert call.function.name in names
    check_place(call.function.arguments)


def test_no_call_comes_where_none_may(api: openai.OpenAI) -> None:
    answer = api.chat.completions.create(**ASK, tools=TOOLS, tool_choice="none").choices[0]
    assert answer.message.tool_calls is None
    assert answer.finish_reason != "tool_calls"


def test_a_streamed_call_equals_the_whole_one(api: openai.OpenAI) -> None:
    whole = api.chat.completions.create(**ASK, tools=TOOLS, tool_choice="required").choices[0].message
    with api.chat.completions.stream(**ASK, tools=TOOLS, tool_choice="required") as stream:
        streamed = stream.get_final_completion().choices[0].message
    assert whole.tool_calls is not None
    assert streamed.tool_calls is not None
    assert [call.function.arguments for call in whole.tool_calls if call.type == "function"] == [
        call.function.arguments for call in streamed.tool_calls
    ]
    assert whole.content == streamed.content


def test_the_tool_loop(api: openai.OpenAI) -> None:
    first = api.chat.completions.create(**ASK, tools=TOOLS, tool_choice="required")
    message = first.choices[0].message
    assert message.tool_calls is not None
    history = [
        *ASK["messages"],
        message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sunny"},
    ]
    second = api.chat.completions.create(**{**ASK, "messages": history}, tools=TOOLS, tool_choice="none")
    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.prompt_tokens_details is not None
    assert second.usage.prompt_tokens > first.usage.prompt_tokens
    # All of the first prompt but its last, incomplete block.
    cached = second.usage.prompt_tokens_details.cached_tokens
    assert cached is not None
    assert cached > first.usage.prompt_tokens - 16 - 1


def test_json_by_a_schema(api: openai.OpenAI) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "place", "schema": PLACE, "strict": True}}
    answer = api.chat.completions.create(**ASK, response_format=wanted).choices[0]
    assert answer.finish_reason == "stop"
    assert answer.message.content is not None
    check_place(answer.message.content)


def test_several_answers_with_log_probabilities(api: openai.OpenAI) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "place", "schema": PLACE}}
    ask = {**ASK, "temperature": 2}
    whole = api.chat.completions.create(**ask, n=3, logprobs=True, top_logprobs=2, response_format=wanted)
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    for choice in whole.choices:
        assert choice.logprobs is not None
        assert choice.logprobs.content is not None
        assert choice.message.content is not None
        written = b"".join(bytes(entry.bytes or []) for entry in choice.logprobs.content)
        assert written.decode() == choice.message.content
        assert all(entry.logprob <= 0 and len(entry.top_logprobs) <= 2 for entry in choice.logprobs.content)
    assert len({choice.message.content for choice in whole.choices}) > 1
    assert whole.usage is not None
    one = api.chat.completions.create(**ask, response_format=wanted).usage
    assert one is not None
    assert whole.usage.prompt_tokens == one.prompt_tokens
