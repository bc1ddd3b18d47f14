"""Wire conformance: what a client puts together of a stream is the unstreamed answer, field by field.

`tests/unit/frontend/test_streamed_and_whole.py` holds the same of 500 answers without a server in between.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response

from gpt_oss_triton.launch.triton_server import TritonServer
from tests.e2e import random_answers
from tests.e2e.random_answers import FUNCTIONS, question
from tests.e2e.shim_process import ShimProcess
from tests.e2e.triton_direct_client import ENSEMBLE
from tests.unit.frontend.chat_client import folded, records

PARAMETERS = {"type": "object", "properties": {}}
Record = dict[str, Any]


@pytest.fixture(scope="module")
def http(scripted: TritonServer) -> Iterator[httpx.Client]:
    with ShimProcess(scripted) as shim, httpx.Client(base_url=f"{shim.url}/v1", timeout=60) as client:
        yield client


def post(http: httpx.Client, path: str, body: Record) -> bytes:
    response = http.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.content


def events(stream: bytes) -> list[bytes]:
    assert stream.endswith(b"\n\n")
    return [event + b"\n\n" for event in stream.split(b"\n\n")[:-1]]


def without_ids(message: Record) -> Record:
    """The fields that are not null; a call's id is another one in each answer."""
    kept = {name: value for name, value in message.items() if value is not None}
    if calls := kept.get("tool_calls"):
        assert len({call["id"] for call in calls}) == len(calls)
        kept["tool_calls"] = [(call["type"], call["function"]) for call in calls]
    return kept


def chat(number: int, way: int, **fields: Any) -> Record:
    return {
        "model": ENSEMBLE,
        "messages": [{"role": "user", "content": question(number, way)}],
        "tools": [{"type": "function", "function": {"name": name, "parameters": PARAMETERS}} for name in FUNCTIONS],
        "stop": random_answers.stops(number),
        "return_token_ids": True,
        **fields,
    }  # fmt: skip


@pytest.mark.parametrize("number", range(random_answers.COUNT))
def test_chat(http: httpx.Client, number: int) -> None:
    stream = chat(number, 1, stream=True, stream_options={"include_usage": True})
    *chunks, done = events(post(http, "/chat/completions", stream))
    assert done == b"data: [DONE]\n\n"
    made = records(chunks)
    for chunk in made:
        ChatCompletionChunk.model_validate(chunk, strict=True)
        assert all(choice["logprobs"] is None for choice in chunk["choices"])
    whole = json.loads(post(http, "/chat/completions", chat(number, 2)))
    ChatCompletion.model_validate(whole, strict=True)
    streamed = folded(made)[0]
    (choice,) = whole["choices"]
    assert without_ids(streamed["message"]) == without_ids(choice["message"])
    assert streamed["finish_reason"] == choice["finish_reason"]
    assert streamed["token_ids"] == choice["token_ids"]
    assert choice["logprobs"] is None
    assert made[-1]["usage"] == whole["usage"]
    assert made[-1]["choices"] == []
    assert [chunk["usage"] for chunk in made[:-1]] == [None] * (len(made) - 1)
    shown = json.dumps([choice["message"].get("content"), choice["message"].get("reasoning")])
    assert "<|" not in shown, "no marker becomes text"


def comparable(response: Record) -> Record:
    """Without what names this one response."""
    items = [
        {name: value for name, value in item.items() if name not in ("id", "call_id")}
        for item in response["output"]
    ]
    names = ("status", "error", "incomplete_details", "usage", "model", "tools", "text", "reasoning")
    return {"output": items, **{name: response[name] for name in names}}


@pytest.mark.parametrize("number", range(random_answers.COUNT))
def test_responses(http: httpx.Client, number: int) -> None:
    tools = [
        {"type": "function", "name": name, "parameters": PARAMETERS, "strict": False} for name in FUNCTIONS
    ]
    body = {"model": ENSEMBLE, "input": question(number, 1), "tools": tools}
    told = [
        json.loads(event.split(b"data: ", 1)[1])
        for event in events(post(http, "/responses", {**body, "stream": True}))
    ]
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    whole = json.loads(post(http, "/responses", {**body, "input": question(number, 2)}))
    Response.model_validate(whole)
    assert comparable(told[-1]["response"]) == comparable(whole)
    done = [event["item"] for event in told if event["type"] == "response.output_item.done"]
    assert done == told[-1]["response"]["output"], "the events tell of every item"
    for kind in ("output_text", "reasoning_text"):
        deltas = "".join(event["delta"] for event in told if event["type"] == f"response.{kind}.delta")
        texts = [part["text"] for item in done for part in item.get("content", ()) if part["type"] == kind]
        assert deltas == "".join(texts)
