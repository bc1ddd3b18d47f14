"""Wire conformance: the `openai` package's own helpers, sync and async, on scripted answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI, pydantic_function_tool
from openai.types.responses import Response
from pydantic import BaseModel

from tests.e2e.shim_process import ShimProcess
from tests.e2e.triton_direct_client import ENSEMBLE

pytestmark = pytest.mark.anyio

MODEL = ENSEMBLE
WEATHER = "What is the weather in Paris?"
THOUGHT = "I have to look – at once."
ANSWER = "It is 18 °C in Paris."
STRUCTURED = "Name a place as JSON."
CALLED = "Name a place by a call."


class Place(BaseModel):
    city: str
    days: int


class GetWeather(Place):
    """What the weather is like."""


PLACE = Place(city="Zürich", days=3)
TOOLS = [pydantic_function_tool(GetWeather, name="get_weather")]
RESPONSE_TOOLS: list[Any] = [{"type": "function", **TOOLS[0]["function"]}]


@pytest.fixture(scope="module")
def api(scripted_shim: ShimProcess) -> Iterator[OpenAI]:
    with scripted_shim.client() as client:
        yield client


@pytest.fixture
async def aapi(scripted_shim: ShimProcess) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=f"{scripted_shim.url}/v1", api_key="none", max_retries=0, timeout=60
    ) as client:
        yield client


def asked(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def result(call_id: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": call_id, "content": "18 °C"}


def output(call_id: str) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": "18 °C"}


# ------------------------------------------------------------------------------------------------- chat


def test_parse_gives_the_arguments_and_the_content_as_objects(api: OpenAI) -> None:
    messages = asked(WEATHER)
    first = api.chat.completions.parse(model=MODEL, messages=messages, tools=TOOLS).choices[0].message
    assert first.content is None
    assert first.tool_calls is not None
    (call,) = first.tool_calls
    assert call.function.parsed_arguments == GetWeather(city="Paris", days=2)
    messages += [first, result(call.id)]
    second = api.chat.completions.parse(model=MODEL, messages=messages, tools=TOOLS).choices[0]
    assert (second.message.content, second.finish_reason) == (ANSWER, "stop")
    place = api.chat.completions.parse(model=MODEL, messages=asked(STRUCTURED), response_format=Place)
    assert place.choices[0].message.parsed == PLACE


def test_the_stream_helper(api: OpenAI) -> None:
    with api.chat.completions.stream(model=MODEL, messages=asked(WEATHER), tools=TOOLS) as stream:
        events = list(stream)
        final = stream.get_final_completion().choices[0]
    deltas = [event for event in events if event.type == "tool_calls.function.arguments.delta"]
    assert "".join(event.arguments_delta for event in deltas) == '{"city": "Paris", "days": 2}'
    assert len(deltas) > 2, "arguments come as they are written"
    (done,) = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    assert done.parsed_arguments == GetWeather(city="Paris", days=2)
    assert final.finish_reason == "tool_calls"
    assert final.message.reasoning == THOUGHT  # type: ignore[attr-defined]
    with api.chat.completions.stream(
        model=MODEL, messages=asked(STRUCTURED), response_format=Place
    ) as stream:
        for event in stream:
            if event.type == "content.done":
                assert event.parsed == PLACE
        assert stream.get_final_completion().choices[0].message.parsed == PLACE


async def test_async_tool_loop_streamed(aapi: AsyncOpenAI) -> None:
    messages = asked(WEATHER)
    async with aapi.chat.completions.stream(model=MODEL, messages=messages, tools=TOOLS) as stream:
        first = (await stream.get_final_completion()).choices[0].message
    assert first.tool_calls is not None
    messages += [first, result(first.tool_calls[0].id)]
    content = ""
    async for chunk in await aapi.chat.completions.create(
        model=MODEL, messages=messages, tools=TOOLS, stream=True, stream_options={"include_usage": True}
    ):
        content += "".join(choice.delta.content or "" for choice in chunk.choices)
    assert content == ANSWER
    assert chunk.usage is not None
    assert chunk.usage.completion_tokens_details is not None
    assert chunk.usage.completion_tokens_details.reasoning_tokens
    place = await aapi.chat.completions.parse(model=MODEL, messages=asked(STRUCTURED), response_format=Place)
    assert place.choices[0].message.parsed == PLACE


def test_the_raw_response_has_its_headers(api: OpenAI) -> None:
    raw = api.chat.completions.with_raw_response.create(model=MODEL, messages=asked(STRUCTURED))
    assert raw.headers["x-request-id"] == raw.parse()._request_id
    assert [model.id for model in api.models.list()] == [MODEL]
    assert api.models.retrieve(MODEL).id == MODEL


# -------------------------------------------------------------------------------------------- responses


@pytest.mark.parametrize("by_id", [True, False], ids=["by id", "by items"])
def test_responses_tool_loop(api: OpenAI, by_id: bool) -> None:
    first = api.responses.parse(model=MODEL, input=WEATHER, tools=RESPONSE_TOOLS)
    assert [item.type for item in first.output] == ["reasoning", "function_call"]
    call = first.output[-1]
    assert call.type == "function_call"
    assert json.loads(call.arguments) == {"city": "Paris", "days": 2}
    if by_id:
        going_on: dict[str, Any] = {"previous_response_id": first.id, "input": [output(call.call_id)]}
    else:
        going_on = {"input": [*asked(WEATHER), *first.output, output(call.call_id)]}
    second = api.responses.create(model=MODEL, tools=RESPONSE_TOOLS, **going_on)
    assert second.output_text == ANSWER


def test_responses_parse_and_stream(api: OpenAI) -> None:
    parsed = api.responses.parse(model=MODEL, input=STRUCTURED, text_format=Place)
    assert parsed.output_parsed == PLACE
    called = api.responses.parse(model=MODEL, input=CALLED, tools=[pydantic_function_tool(Place)])  # type: ignore[list-item]
    (call,) = called.output
    assert call.type == "function_call"
    assert call.parsed_arguments == Place(city="Bern", days=1)
    with api.responses.stream(model=MODEL, input=STRUCTURED, text_format=Place) as stream:
        kinds = [event.type for event in stream]
        assert stream.get_final_response().output_parsed == PLACE
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert kinds.count("response.output_text.delta") > 2
    with api.responses.stream(model=MODEL, input=WEATHER, tools=RESPONSE_TOOLS) as stream:
        kinds = [event.type for event in stream]
        assert stream.get_final_response().output[-1].type == "function_call"
    assert kinds.count("response.function_call_arguments.done") == 1


async def test_async_responses(aapi: AsyncOpenAI) -> None:
    whole = await aapi.responses.create(model=MODEL, input=STRUCTURED)
    completed: Response | None = None
    async for event in await aapi.responses.create(model=MODEL, input=STRUCTURED, stream=True):
        if event.type == "response.completed":
            completed = event.response
    assert completed is not None
    assert completed.output_text == whole.output_text == '{"city": "Zürich", "days": 3}'
    parsed = await aapi.responses.parse(model=MODEL, input=STRUCTURED, text_format=Place)
    assert parsed.output_parsed == PLACE
