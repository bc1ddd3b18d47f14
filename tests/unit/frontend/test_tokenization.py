"""Prompts shown rather than answered: /tokenize, /detokenize and the render endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from frontend import normalizing, request_body, triton
from frontend.caller import ANONYMOUS, Caller
from frontend.reasoning_memory import ReasoningMemory
from gpt_oss_triton.harmony import tokens
from gpt_oss_triton.harmony.check import MAX_PROMPT_IDS
from gpt_oss_triton.harmony.normalize import normalized_key, prompt_hash
from gpt_oss_triton.harmony.render import render
from gpt_oss_triton.wire import Message, PromptRequest
from tests.unit.frontend.fake_triton import ENSEMBLE
from tests.unit.frontend.normalizing_triton import NormalizingTriton

pytestmark = pytest.mark.anyio

RENDER = "/v1/chat/completions/render"
CHAT: dict[str, Any] = {"model": ENSEMBLE, "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
async def fake() -> AsyncIterator[NormalizingTriton]:
    async with NormalizingTriton(prompt_date="2025-01-31", prompt_version="v7") as triton:
        yield triton


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://shim"
    ) as client:
        yield client


async def test_a_chat_is_rendered_as_the_normalizer_renders_it(http: httpx.AsyncClient) -> None:
    """With its settings, which the shim does not have."""
    prompt = PromptRequest([Message("user", "hi")], "high")
    ids = render(prompt, date="2025-01-31")
    response = await http.post(RENDER, json={**CHAT, "reasoning_effort": "high", "max_tokens": 5})
    assert response.json() == {
        "object": "chat.completion.prompt",
        "model": ENSEMBLE,
        "text": tokens.decode(ids),
        "token_ids": ids,
        "prompt_hash": prompt_hash(ids),
        "normalized_key": normalized_key(prompt),
        "prompt_version": "v7",
    }
    assert "2025-01-31" in response.json()["text"]


async def test_messages_are_tokenized_as_they_are_rendered(http: httpx.AsyncClient) -> None:
    rendered = (await http.post(RENDER, json=CHAT)).json()
    response = await http.post("/tokenize", json=CHAT)
    ids = rendered["token_ids"]
    assert response.json() == {"tokens": ids, "count": len(ids), "max_model_len": 4096}


async def test_what_is_tokenized_has_the_reasoning_that_the_caller_left_out(
    app: FastAPI, http: httpx.AsyncClient
) -> None:
    """As the answer to the same request would have it."""
    memory: ReasoningMemory = app.state.reasoning_memory
    memory.keep(Caller(ANONYMOUS, "normal"), "c", "I need the weather.")
    call = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    asked = {**CHAT, "messages": [*CHAT["messages"], {"role": "assistant", "tool_calls": [call]}]}
    ids = (await http.post("/tokenize", json=asked)).json()["tokens"]
    assert "I need the weather." in tokens.decode(ids)
    assert ids == (await http.post(RENDER, json=asked)).json()["token_ids"]


async def test_a_text_there_and_back(http: httpx.AsyncClient) -> None:
    text = "<|start|>user<|message|>Grüße 🌍<|end|>"
    ids = (await http.post("/tokenize", json={"prompt": text})).json()["tokens"]
    assert ids[0] == tokens.START
    assert ids[-1] == tokens.END
    assert (await http.post("/detokenize", json={"tokens": ids})).json() == {"prompt": text}


async def test_no_ids_no_text(http: httpx.AsyncClient) -> None:
    assert (await http.post("/detokenize", json={"tokens": []})).json() == {"prompt": ""}


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": 5}, "prompt"),
        ("/tokenize", {"prompt": ""}, "prompt"),
        ("/tokenize", {"prompt": "x", "prompts": []}, "prompts"),
        ("/tokenize", {"messages": [], "model": ENSEMBLE}, "messages"),
        ("/tokenize", {**CHAT, "prompt": "x"}, "prompt"),
        ("/tokenize", {**CHAT, "messages": [{"role": "user", "content": "a", "name": "é"}]}, "messages[0].name"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens[0]"),
        ("/detokenize", {"tokens": [1, 201_088]}, "tokens[1]"),
        ("/detokenize", {"tokens": "x"}, "tokens"),
        ("/detokenize", {"tokens": [1] * (MAX_PROMPT_IDS + 1)}, "tokens"),
        ("/tokenize", {"prompt": "x" * (MAX_PROMPT_IDS + 1)}, "prompt"),
        (RENDER, {"model": ENSEMBLE}, "messages"),
    ],
)  # fmt: skip
async def test_bad_requests_name_the_field(
    http: httpx.AsyncClient, path: str, body: dict[str, Any], param: str
) -> None:
    response = await http.post(path, json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {"prompt": "one two three"}, "prompt"),
        ("/tokenize", CHAT, "messages"),
        (RENDER, CHAT, "messages"),
    ],
)
async def test_more_tokens_than_any_prompt_may_have(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, path: str, body: dict[str, Any], param: str
) -> None:
    monkeypatch.setattr(triton, "MAX_PROMPT_IDS", 2)
    response = await http.post(path, json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/tokenize", {"prompt": "a " * 150_000}),
        ("/detokenize", {"tokens": [1] * 150_000}),
        (RENDER, {**CHAT, "messages": [{"role": "user", "content": "a " * 150_000}]}),
    ],
)
async def test_a_large_answer_is_written_in_a_thread(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, path: str, body: dict[str, Any]
) -> None:
    done: list[Any] = []

    async def noted(work: Any, *args: Any) -> Any:
        done.append(work(*args))
        return done[-1]

    monkeypatch.setattr(request_body.asyncio, "to_thread", noted)
    response = await http.post(path, json=body)
    assert response.status_code == 200
    assert response.content in done


@pytest.mark.parametrize(
    ("path", "body"),
    [("/tokenize", {"prompt": "x"}), ("/detokenize", {"tokens": [1]}), (RENDER, {**CHAT})],
)
async def test_unknown_models(http: httpx.AsyncClient, path: str, body: dict[str, Any]) -> None:
    response = await http.post(path, json={**body, "model": "gpt-7"})
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"


async def test_more_than_some_at_once_are_told_to_come_back(
    http: httpx.AsyncClient, fake: NormalizingTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(normalizing, "_MOST_AT_ONCE", 2)
    entered, go = asyncio.Semaphore(0), asyncio.Event()

    async def hold() -> None:
        entered.release()
        await go.wait()

    monkeypatch.setattr(fake, "_hang_if_not_alive", hold)
    held = [asyncio.create_task(http.post(RENDER, json=CHAT)) for _ in range(2)]
    for _ in held:
        await entered.acquire()
    refused = await http.post("/tokenize", json={"prompt": "x"})
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "1"
    go.set()
    assert [(await task).status_code for task in held] == [200, 200]


async def test_a_lost_engine_is_a_503(app: FastAPI, http: httpx.AsyncClient, fake: NormalizingTriton) -> None:
    fake.mode = "hung"
    async with asyncio.timeout(10):
        while not app.state.service.problems():  # noqa: ASYNC110 - it has no event for it
            await asyncio.sleep(0.01)
    response = await http.post("/tokenize", json={"prompt": "x"})
    assert response.status_code == 503
