"""The chat endpoint on a fake engine: what a client sees, and what the engine hears."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from frontend import event_stream
from frontend.service import Service
from gpt_oss_triton.config import FrontendSettings
from gpt_oss_triton.errors import ContextLengthExceeded, InternalError, Overloaded
from gpt_oss_triton.wire import Event, GenerationOptions, Message
from tests.unit.frontend.asgi_client import Exchange
from tests.unit.frontend.fake_triton import ENSEMBLE, FakeTriton, Request, accepted, endless, finished
from tests.unit.frontend.harmony_turn import turn

pytestmark = pytest.mark.anyio

PATH = "/v1/chat/completions"
CHAT: dict[str, Any] = {"model": ENSEMBLE, "messages": [{"role": "user", "content": "hi"}]}
STREAM = {**CHAT, "stream": True}
Until = Callable[[Callable[[], bool]], Awaitable[None]]
Responses = AsyncIterator[tuple[list[int], Event | None]]


async def answer(request: Request) -> Responses:
    tokens = turn("think", "Hello!")
    yield accepted()
    yield tokens[:4], None
    yield tokens[4:9], None
    yield finished(tokens[9:], count=len(tokens))


async def never_accepted(request: Request) -> Responses:
    await asyncio.Event().wait()
    yield accepted()


def client(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shim")


async def test_unstreamed(app: FastAPI, fake: FakeTriton) -> None:
    fake.script = answer
    async with client(app) as http:
        response = await http.post(PATH, json={**CHAT, "max_tokens": 50, "temperature": 0})
    assert response.status_code == 200
    record = response.json()
    assert record["choices"][0]["message"]["content"] == "Hello!"
    assert record["choices"][0]["message"]["reasoning"] == "think"
    assert record["usage"]["prompt_tokens_details"] == {"cached_tokens": 4}
    (request,) = fake.requests
    assert request.id == record["id"]
    assert request.prompt.messages == [Message("user", "hi")]
    assert request.options == GenerationOptions(max_tokens=50, temperature=0)
    assert sorted(request.outputs) == ["event", "token_ids"]
    assert fake.cancelled == []


async def test_streamed(app: FastAPI, fake: FakeTriton) -> None:
    fake.script = answer
    exchange = Exchange.post(app, PATH, {**STREAM, "stream_options": {"include_usage": True}})
    await exchange.finish()
    assert exchange.status == 200
    assert exchange.headers["content-type"].startswith("text/event-stream")
    *events, usage, done = exchange.events()
    assert done == "data: [DONE]"
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == len(turn("think", "Hello!"))
    assert events[0]["choices"][0]["delta"]["role"] == "assistant"
    assert events[-1]["choices"][0]["finish_reason"] == "stop"
    text = "".join(e["choices"][0]["delta"].get("content", "") for e in events)
    assert text == "Hello!"
    bodies = [m["body"] for m in exchange.sent[1:-1]]
    assert all(body.count(b"\n\n") == 1 for body in bodies), "one event in each write"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_refusal_by_the_engine_has_its_own_status(
    app: FastAPI, fake: FakeTriton, stream: bool
) -> None:
    async def refuse(request: Request) -> Responses:
        raise ContextLengthExceeded("5000 tokens do not fit 4096.", param="messages")
        yield accepted()

    fake.script = refuse
    async with client(app) as http:
        response = await http.post(PATH, json={**CHAT, "stream": stream})
    assert response.status_code == 400
    assert response.json()["error"] == {
        "message": "5000 tokens do not fit 4096.",
        "type": "invalid_request_error",
        "param": "messages",
        "code": "context_length_exceeded",
    }


async def test_overload_says_when_to_come_back(app: FastAPI, fake: FakeTriton) -> None:
    async def refuse(request: Request) -> Responses:
        raise Overloaded("The queue is full.")
        yield accepted()

    fake.script = refuse
    async with client(app) as http:
        response = await http.post(PATH, json=CHAT)
    assert response.status_code == 429
    assert int(response.headers["retry-after"]) >= 1


async def test_no_status_before_the_engine_accepts(app: FastAPI, fake: FakeTriton, until: Until) -> None:
    go = asyncio.Event()

    async def wait(request: Request) -> Responses:
        await go.wait()
        yield accepted()
        yield finished([])

    fake.script = wait
    exchange = Exchange.post(app, PATH, STREAM)
    await until(lambda: len(fake.requests) == 1)
    assert exchange.sent == []
    go.set()
    await exchange.finish()
    assert exchange.status == 200


async def test_failure_in_the_stream_is_one_error_event_and_the_end(app: FastAPI, fake: FakeTriton) -> None:
    async def fail(request: Request) -> Responses:
        yield accepted()
        yield turn("think", "Hello! ")[:-1], None
        raise InternalError("The step failed.")

    fake.script = fail
    exchange = Exchange.post(app, PATH, STREAM)
    await exchange.finish()
    assert exchange.status == 200
    *_, last = exchange.events()
    assert last["error"]["code"] == "internal_error"
    assert b"[DONE]" not in exchange.body
    assert exchange.sent[-1]["more_body"] is False


@pytest.mark.parametrize("script", [endless, never_accepted])
@pytest.mark.parametrize("stream", [True, False])
async def test_disconnect_cancels_by_id(
    app: FastAPI, fake: FakeTriton, until: Until, stream: bool, script: Any
) -> None:
    fake.script = script
    exchange = Exchange.post(app, PATH, {**CHAT, "stream": stream})
    await until(lambda: len(fake.requests) == 1)
    if stream and script is endless:
        await exchange.wait_sent(3)
    exchange.disconnect()
    await exchange.finish()
    await until(lambda: fake.cancelled == [fake.requests[0].id] and fake.requests[0].ended.is_set())
    service: Service = app.state.service
    assert service.in_flight == 0


async def test_keep_alive_comments(app: FastAPI, fake: FakeTriton, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "KEEP_ALIVE_S", 0.05)
    fake.script = endless
    exchange = Exchange.post(app, PATH, STREAM)
    await exchange.wait_sent(8)
    assert exchange.events().count(": keep-alive") >= 2
    exchange.disconnect()
    await exchange.finish()


@pytest.mark.parametrize("stream", [True, False])
async def test_unexpected_end_of_the_answer(app: FastAPI, fake: FakeTriton, stream: bool) -> None:
    async def stop_early(request: Request) -> Responses:
        yield accepted()

    fake.script = stop_early
    exchange = Exchange.post(app, PATH, {**CHAT, "stream": stream})
    await exchange.finish()
    error = exchange.events()[-1] if stream else json.loads(exchange.body)
    assert error["error"]["code"] == "engine_unavailable"


class TestDeadline:
    @pytest.fixture
    def settings(self, settings: FrontendSettings) -> FrontendSettings:
        return settings.model_copy(update={"request_timeout_s": 0.3})

    async def test_before_the_answer(self, app: FastAPI, fake: FakeTriton, until: Until) -> None:
        fake.script = never_accepted
        async with client(app) as http:
            response = await http.post(PATH, json=CHAT)
        assert response.status_code == 504
        assert response.json()["error"]["code"] == "deadline_exceeded"
        await until(lambda: fake.cancelled == [fake.requests[0].id])

    async def test_in_the_stream(self, app: FastAPI, fake: FakeTriton, until: Until) -> None:
        fake.script = endless
        exchange = Exchange.post(app, PATH, STREAM)
        await exchange.finish()
        assert exchange.events()[-1]["error"]["code"] == "deadline_exceeded"
        await until(lambda: fake.cancelled == [fake.requests[0].id])


class TestAcceptTimeout:
    @pytest.fixture
    def settings(self, settings: FrontendSettings) -> FrontendSettings:
        return settings.model_copy(update={"accept_timeout_s": 0.3})

    async def test_is_503(self, app: FastAPI, fake: FakeTriton, until: Until) -> None:
        fake.script = never_accepted
        async with client(app) as http:
            response = await http.post(PATH, json=STREAM)
        assert response.status_code == 503
        await until(lambda: fake.cancelled == [fake.requests[0].id])


async def test_drain_refuses_new_and_ends_old(app: FastAPI, fake: FakeTriton, until: Until) -> None:
    fake.script = endless
    exchange = Exchange.post(app, PATH, STREAM)
    await exchange.wait_sent(3)
    service: Service = app.state.service
    hurry = asyncio.Event()
    drain = asyncio.create_task(service.drain(hurry))
    await until(lambda: service.draining)
    async with client(app) as http:
        assert (await http.get("/readyz")).status_code == 503
        assert (await http.get("/livez")).status_code == 200
        refused = await http.post(PATH, json=CHAT)
    assert refused.status_code == 503
    assert "retry-after" in refused.headers
    assert not drain.done(), "the running answer keeps its time"
    hurry.set()
    await drain
    await exchange.finish()
    assert exchange.events()[-1]["error"]["code"] == "engine_unavailable"
    assert fake.cancelled == [fake.requests[0].id]


async def test_drain_waits_for_running_answers(app: FastAPI, fake: FakeTriton, until: Until) -> None:
    go = asyncio.Event()

    async def slow(request: Request) -> Responses:
        yield accepted()
        await go.wait()
        yield finished(turn("a", "b"))

    fake.script = slow
    exchange = Exchange.post(app, PATH, STREAM)
    await exchange.wait_sent(1)
    service: Service = app.state.service
    drain = asyncio.create_task(service.drain(asyncio.Event()))
    await until(lambda: service.draining)
    go.set()
    await drain
    await exchange.finish()
    assert exchange.events()[-1] == "data: [DONE]"
    assert fake.cancelled == []


@pytest.mark.parametrize("content_type", ["text/plain", "", "multipart/form-data; boundary=x"])
async def test_media_type(app: FastAPI, content_type: str) -> None:
    async with client(app) as http:
        response = await http.post(PATH, content=b"{}", headers={"content-type": content_type})
    assert response.status_code == 415


async def test_unknown_model(app: FastAPI) -> None:
    async with client(app) as http:
        response = await http.post(PATH, json={**CHAT, "model": "gpt-7"})
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"
    assert response.json()["error"]["param"] == "model"
