"""Wire conformance: LangChain's ChatOpenAI over chat completions and over responses, on scripted answers."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from openai import DefaultAsyncHttpxClient
from pydantic import BaseModel, SecretStr

from tests.e2e.shim_process import ShimProcess
from tests.e2e.triton_direct_client import ENSEMBLE

pytestmark = pytest.mark.anyio

WEATHER = "What is the weather in Paris?"
ANSWER = "It is 18 °C in Paris."
STRUCTURED = "Name a place as JSON."
CALLED = "Name a place by a call."
ARGUMENTS = {"city": "Paris", "days": 2}


class Place(BaseModel):
    """A place, and for how long."""

    city: str
    days: int


PLACE = Place(city="Zürich", days=3)


@tool
def get_weather(city: str, days: int) -> str:
    """What the weather is like."""
    return f"18 °C for {days} days in {city}"


def chat_model(scripted_shim: ShimProcess, responses: bool, **settings: Any) -> ChatOpenAI:
    url, key = f"{scripted_shim.url}/v1", SecretStr("none")
    return ChatOpenAI(
        model=ENSEMBLE, base_url=url, api_key=key, use_responses_api=responses, max_retries=0, **settings
    )


@pytest.fixture(params=[False, True], ids=["chat", "responses"])
def responses(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def model(scripted_shim: ShimProcess, responses: bool) -> ChatOpenAI:
    return chat_model(scripted_shim, responses)


def call_of(message: BaseMessage) -> dict[str, Any]:
    assert isinstance(message, AIMessage)
    (call,) = message.tool_calls
    return {**call}


def test_a_tool_loop(model: ChatOpenAI) -> None:
    calling = model.bind_tools([get_weather])
    history: list[BaseMessage] = [HumanMessage(WEATHER)]
    history.append(calling.invoke(history))
    call = call_of(history[-1])
    assert call["args"] == ARGUMENTS
    history.append(get_weather.invoke(call))
    assert isinstance(history[-1], ToolMessage)
    last = calling.invoke(history)
    assert last.text == ANSWER
    assert last.usage_metadata is not None
    assert last.usage_metadata["output_token_details"]["reasoning"] > 0


def test_streaming(model: ChatOpenAI) -> None:
    calling = model.bind_tools([get_weather])
    chunks = list(calling.stream(WEATHER))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert call_of(whole)["args"] == ARGUMENTS
    assert len([chunk for chunk in chunks if chunk.tool_call_chunks]) > 2
    history = [HumanMessage(WEATHER), whole, get_weather.invoke(call_of(whole))]
    pieces = [chunk.text for chunk in calling.stream(history)]
    assert "".join(pieces) == ANSWER
    assert len(pieces) > 2


async def test_async(scripted_shim: ShimProcess, responses: bool) -> None:
    async with DefaultAsyncHttpxClient() as http:  # its own one it keeps, for another test's event loop
        model = chat_model(scripted_shim, responses, http_async_client=http)
        message = await model.bind_tools([get_weather]).ainvoke(WEATHER)
        assert call_of(message)["args"] == ARGUMENTS
        text = "".join([chunk.text async for chunk in model.astream(STRUCTURED)])
        assert Place.model_validate_json(text) == PLACE


@pytest.mark.parametrize(
    ("method", "text", "place"),
    [
        ("json_schema", STRUCTURED, PLACE),
        ("json_mode", STRUCTURED, PLACE),
        ("function_calling", CALLED, Place(city="Bern", days=1)),
    ],
)
def test_structured_output(model: ChatOpenAI, method: Any, text: str, place: Place) -> None:
    structured = model.with_structured_output(Place, method=method)
    assert structured.invoke(text) == place
    *_, last = structured.stream(text)
    assert last == place
