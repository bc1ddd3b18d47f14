"""The endpoints beside chat, by the real client, on a real tritonserver: text completions, responses, tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from gpt_oss_triton.harmony import tokens
from gpt_oss_triton.launch.triton_server import TritonServer
from gpt_oss_triton.wire import GenerationOptions, Message, PromptRequest
from tests.e2e.shim_process import ShimProcess
from tests.e2e.triton_direct_client import ENSEMBLE, DirectClient

GREEDY: dict[str, Any] = {"temperature": 0}
TOOL: Any = {
    "type": "function",
    "name": "f",
    "parameters": {"type": "object", "properties": {}},
    "strict": False,
}
_event: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)


@pytest.fixture(scope="module")
def shim(triton: TritonServer) -> Iterator[ShimProcess]:
    with ShimProcess(triton) as process:
        yield process


@pytest.fixture(scope="module")
def api(shim: ShimProcess) -> openai.OpenAI:
    return shim.client()


def post(shim: ShimProcess, path: str, **body: Any) -> Any:
    response = httpx.post(f"{shim.url}{path}", json=body, timeout=60)
    assert response.status_code == 200, response.text
    return response.json()


def test_a_prompt_is_rendered_as_it_is_run(shim: ShimProcess, client: DirectClient) -> None:
    """The hash that the render endpoint gives is the one that the engine reports of the same request."""
    rendered = post(
        shim, "/v1/chat/completions/render", model=ENSEMBLE, messages=[{"role": "user", "content": "hi"}]
    )
    prompt = PromptRequest([Message("user", "hi")])
    first, *_ = client.ask(prompt=prompt, options=GenerationOptions(max_tokens=1), stream=True)
    assert rendered["prompt_hash"] == first.event.prompt.prompt_hash
    assert rendered["normalized_key"] == first.event.prompt.normalized_key
    assert first.event.prompt_tokens == len(rendered["token_ids"])
    assert post(shim, "/detokenize", tokens=rendered["token_ids"]) == {"prompt": rendered["text"]}
    again = post(shim, "/tokenize", prompt=rendered["text"])
    assert again["tokens"] == rendered["token_ids"]
    assert again["max_model_len"] > again["count"] == len(rendered["token_ids"])


def test_a_completion_is_the_engines(api: openai.OpenAI, client: DirectClient) -> None:
    answer = api.completions.create(
        model=ENSEMBLE, prompt="Once upon", max_tokens=24, **GREEDY, extra_body={"return_token_ids": True}
    )
    options = GenerationOptions(max_tokens=24, temperature=0)
    direct = client.ask(prompt=PromptRequest(text="Once upon"), options=options, stream=True)
    ids = [token for response in direct for token in response.token_ids]
    (choice,) = answer.choices
    assert choice.token_ids == ids  # type: ignore[attr-defined]
    text = tokens.decode(token for token in ids if token < tokens.FIRST_SPECIAL)
    assert choice.text == text
    assert answer.usage is not None
    assert answer.usage.completion_tokens == len(ids)


def test_completions_of_ids_are_those_of_their_text(shim: ShimProcess, api: openai.OpenAI) -> None:
    ids = post(shim, "/tokenize", prompt="Once upon")["tokens"]
    by_text, by_ids = (
        api.completions.create(model=ENSEMBLE, prompt=prompt, **GREEDY).choices[0].text
        for prompt in ("Once upon", ids)
    )
    assert by_text == by_ids


def test_completions_streamed_and_unstreamed_are_equal(api: openai.OpenAI) -> None:
    # Of few tokens: among 201,088 that are about equally likely the last bit of a sum decides, and with plain torch that
    # depends on who shares the step.
    few = {"top_k": 20}
    given: dict[str, Any] = {
        "model": ENSEMBLE,
        "prompt": ["a", "b"],
        "n": 2,
        "seed": 3,
        "echo": True,
        "extra_body": few,
    }
    whole = api.completions.create(**given)
    texts = [""] * 4
    for chunk in api.completions.create(**given, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert texts == [choice.text for choice in whole.choices]
    assert len(set(texts)) == 4, "each has a seed of its own"


def test_a_stop_string_stops_the_engine(
    api: openai.OpenAI, client: DirectClient, until: Callable[[Callable[[], bool], str], None]
) -> None:
    whole = api.completions.create(model=ENSEMBLE, prompt="x", max_tokens=40, **GREEDY)
    text = whole.choices[0].text
    stop = text[len(text) // 2 : len(text) // 2 + 3]
    stopped = api.completions.create(model=ENSEMBLE, prompt="x", max_tokens=40, stop=[stop], **GREEDY)
    assert stopped.choices[0].text == text[: text.index(stop)]
    assert stopped.choices[0].finish_reason == "stop"
    assert stopped.usage is not None
    assert whole.usage is not None
    assert stopped.usage.completion_tokens < whole.usage.completion_tokens
    until(lambda: client.load().running == 0, "the engine has nothing to do")


def test_responses_streamed_and_unstreamed_are_equal(api: openai.OpenAI) -> None:
    given: dict[str, Any] = {"model": ENSEMBLE, "input": "Good morning!", "max_output_tokens": 48, **GREEDY}
    whole = api.responses.create(**given)
    Response.model_validate(whole.to_dict())
    assert whole.output
    events = list(api.responses.create(**given, stream=True))
    for number, event in enumerate(events):
        _event.validate_python(event.to_dict())
        assert event.sequence_number == number
    assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]
    last = events[-1]
    assert last.type in ("response.completed", "response.incomplete")
    assert last.response.usage == whole.usage

    def texts(response: Response) -> list[Any]:
        return [
            [part.text for part in item.content or ()]  # type: ignore[union-attr]
            for item in response.output
            if item.type in ("message", "reasoning")
        ]

    assert texts(last.response) == texts(whole)


def test_a_conversation_by_id_is_the_conversation_by_items(api: openai.OpenAI) -> None:
    given: dict[str, Any] = {"model": ENSEMBLE, "max_output_tokens": 24, **GREEDY}
    first = api.responses.create(**given, input="One")
    by_id = api.responses.create(**given, input="Two", previous_response_id=first.id)
    items: list[Any] = [{"role": "user", "content": "One"}, *(item.to_dict() for item in first.output)]
    by_items = api.responses.create(**given, input=[*items, {"role": "user", "content": "Two"}])
    assert by_id.usage is not None
    assert by_items.usage is not None
    assert by_id.usage.input_tokens == by_items.usage.input_tokens > 0
    assert api.responses.retrieve(by_id.id).usage == by_id.usage
    api.responses.delete(by_id.id)
    with pytest.raises(openai.NotFoundError):
        api.responses.retrieve(by_id.id)


def test_a_tools_output_is_rendered(api: openai.OpenAI) -> None:
    items: list[Any] = [
        {"role": "user", "content": "Call f."},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "42"},
    ]
    answer = api.responses.create(model=ENSEMBLE, input=items, tools=[TOOL], max_output_tokens=8)
    assert answer.status in ("completed", "incomplete")
    with pytest.raises(openai.BadRequestError) as caught:
        api.responses.create(model=ENSEMBLE, input=items[2:], tools=[TOOL])
    assert caught.value.param == "input[0].call_id"


def test_what_does_not_fit_says_so(api: openai.OpenAI) -> None:
    for ask, param in (
        (lambda: api.completions.create(model=ENSEMBLE, prompt=[1] * 200_000), "prompt"),
        (lambda: api.responses.create(model=ENSEMBLE, input="word " * 200_000), "input"),
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            ask()
        assert (caught.value.code, caught.value.param) == ("context_length_exceeded", param)
