"""What a model does by itself, on a real engine: it ends its turns, thinks, calls functions and keeps to a schema.

The model is the committed demo model, asked greedily. What is asserted is the form of its answers, and of what they say
only what it has to copy from the question.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from typing import Any

import jsonschema_rs
import openai
import pytest
from agents import (
    Agent,
    Model,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    RunConfig,
    Runner,
    function_tool,
)
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion

from gpt_oss_triton.launch.triton_server import TritonServer
from tests.e2e.shim_process import ShimProcess

pytestmark = pytest.mark.anyio

MODEL = "gpt-oss-demo"
ASK: dict[str, Any] = {"model": MODEL, "temperature": 0, "max_completion_tokens": 250}
UNTRACED = RunConfig(tracing_disabled=True)  # traces go to OpenAI
QUESTIONS = (
    "Hello",
    "What is 17 + 25?",
    "What is the capital of France?",
    "Repeat: river lamp stone",
    "Thank you!",
)
WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {"location": {"type": "string", "description": "The location to get the weather for"}},
    "required": ["location"],
    "additionalProperties": False,
}
PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}  # fmt: skip
TOOL: Any = {"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}
PARCEL: dict[str, Any] = {
    "type": "object",
    "properties": {"parcel": {"type": "string"}},
    "required": ["parcel"],
}
# None of its values can go on for ever: whatever the weights, a call that keeps to it comes to its end.
CHART: dict[str, Any] = {
    "type": "object",
    "properties": {
        "kind": {"type": "string", "enum": ["bar", "line"]},
        "points": {
            "type": "array",
            "items": {"type": "integer", "minimum": 0, "maximum": 99},
            "minItems": 1,
            "maxItems": 8,
        },
        "stacked": {"type": "boolean"},
    },
    "required": ["kind", "points", "stacked"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def shim(demo: TritonServer) -> Iterator[ShimProcess]:
    with ShimProcess(demo, models={MODEL: "gpt-oss-20b"}) as process:
        yield process


@pytest.fixture(scope="module")
def api(shim: ShimProcess) -> openai.OpenAI:
    return shim.client()


@pytest.fixture(scope="module")
def guided_api(demo: TritonServer) -> Iterator[openai.OpenAI]:
    with ShimProcess(demo, models={MODEL: "gpt-oss-20b"}, guided_calls=True) as process:
        yield process.client()


def said(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def reasoning(answer: ChatCompletion) -> str:
    return getattr(answer.choices[0].message, "reasoning", None) or ""


@pytest.mark.parametrize("question", QUESTIONS)
def test_it_thinks_answers_and_ends(api: openai.OpenAI, question: str) -> None:
    answer = api.chat.completions.create(**ASK, messages=said(question))
    choice, usage = answer.choices[0], answer.usage
    assert choice.finish_reason == "stop"
    assert choice.message.content
    assert reasoning(answer)
    assert "<|" not in choice.message.content + reasoning(answer)
    assert usage is not None
    assert usage.completion_tokens_details is not None
    assert usage.completion_tokens_details.reasoning_tokens
    # The answer's own tokens, and at least the five that stand between a thought and an answer.
    assert usage.completion_tokens_details.reasoning_tokens < usage.completion_tokens - 5


def test_the_stream_is_the_whole_answer(api: openai.OpenAI) -> None:
    whole = api.chat.completions.create(**ASK, messages=said(QUESTIONS[0]))
    thought = content = ""
    finish = None
    for chunk in api.chat.completions.create(**ASK, messages=said(QUESTIONS[0]), stream=True):
        for choice in chunk.choices:
            assert not (content and getattr(choice.delta, "reasoning", None)), "a thought behind the answer"
            thought += getattr(choice.delta, "reasoning", None) or ""
            content += choice.delta.content or ""
            finish = choice.finish_reason or finish
    assert (thought, content, finish) == (reasoning(whole), whole.choices[0].message.content, "stop")


def test_responses_have_a_reasoning_item_and_a_message(api: openai.OpenAI) -> None:
    answer = api.responses.create(model=MODEL, input=QUESTIONS[0], temperature=0, max_output_tokens=250)
    assert answer.status == "completed"
    assert [item.type for item in answer.output] == ["reasoning", "message"]
    chat = api.chat.completions.create(**ASK, messages=said(QUESTIONS[0]))
    assert answer.output_text == chat.choices[0].message.content


def test_more_effort_thinks_more(api: openai.OpenAI) -> None:
    def thought(effort: str) -> int:
        answers = [
            api.chat.completions.create(**ASK, messages=said(question), reasoning_effort=effort)
            for question in QUESTIONS
        ]
        return sum(len(reasoning(answer)) for answer in answers)

    assert thought("low") < thought("medium") < thought("high")


def test_json_by_a_schema(api: openai.OpenAI) -> None:
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
    answer = api.chat.completions.create(
        **ASK, messages=said("Anna is 34 years old and lives in Paris."), response_format=wanted
    )
    assert answer.choices[0].finish_reason == "stop"
    assert reasoning(answer)
    person = json.loads(answer.choices[0].message.content or "")
    assert person.keys() == {"name", "age"}
    assert isinstance(person["name"], str)
    assert isinstance(person["age"], int)


def test_a_tool_loop(api: openai.OpenAI) -> None:
    messages = said("What's the weather in Paris?")
    first = api.chat.completions.create(**ASK, messages=messages, tools=[TOOL])
    assert first.choices[0].finish_reason == "tool_calls"
    assert reasoning(first)
    message = first.choices[0].message
    assert message.tool_calls is not None
    (call,) = message.tool_calls
    assert call.type == "function"
    assert call.function.name == "get_weather"
    arguments = json.loads(call.function.arguments)
    assert list(arguments) == ["location"]
    assert isinstance(arguments["location"], str)
    messages += [
        message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": '{"weather":"cold"}'},
    ]
    second = api.chat.completions.create(**ASK, messages=messages, tools=[TOOL])
    assert second.choices[0].finish_reason == "stop"
    assert "cold" in (second.choices[0].message.content or "")
    assert cached_share([first, second]) > 0.8


@pytest.mark.parametrize(
    ("request_", "names", "parameters"),
    [
        ("Cancel the parcel A17", ["cancel_parcel", "track_parcel_weather"], PARCEL),
        ("Draw a chart of 3, 5 and 8", ["draw_chart"], CHART),
    ],
    ids=["function", "arguments"],
)
def test_guided_calls_keep_to_what_was_declared(
    guided_api: openai.OpenAI, request_: str, names: list[str], parameters: dict[str, Any]
) -> None:
    """Of requests whose calls the model of then got wrong by itself."""
    tools: Any = [
        {"type": "function", "function": {"name": name, "parameters": parameters}} for name in names
    ]
    answer = guided_api.chat.completions.create(**ASK, messages=said(request_), tools=tools)
    assert answer.choices[0].finish_reason == "tool_calls"
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert call.function.name in names
    assert jsonschema_rs.validator_for(parameters).is_valid(json.loads(call.function.arguments))


def test_turns_are_found_in_the_cache(api: openai.OpenAI) -> None:
    messages: list[Any] = []
    answers = []
    for question in QUESTIONS:
        messages += said(question)
        answers.append(api.chat.completions.create(**ASK, messages=messages))
        messages.append({"role": "assistant", "content": answers[-1].choices[0].message.content})
    found = [cached_tokens(answer) for answer in answers[1:]]
    assert found == sorted(set(found)), "each turn finds more"
    for before, now in pairwise(answers):
        assert before.usage is not None
        # All of the prompt before but the end of its last block: the thought is not sent back.
        assert cached_tokens(now) > before.usage.prompt_tokens - 2 * 16


@pytest.fixture(params=[OpenAIChatCompletionsModel, OpenAIResponsesModel], ids=["chat", "responses"])
async def agents_model(shim: ShimProcess, request: pytest.FixtureRequest) -> AsyncIterator[Model]:
    async with AsyncOpenAI(base_url=f"{shim.url}/v1", api_key="none", max_retries=0, timeout=60) as client:
        yield request.param(MODEL, client)


async def test_an_agents_loop_ends_by_itself(agents_model: Model) -> None:
    asked: list[str] = []

    @function_tool
    def get_weather(location: str) -> str:
        """Get the weather for a given location"""
        asked.append(location)
        return '{"weather":"cold"}'

    certain = ModelSettings(temperature=0)
    agent = Agent("forecaster", model=agents_model, model_settings=certain, tools=[get_weather])
    result = await Runner.run(agent, "What's the weather in Paris?", run_config=UNTRACED, max_turns=4)
    assert len(asked) == 1
    assert "cold" in result.final_output


def cached_tokens(answer: ChatCompletion) -> int:
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    return answer.usage.prompt_tokens_details.cached_tokens or 0


def cached_share(answers: list[ChatCompletion]) -> float:
    """Of the tokens that were computed before, prompts and answers, how many were found again."""
    known = sum(answer.usage.total_tokens for answer in answers[:-1] if answer.usage is not None)
    return sum(map(cached_tokens, answers[1:])) / known
