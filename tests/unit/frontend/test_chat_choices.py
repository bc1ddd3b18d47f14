"""Calls, several answers and log-probabilities at the chat route, on a fake engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import msgspec
import pytest
from fastapi import FastAPI

from frontend.admission.ask import Ask
from frontend.dispatch import Dispatch
from frontend.service import Service
from gpt_oss_triton.errors import InvalidRequest
from gpt_oss_triton.telemetry.record import RequestRecord
from gpt_oss_triton.telemetry.token_counts import TokenCounts
from gpt_oss_triton.wire import Accepted, Event, Finished, Logprobs, Message, TokenLogprobs
from tests.unit.frontend.asgi_client import Exchange
from tests.unit.frontend.chat_client import folded
from tests.unit.frontend.fake_triton import ENSEMBLE, FakeTriton, Request, accepted, endless, finished
from tests.unit.frontend.harmony_turn import NEXT, call, preamble, thought, turn

pytestmark = pytest.mark.anyio

PATH = "/v1/chat/completions"
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
CHAT: dict[str, Any] = {"model": ENSEMBLE, "messages": [{"role": "user", "content": "hi"}]}
Responses = AsyncIterator[tuple[list[int], Event | None]]
Until = Callable[[Callable[[], bool]], Awaitable[None]]


def script_of(tokens: list[int]) -> Callable[[Request], Responses]:
    async def script(request: Request) -> Responses:
        yield accepted()
        yield tokens[:5], None
        yield finished(tokens[5:], count=len(tokens))

    return script


def of_its_seed(request: Request) -> Responses:
    return script_of(turn("think", f"I am {request.options.seed}."))(request)


async def unstreamed(app: FastAPI, **fields: Any) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shim") as http:
        return await http.post(PATH, json={**CHAT, **fields})


async def streamed(app: FastAPI, **fields: Any) -> list[Any]:
    exchange = Exchange.post(app, PATH, {**CHAT, **fields, "stream": True})
    await exchange.finish()
    *events, done = exchange.events()
    assert done == "data: [DONE]"
    return events


async def test_a_call_and_its_result(app: FastAPI, fake: FakeTriton) -> None:
    fake.script = script_of([*thought("I need f."), *NEXT, *call("f", '{"a":  1}')])
    (choice,) = (await unstreamed(app, tools=TOOLS)).json()["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    (made,) = choice["message"]["tool_calls"]
    assert made["function"] == {"name": "f", "arguments": '{"a":  1}'}
    again = folded(await streamed(app, tools=TOOLS))[0]
    assert again["message"]["tool_calls"][0]["function"] == made["function"]

    result = {"role": "tool", "tool_call_id": made["id"], "content": "42"}
    await unstreamed(app, messages=[*CHAT["messages"], choice["message"], result], tools=TOOLS)
    caller, answer = fake.requests[-1].prompt.messages[1:]
    assert (caller.reasoning, caller.tool_calls[0].arguments) == ("I need f.", '{"a":  1}')
    assert answer == Message("tool", "42", name="f")


@pytest.mark.parametrize("include", [True, False])
async def test_reasoning_that_is_not_sent_back_is_remembered(
    app: FastAPI, fake: FakeTriton, include: bool
) -> None:
    fake.script = script_of([*thought("I need f."), *NEXT, *call("f", "{}")])
    (choice,) = (await unstreamed(app, tools=TOOLS, include_reasoning=include)).json()["choices"]
    assert (choice["message"].get("reasoning") is not None) == include
    calls = {"role": "assistant", "tool_calls": choice["message"]["tool_calls"]}
    result = {"role": "tool", "tool_call_id": calls["tool_calls"][0]["id"], "content": "42"}
    running = [*CHAT["messages"], calls, result]

    async def rendered(*messages: Any) -> list[str | None]:
        await unstreamed(app, messages=list(messages), tools=TOOLS)
        return [m.reasoning for m in fake.requests[-1].prompt.messages if m.role == "assistant"]

    assert await rendered(*running) == ["I need f."]
    assert await rendered(CHAT["messages"][0], {**calls, "reasoning": "mine"}, result) == ["mine"]
    assert await rendered(CHAT["messages"][0], {**calls, "reasoning": ""}, result) == [""]
    answered = [*running, {"role": "assistant", "content": "42!"}, *CHAT["messages"]]
    assert await rendered(*answered) == [None, None], "no prompt has what was thought before an answer"


async def test_reasoning_is_dropped_on_request_but_counted(app: FastAPI, fake: FakeTriton) -> None:
    fake.script = script_of(turn("think hard", "Yes."))
    whole = (await unstreamed(app, include_reasoning=False)).json()
    message = whole["choices"][0]["message"]
    assert (message["reasoning"], message["content"]) == (None, "Yes.")
    assert whole["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0
    again = folded(await streamed(app, include_reasoning=False))[0]["message"]
    assert (again.get("reasoning"), again["content"]) == (None, "Yes.")


async def test_several_answers(app: FastAPI, fake: FakeTriton) -> None:
    fake.script = of_its_seed
    whole = (await unstreamed(app, n=3, seed=7)).json()
    assert [c["message"]["content"] for c in whole["choices"]] == ["I am 7.", "I am 8.", "I am 9."]
    assert [c["index"] for c in whole["choices"]] == [0, 1, 2]
    assert whole["usage"]["prompt_tokens"] == 7
    assert whole["usage"]["completion_tokens"] == 3 * len(turn("think", "I am 7."))
    assert len({request.id for request in fake.requests}) == 3
    assert {request.id.rpartition("-")[0] for request in fake.requests} == {whole["id"]}
    *events, usage = await streamed(app, n=3, seed=7, stream_options={"include_usage": True})
    choices = folded(events)
    assert [choices[i]["message"]["content"] for i in range(3)] == ["I am 7.", "I am 8.", "I am 9."]
    assert usage["usage"] == whole["usage"]


async def test_a_prompt_of_several_answers_is_paid_for_once(
    app: FastAPI, fake: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    asks: list[Ask] = []
    dispatch = Service.dispatch

    def noted(service: Service, ask: Ask, *args: Any) -> Dispatch:
        asks.append(ask)
        return dispatch(service, ask, *args)

    monkeypatch.setattr(Service, "dispatch", noted)
    await unstreamed(app, n=3)
    assert [ask.same_prompt for ask in asks] == [False, True, True]


async def test_answers_come_as_they_are_made(app: FastAPI, fake: FakeTriton, until: Until) -> None:
    go = asyncio.Event()

    async def script(request: Request) -> Responses:
        yield accepted()
        if request.options.seed == 0:
            await go.wait()
        yield finished(turn("", f"I am {request.options.seed}."))

    fake.script = script
    exchange = Exchange.post(app, PATH, {**CHAT, "n": 2, "seed": 0, "stream": True})
    await until(lambda: b'"finish_reason":"stop"' in exchange.body)
    go.set()
    await exchange.finish()
    ends = [e["choices"][0]["index"] for e in exchange.events()[:-1] if e["choices"][0]["finish_reason"]]
    assert ends == [1, 0], "the second one waited for nobody"


async def test_one_refusal_refuses_all(app: FastAPI, fake: FakeTriton, until: Until) -> None:
    async def script(request: Request) -> Responses:
        if request.options.seed == 2:
            raise InvalidRequest("No.", param="grammar")
        yield accepted()
        yield [], None
        await asyncio.Event().wait()

    fake.script = script
    response = await unstreamed(app, n=3, seed=1, response_format={"type": "json_object"})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "response_format")
    service: Service = app.state.service
    await until(lambda: service.in_flight == 0 and all(request.ended.is_set() for request in fake.requests))


@pytest.mark.parametrize("stream", [True, False])
async def test_a_stream_begins_while_further_answers_wait_for_their_places(
    app: FastAPI, fake: FakeTriton, until: Until, stream: bool
) -> None:
    go = asyncio.Event()

    async def script(request: Request) -> Responses:
        yield accepted()
        yield turn("think", "Hello! ")[:-1], None
        await go.wait()
        yield finished([], count=1)

    fake.script = script
    fake.load = msgspec.structs.replace(fake.load, max_sequences=1, pid=2)
    service: Service = app.state.service
    await until(lambda: service.targets[0].load is not None and service.targets[0].load.max_sequences == 1)
    exchange = Exchange.post(app, PATH, {**CHAT, "n": 3, "stream": stream})
    await until(lambda: service.admission.stats()["queued"] == 2)
    if stream:
        await exchange.wait_sent(3)
        assert b"Hello!" in exchange.body
    assert len(fake.requests) == 1
    go.set()
    await exchange.finish()
    assert exchange.status == 200
    assert len(fake.requests) == 3


async def test_what_a_request_has_used_that_ends_while_an_answer_waits_for_its_place(
    app: FastAPI, fake: FakeTriton, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = turn("", "I am 0.")

    async def script(request: Request) -> Responses:
        yield [], Accepted(prompt_tokens=10_000, cached_tokens=9_984)
        if len(fake.requests) == 1:
            yield tokens, Finished("stop", 10_000, len(tokens), cached_tokens=9_984)
        else:
            await asyncio.Event().wait()

    fake.script = script
    fake.load = msgspec.structs.replace(fake.load, max_sequences=1, pid=2)
    service: Service = app.state.service
    await until(lambda: service.targets[0].load is not None and service.targets[0].load.max_sequences == 1)
    records: list[RequestRecord] = []
    monkeypatch.setattr(service.telemetry, "finish", records.append)
    exchange = Exchange.post(app, PATH, {**CHAT, "n": 3, "stream": True})
    await until(lambda: b'"finish_reason":"stop"' in exchange.body and len(fake.requests) == 2)
    exchange.disconnect()
    await exchange.finish()
    (record,) = records
    assert record.counts == TokenCounts(10_000, 9_984, len(tokens))
    assert (record.error, record.finish_reason, record.answers) == ("cancelled", None, 1)


async def test_a_further_answer_that_fails_in_its_wait_ends_the_stream(
    app: FastAPI, fake: FakeTriton, until: Until
) -> None:
    fake.script = endless
    fake.load = msgspec.structs.replace(fake.load, max_sequences=1, pid=2)
    service: Service = app.state.service
    await until(lambda: service.targets[0].load is not None and service.targets[0].load.max_sequences == 1)
    exchange = Exchange.post(app, PATH, {**CHAT, "n": 2, "stream": True})
    await exchange.wait_sent(3)
    service.refuse_new()
    assert service.admission.stats()["queued"] == 1, "it was let in with the first one"
    service.admission.end_waits()
    await exchange.finish()
    assert exchange.events()[-1]["error"]["code"] == "engine_unavailable"
    await until(lambda: service.in_flight == 0 and service.admission.stats()["queued"] == 0)


async def test_who_reads_slowly_holds_no_place_in_the_engine(
    app: FastAPI, fake: FakeTriton, until: Until
) -> None:
    fake.script = of_its_seed
    service: Service = app.state.service
    exchange = Exchange.post(app, PATH, {**CHAT, "seed": 7, "stream": True})
    exchange.reads.clear()
    await exchange.wait_sent(1)
    await until(lambda: bool(fake.requests) and fake.requests[0].ended.is_set())
    await until(lambda: service.in_flight == 0 and service.targets[0].capacity.in_flight == 0)
    assert len(exchange.sent) == 1
    exchange.reads.set()
    await exchange.finish()
    assert folded(exchange.events()[:-1])[0]["message"]["content"] == "I am 7."


async def test_disconnect_ends_all(app: FastAPI, fake: FakeTriton, until: Until) -> None:
    fake.script = endless
    exchange = Exchange.post(app, PATH, {**CHAT, "n": 2, "stream": True})
    await exchange.wait_sent(4)
    exchange.disconnect()
    await exchange.finish()
    await until(lambda: {request.id for request in fake.requests} == set(fake.cancelled))


async def test_log_probabilities(app: FastAPI, fake: FakeTriton) -> None:
    tokens = turn("think", "Hello you")

    async def script(request: Request) -> Responses:
        assert request.options.logprobs == 1
        yield accepted()
        for token in tokens:
            yield [token], Logprobs([TokenLogprobs(-0.5, [(token, -0.5)])])
        yield finished([], count=len(tokens))

    fake.script = script
    whole = (await unstreamed(app, logprobs=True, top_logprobs=1)).json()["choices"][0]
    assert [entry["token"] for entry in whole["logprobs"]["content"]] == ["Hello", " you"]
    assert bytes(b for entry in whole["logprobs"]["content"] for b in entry["bytes"]) == b"Hello you"
    again = folded(await streamed(app, logprobs=True, top_logprobs=1))[0]
    assert again["logprobs"] == whole["logprobs"]


async def test_grammar_and_tools_reach_the_engine(app: FastAPI, fake: FakeTriton) -> None:
    await unstreamed(app, tools=TOOLS, tool_choice="required")
    (request,) = fake.requests
    assert request.options.grammar is not None
    assert "functions." in request.options.grammar
    assert [tool.name for tool in request.prompt.tools] == ["f"]
    assert json.loads(json.dumps(request.prompt.tools[0].parameters)) == {"type": "object"}


@pytest.mark.parametrize("arguments", ['{"a":  1}', '{"a":1}'])
async def test_the_turn_after_a_call_is_the_same_session(
    app: FastAPI, fake: FakeTriton, arguments: str
) -> None:
    """Also from a client that writes the arguments anew."""
    fake.script = script_of(
        [*thought("I need f."), *NEXT, *preamble("Wait."), *NEXT, *call("f", '{"a":  1}')]
    )
    (choice,) = (await unstreamed(app, tools=TOOLS)).json()["choices"]
    message = choice["message"]
    message["tool_calls"][0]["function"]["arguments"] = arguments
    result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "2"}
    fake.script = script_of(turn("Now I know.", "It is 2."))
    await unstreamed(app, tools=TOOLS, messages=[*CHAT["messages"], message, result])
    first, second = fake.requests
    assert first.options.lease is None
    assert second.options.lease is not None
