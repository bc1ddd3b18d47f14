"""Wire conformance: the OpenAI Agents SDK with its chat and its responses model, on scripted answers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from agents import (
    Agent,
    Model,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    RunConfig,
    Runner,
    function_tool,
)
from openai import AsyncOpenAI
from pydantic import BaseModel

from tests.e2e.shim_process import ShimProcess
from tests.e2e.triton_direct_client import ENSEMBLE

pytestmark = pytest.mark.anyio

WEATHER = "What is the weather in Paris?"
ANSWER = "It is 18 °C in Paris."
UNTRACED = RunConfig(tracing_disabled=True)  # traces go to OpenAI


class Place(BaseModel):
    city: str
    days: int


PLACE = Place(city="Zürich", days=3)


@pytest.fixture(params=[OpenAIChatCompletionsModel, OpenAIResponsesModel], ids=["chat", "responses"])
async def model(scripted_shim: ShimProcess, request: pytest.FixtureRequest) -> AsyncIterator[Model]:
    async with AsyncOpenAI(
        base_url=f"{scripted_shim.url}/v1", api_key="none", max_retries=0, timeout=60
    ) as client:
        yield request.param(ENSEMBLE, client)


class Weather:
    """A tool that notes how it was called."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

        @function_tool
        def get_weather(city: str, days: int) -> str:
            """What the weather is like."""
            self.asked.append((city, days))
            return "18 °C"

        self.tool = get_weather


async def test_a_tool_loop(model: Model) -> None:
    weather = Weather()
    agent = Agent("forecaster", instructions="Be brief.", model=model, tools=[weather.tool])
    result = await Runner.run(agent, WEATHER, run_config=UNTRACED)
    assert result.final_output == ANSWER
    assert weather.asked == [("Paris", 2)]
    assert result.context_wrapper.usage.requests == 2
    again = await Runner.run(
        agent, [*result.to_input_list(), {"role": "user", "content": WEATHER}], run_config=UNTRACED
    )
    assert again.final_output == ANSWER, "what the SDK sends back of its history is understood"
    assert weather.asked == [("Paris", 2)] * 2


async def test_streaming(model: Model) -> None:
    weather = Weather()
    agent = Agent("forecaster", model=model, tools=[weather.tool])
    result = Runner.run_streamed(agent, WEATHER, run_config=UNTRACED)
    text = ""
    kinds = []
    async for event in result.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            text += event.data.delta
        elif event.type == "run_item_stream_event":
            kinds.append(event.item.type)
    assert text == result.final_output == ANSWER
    assert [kind for kind in kinds if kind != "reasoning_item"] == [
        "tool_call_item",
        "tool_call_output_item",
        "message_output_item",
    ]
    assert weather.asked == [("Paris", 2)]


async def test_structured_output(model: Model) -> None:
    agent = Agent("namer", model=model, output_type=Place)
    assert (await Runner.run(agent, "Name a place as JSON.", run_config=UNTRACED)).final_output == PLACE


async def test_a_handoff(model: Model) -> None:
    forecaster = Agent("forecaster", model=model, instructions="You forecast.")
    desk = Agent("desk", model=model, handoffs=[forecaster])
    result = await Runner.run(desk, "Please hand over.", run_config=UNTRACED)
    assert result.final_output == "The forecaster speaks."
    assert result.last_agent is forecaster
