"""The Responses endpoint on a fake engine, read by the real client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import msgspec
import openai
import pytest
from fastapi import FastAPI
from openai import AsyncOpenAI
from openai.types.responses import Response, ResponseStreamEvent
from openai.types.responses.response_input_item import FunctionCallOutput
from pydantic import BaseModel, TypeAdapter

from frontend import event_stream
from frontend.caller import ANONYMOUS, Caller
from frontend.service import Service
from gpt_oss_triton.errors import ContextLengthExceeded, InternalError, InvalidRequest
from gpt_oss_triton.harmony import tokens
from gpt_oss_triton.harmony.render import render
from gpt_oss_triton.wire import Logprobs, Message, TokenLogprobs, ToolCall
from tests.unit.frontend.asgi_client import Exchange
from tests.unit.frontend.fake_triton import ENSEMBLE, FakeTriton, Request, accepted, endless, finished
from tests.unit.frontend.harmony_turn import NEXT, call, final, preamble, thought, turn
from tests.unit.frontend.responses.response_client import PATH, Responses, hello, in_turn, says

pytestmark = pytest.mark.anyio

ASK: dict[str, Any] = {"model": ENSEMBLE, "input": "hi"}
STREAM = {**ASK, "stream": True}
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "Of a place.",
    "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    "strict": False,
}
GOES_ON = final("Hello there!")[-3:-1]
BEGUN = turn("think", "Hello there!")[:-3]
CALLS = [*thought("need it"), *NEXT, *call("weather", '{"place": "Bern"}')]
Until = Callable[[Callable[[], bool]], Awaitable[None]]
_events: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)


@pytest.fixture
async def api(app: FastAPI) -> AsyncIterator[AsyncOpenAI]:
    http = httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False))
    async with AsyncOpenAI(base_url="http://shim/v1", api_key="k", max_retries=0, http_client=http) as client:
        yield client


async def events_of(app: FastAPI, **fields: Any) -> list[dict[str, Any]]:
    """The events of a stream, each as the client's own strict types read it."""
    exchange = Exchange.post(app, PATH, {**STREAM, **fields})
    await exchange.finish()
    assert exchange.status == 200, exchange.body
    return read_events(exchange)


def read_events(exchange: Exchange) -> list[dict[str, Any]]:
    events = []
    for block in exchange.body.decode().split("\n\n")[:-1]:
        name, _, data = block.partition("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        _events.validate_python(event)
        events.append(event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def shape(events: list[dict[str, Any]]) -> list[str]:
    """Their types, repeated deltas once, without the common beginning of the name."""
    names = [event["type"].removeprefix("response.") for event in events]
    return [name for before, name in zip(["", *names], names, strict=False) if name != before]


async def test_unstreamed(api: AsyncOpenAI, fake: FakeTriton) -> None:
    fake.script = hello
    response = await api.responses.create(**ASK, max_output_tokens=50, temperature=0, metadata={"a": "b"})
    Response.model_validate(response.to_dict())
    assert response.output_text == "Hello!"
    reasoning, message = response.output
    assert reasoning.type == "reasoning"
    assert reasoning.content is not None
    assert reasoning.content[0].text == "think"
    assert message.type == "message"
    assert (response.status, message.status, reasoning.status) == ("completed",) * 3
    assert (response.metadata, response.max_output_tokens, response.temperature) == ({"a": "b"}, 50, 0)
    assert response.usage is not None
    assert response.usage.input_tokens == 7
    assert response.usage.input_tokens_details.cached_tokens == 4
    assert response.usage.output_tokens == len(turn("think", "Hello!"))
    assert response.usage.output_tokens_details.reasoning_tokens == 1
    (request,) = fake.requests
    assert request.prompt.messages == [Message("user", "hi")]
    assert (request.options.max_tokens, request.options.temperature) == (50, 0)
    assert request.id == response.id


async def test_events_in_order(app: FastAPI, fake: FakeTriton) -> None:
    fake.script = hello
    events = await events_of(app)
    assert shape(events) == [
        "created", "in_progress",
        "output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.done",
        "content_part.done", "output_item.done",
        "output_item.added", "content_part.added", "output_text.delta", "output_text.done",
        "content_part.done", "output_item.done",
        "completed",
    ]  # fmt: skip
    assert events[0]["response"]["output"] == []
    assert [e["output_index"] for e in events if e["type"] == "response.output_item.added"] == [0, 1]
    text = "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta")
    assert text == "Hello!"
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert events[-1]["response"]["output"] == done


async def test_streamed_and_unstreamed_are_equal(app: FastAPI, api: AsyncOpenAI, fake: FakeTriton) -> None:
    answer = [*thought("a"), *NEXT, *preamble("Let me see."), *NEXT, *call("weather", "{}")]
    fake.script = says(answer)
    whole = (await api.responses.create(**ASK, tools=[WEATHER])).to_dict()
    streamed = (await events_of(app, tools=[WEATHER]))[-1]["response"]

    def without_names(value: Any) -> Any:
        if isinstance(value, dict):
            changing = ("id", "call_id", "created_at", "completed_at")
            return {k: without_names(v) for k, v in value.items() if k not in changing}
        return [without_names(v) for v in value] if isinstance(value, list) else value

    assert without_names(streamed) == without_names(whole)


async def test_a_function_call(app: FastAPI, fake: FakeTriton) -> None:
    fake.script = says(CALLS)
    events = await events_of(app, tools=[WEATHER])
    assert shape(events)[8:] == [
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.done",
        "output_item.done", "completed",
    ]  # fmt: skip
    deltas = [e["delta"] for e in events if e["type"] == "response.function_call_arguments.delta"]
    assert len(deltas) > 1
    assert "".join(deltas) == '{"place": "Bern"}'
    (item,) = (item for item in events[-1]["response"]["output"] if item["type"] == "function_call")
    assert (item["name"], item["arguments"], item["status"]) == ("weather", '{"place": "Bern"}', "completed")
    assert item["call_id"].startswith("call_")
    assert item["id"].startswith("fc_")


async def test_a_tool_loop_by_items(api: AsyncOpenAI, fake: FakeTriton) -> None:
    """The output goes back as it came, without the server's memory."""
    fake.script = in_turn(CALLS, turn("now I know", "Rain."))
    items: list[Any] = [{"role": "user", "content": "Weather in Bern?"}]
    first = await api.responses.create(model=ENSEMBLE, input=items, tools=[WEATHER], store=False)
    items += [item.to_dict() for item in first.output]
    called = first.output[-1]
    assert called.type == "function_call"
    items.append({"type": "function_call_output", "call_id": called.call_id, "output": "rain"})
    second = await api.responses.create(model=ENSEMBLE, input=items, tools=[WEATHER], store=False)
    assert second.output_text == "Rain."
    assert fake.requests[1].prompt.messages == [
        Message("user", "Weather in Bern?"),
        Message("assistant", reasoning="need it", tool_calls=[ToolCall("weather", '{"place": "Bern"}')]),
        Message("tool", "rain", name="weather"),
    ]
    with pytest.raises(openai.NotFoundError):
        await api.responses.retrieve(second.id)


async def test_the_clients_own_objects_go_back_as_it_dumps_them(api: AsyncOpenAI, fake: FakeTriton) -> None:
    """With null for each field that the server did not give."""
    fake.script = in_turn(CALLS, turn("now I know", "Rain."))
    first = await api.responses.create(model=ENSEMBLE, input="Weather in Bern?", tools=[WEATHER])
    listed = (await api.responses.input_items.list(first.id)).data
    called = first.output[-1]
    assert called.type == "function_call"
    output = FunctionCallOutput(type="function_call_output", call_id=called.call_id, output="rain")
    items: Any = [item.model_dump() for item in (*listed, *first.output, output)]
    tools: Any = [tool.model_dump() for tool in first.tools]
    second = await api.responses.create(model=ENSEMBLE, input=items, tools=tools)
    assert fake.requests[1].prompt == msgspec.structs.replace(
        fake.requests[0].prompt,
        messages=[
            Message("user", "Weather in Bern?"),
            Message("assistant", reasoning="need it", tool_calls=[ToolCall("weather", '{"place": "Bern"}')]),
            Message("tool", "rain", name="weather"),
        ],
    )
    assert second.to_dict()["tools"] == [WEATHER]


async def test_a_function_without_parameters_is_given_back_as_openai_does(
    api: AsyncOpenAI, fake: FakeTriton
) -> None:
    fake.script = hello
    given: Any = {"type": "function", "name": "now", "parameters": None, "strict": None}
    response = await api.responses.create(**ASK, tools=[given])
    assert response.to_dict()["tools"] == [{**given, "strict": False}]


async def test_a_tool_loop_by_id(api: AsyncOpenAI, fake: FakeTriton) -> None:
    fake.script = in_turn(CALLS, turn("now I know", "Rain."), turn("", "Bye."))
    given: dict[str, Any] = {"model": ENSEMBLE, "tools": [WEATHER]}
    first = await api.responses.create(**given, input="Weather in Bern?", instructions="Be brief.")
    called = first.output[-1]
    assert called.type == "function_call"
    output: Any = {"type": "function_call_output", "call_id": called.call_id, "output": "rain"}
    second = await api.responses.create(**given, input=[output], previous_response_id=first.id)
    third = await api.responses.create(**given, input="Thanks", previous_response_id=second.id)
    assert third.output_text == "Bye."
    assert third.previous_response_id == second.id
    messages = fake.requests[2].prompt.messages
    assert [message.role for message in messages] == ["user", "assistant", "tool", "assistant", "user"]
    assert messages[3] == Message("assistant", "Rain.", reasoning="now I know")
    assert fake.requests[0].prompt.messages[0] == Message("system", "Be brief.")


async def test_messages_of_one_kind_are_items_of_their_own(api: AsyncOpenAI, fake: FakeTriton) -> None:
    fake.script = says(
        [*thought("a"), *NEXT, *preamble("First."), *NEXT, *thought("b"), *NEXT, *final("Last.")]
    )
    response = await api.responses.create(**ASK)
    texts = [item.content[0].text for item in response.output if item.type in ("message", "reasoning")]  # type: ignore[union-attr,index]
    assert [item.type for item in response.output] == ["reasoning", "message", "reasoning", "message"]
    assert texts == ["a", "First.", "b", "Last."]


async def test_a_cut_answer_is_incomplete(app: FastAPI, api: AsyncOpenAI, fake: FakeTriton) -> None:
    fake.script = says(turn("think", "Hello!")[:-2], reason="length")
    response = await api.responses.create(**ASK)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert [getattr(item, "status", None) for item in response.output] == ["completed", "incomplete"]
    events = await events_of(app)
    assert events[-1]["type"] == "response.incomplete"


async def test_a_cut_call_is_incomplete_and_forgotten(api: AsyncOpenAI, fake: FakeTriton) -> None:
    cut = [*thought("need it"), *NEXT, *call("weather", '{"pla', closed=False)]
    fake.script = says(cut, reason="length")
    response = await api.responses.create(**ASK, tools=[WEATHER])
    assert response.output[-1].type == "function_call"
    assert response.output[-1].status == "incomplete"
    fake.script = hello
    await api.responses.create(**ASK, previous_response_id=response.id)
    assert fake.requests[1].prompt.messages == [
        Message("user", "hi"), Message("assistant", reasoning="need it"), Message("user", "hi"),
    ]  # fmt: skip


class City(BaseModel):
    name: str
    people: int


async def test_the_clients_own_helpers(api: AsyncOpenAI, fake: FakeTriton) -> None:
    fake.script = says(turn("think", '{"name": "Bern", "people": 140000}'))
    parsed = await api.responses.parse(**ASK, text_format=City)
    assert parsed.output_parsed == City(name="Bern", people=140000)
    assert fake.requests[0].options.grammar is not None
    wanted = fake.requests[0].prompt.response_format
    assert wanted is not None
    assert wanted.schema["properties"].keys() == {"name", "people"}
    async with api.responses.stream(**ASK, text_format=City) as stream:
        async for _ in stream:
            pass
        final_response = await stream.get_final_response()
    assert final_response.output_parsed == City(name="Bern", people=140000)


async def test_the_clients_stream_of_a_call(api: AsyncOpenAI, fake: FakeTriton) -> None:
    fake.script = says(CALLS)
    async with api.responses.stream(**ASK, tools=[WEATHER]) as stream:
        snapshots = [e.snapshot async for e in stream if e.type == "response.function_call_arguments.delta"]
        response = await stream.get_final_response()
    assert snapshots[-1] == '{"place": "Bern"}'
    assert response.output[-1].type == "function_call"


async def test_retrieve_list_and_delete(api: AsyncOpenAI, fake: FakeTriton) -> None:
    fake.script = hello
    items: list[Any] = [{"role": "user", "content": text} for text in ("a", "b", "c")]
    made = await api.responses.create(model=ENSEMBLE, input=items)
    assert (await api.responses.retrieve(made.id)).to_dict() == made.to_dict()
    listed = [item.to_dict() async for item in api.responses.input_items.list(made.id, limit=2)]
    assert [item["content"] for item in listed] == [[{"type": "input_text", "text": text}] for text in "cba"]
    page = await api.responses.input_items.list(made.id, limit=2, order="asc")
    assert (page.has_more, len(page.data)) == (True, 2)
    await api.responses.delete(made.id)
    for gone in (
        api.responses.retrieve,
        api.responses.delete,
        api.responses.cancel,
        api.responses.input_items.list,
    ):
        with pytest.raises(openai.NotFoundError):
            await gone(made.id)
    with pytest.raises(openai.NotFoundError) as caught:
        await api.responses.create(**ASK, previous_response_id=made.id)
    assert caught.value.param == "previous_response_id"


@pytest.mark.parametrize(
    ("query", "param"),
    [("limit=0", "limit"), ("limit=x", "limit"), ("limit=101", "limit"), ("limit=²", "limit"),
     ("order=up", "order"), ("after=nobody", "after")],
)  # fmt: skip
async def test_bad_queries(app: FastAPI, api: AsyncOpenAI, fake: FakeTriton, query: str, param: str) -> None:
    fake.script = hello
    made = await api.responses.create(**ASK)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shim") as http:
        response = await http.get(f"{PATH}/{made.id}/input_items?{query}")
        assert (response.status_code, response.json()["error"]["param"]) == (400, param)
        streamed = await http.get(f"{PATH}/{made.id}?stream=true")
        assert streamed.json()["error"]["code"] == "unsupported_parameter"


@pytest.mark.parametrize("stream", [False, True])
async def test_cancelled_while_it_is_made(
    app: FastAPI, api: AsyncOpenAI, fake: FakeTriton, until: Until, stream: bool
) -> None:
    fake.script = endless
    exchange = Exchange.post(app, PATH, {**ASK, "stream": stream})
    await until(lambda: bool(fake.requests) and bool(app.state.live_responses._live))
    response_id = fake.requests[0].id
    (live,) = app.state.live_responses._live.values()
    await until(lambda: len(live.reply.output.items) == 2)
    running = await api.responses.retrieve(response_id)
    assert (running.status, running.output_text) == ("in_progress", "Hello! ")
    cancelled = await api.responses.cancel(response_id)
    assert cancelled.status == "cancelled"
    await exchange.finish()
    if stream:
        last = read_events(exchange)[-1]
        assert last["type"] == "response.failed"
        assert last["response"]["status"] == "cancelled"
    else:
        assert exchange.status == 200
        assert json.loads(exchange.body)["status"] == "cancelled"
    await until(lambda: fake.cancelled == [response_id])
    service: Service = app.state.service
    assert service.in_flight == 0
    kept = await api.responses.retrieve(response_id)
    assert (kept.status, kept.output_text) == ("cancelled", "Hello! ")


async def unread(app: FastAPI, fake: FakeTriton, until: Until, rest: Responses) -> Exchange:
    """A stream whose client stops reading after `BEGUN`; then the engine goes on with the rest, to its end."""
    stopped = asyncio.Event()

    async def script(request: Request) -> Responses:
        yield accepted()
        yield BEGUN, None
        await stopped.wait()
        async for response in rest:
            yield response

    fake.script = script
    exchange = Exchange.post(app, PATH, STREAM)
    await until(lambda: b"response.output_text.delta" in exchange.body)
    exchange.reads.clear()
    stopped.set()
    service: Service = app.state.service
    await until(lambda: service.in_flight == 0)
    return exchange


async def more() -> Responses:
    yield GOES_ON, None
    yield finished([], count=len(BEGUN + GOES_ON))


@pytest.mark.parametrize("fails", [False, True])
async def test_cancelled_when_the_engine_has_ended_and_the_client_not_read_it(
    app: FastAPI, api: AsyncOpenAI, fake: FakeTriton, until: Until, fails: bool
) -> None:
    """What was read ahead of the client, a failure as well, comes too late."""

    async def more_and_a_failure() -> Responses:
        yield GOES_ON, None
        (live,) = app.state.live_responses._live.values()
        await until(lambda: live.reply.output.items[-1]["content"][0]["text"] == "Hello there!")
        raise InternalError("The step failed.")

    exchange = await unread(app, fake, until, more_and_a_failure() if fails else more())
    response_id = fake.requests[0].id
    cancelled = await api.responses.cancel(response_id)
    assert (cancelled.status, cancelled.output_text) == ("cancelled", "Hello there!")
    assert await api.responses.retrieve(response_id) == cancelled
    assert await api.responses.cancel(response_id) == cancelled, "once more changes nothing"
    fake.script = hello
    await api.responses.create(**ASK, previous_response_id=response_id)
    assert fake.requests[1].prompt.messages[1] == Message("assistant", "Hello there!", reasoning="think")
    exchange.reads.set()
    await exchange.finish()
    last = read_events(exchange)[-1]
    assert (last["type"], last["response"]) == ("response.failed", cancelled.to_dict())
    assert await api.responses.retrieve(response_id) == cancelled
    assert await api.responses.cancel(response_id) == cancelled


async def test_what_is_complete_but_not_read_cannot_be_cancelled(
    app: FastAPI, api: AsyncOpenAI, fake: FakeTriton, until: Until
) -> None:
    async def end() -> Responses:
        yield finished([], count=len(BEGUN))

    exchange = await unread(app, fake, until, end())
    response_id = fake.requests[0].id
    with pytest.raises(openai.BadRequestError):
        await api.responses.cancel(response_id)
    kept = await api.responses.retrieve(response_id)
    assert kept.status == "completed"
    exchange.reads.set()
    await exchange.finish()
    assert read_events(exchange)[-1]["response"] == kept.to_dict()


@pytest.mark.parametrize("complete", [False, True])
async def test_what_is_deleted_while_it_is_made_is_not_kept(
    app: FastAPI, api: AsyncOpenAI, fake: FakeTriton, until: Until, complete: bool
) -> None:
    async def end() -> Responses:
        yield finished([], count=len(BEGUN))

    exchange = await unread(app, fake, until, end() if complete else more())
    response_id = fake.requests[0].id
    deleted = await api.responses.with_raw_response.delete(response_id)
    assert json.loads(deleted.content) == {"id": response_id, "object": "response", "deleted": True}

    async def assert_gone() -> None:
        for gone in (api.responses.retrieve, api.responses.cancel, api.responses.delete):
            with pytest.raises(openai.NotFoundError):
                await gone(response_id)

    await assert_gone()
    exchange.reads.set()
    await exchange.finish()
    assert read_events(exchange)[-1]["type"] == "response.completed", "its client gets it"
    await assert_gone()


async def test_what_is_complete_cannot_be_cancelled(api: AsyncOpenAI, fake: FakeTriton) -> None:
    fake.script = hello
    made = await api.responses.create(**ASK)
    with pytest.raises(openai.BadRequestError):
        await api.responses.cancel(made.id)


async def test_a_failure_in_the_stream_is_its_last_event(app: FastAPI, fake: FakeTriton) -> None:
    async def fail(request: Request) -> Responses:
        yield accepted()
        yield turn("think", "Hello! ")[:-1], None
        raise InternalError("The step failed.")

    fake.script = fail
    events = await events_of(app)
    assert events[-1]["type"] == "response.failed"
    assert events[-1]["response"]["error"] == {"code": "server_error", "message": "The step failed."}
    assert events[-1]["response"]["output"][-1]["status"] == "incomplete"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_refusal_by_the_engine_has_its_own_status(
    app: FastAPI, fake: FakeTriton, stream: bool
) -> None:
    async def refuse(request: Request) -> Responses:
        raise ContextLengthExceeded("5000 tokens do not fit 4096.", param="messages")
        yield accepted()

    fake.script = refuse
    exchange = Exchange.post(app, PATH, {**ASK, "stream": stream})
    await exchange.finish()
    assert exchange.status == 400
    error = json.loads(exchange.body)["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", "input")


@pytest.mark.parametrize("stream", [True, False])
async def test_disconnect_cancels_by_id(app: FastAPI, fake: FakeTriton, until: Until, stream: bool) -> None:
    fake.script = endless
    exchange = Exchange.post(app, PATH, {**ASK, "stream": stream})
    await until(lambda: len(fake.requests) == 1)
    if stream:
        await exchange.wait_sent(4)
    exchange.disconnect()
    await exchange.finish()
    await until(lambda: fake.cancelled == [fake.requests[0].id])
    assert app.state.live_responses._live == {}


async def test_keep_alive_comments_and_no_done(
    app: FastAPI, fake: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "KEEP_ALIVE_S", 0.05)
    go = asyncio.Event()

    async def slow(request: Request) -> Responses:
        yield accepted()
        await go.wait()
        async for response in hello(request):
            if response[0]:
                yield response
        yield finished([])

    fake.script = slow
    exchange = Exchange.post(app, PATH, STREAM)
    await exchange.wait_sent(6)
    assert b"event: response.in_progress" in exchange.body, "the client knows at once that it is accepted"
    assert exchange.body.count(b": keep-alive\n\n") >= 2
    go.set()
    await exchange.finish()
    assert b"event: response.completed" in exchange.body
    assert b"[DONE]" not in exchange.body


async def test_logprobs(api: AsyncOpenAI, fake: FakeTriton) -> None:
    ids = turn("think", "Hello!")

    async def script(request: Request) -> Responses:
        yield accepted()
        for token in ids:
            yield [token], Logprobs([TokenLogprobs(-0.25, [(token, -0.25)])])
        yield finished([], count=len(ids))

    fake.script = script
    include: Any = ["message.output_text.logprobs"]
    response = await api.responses.create(**ASK, include=include, top_logprobs=1)
    message = response.output[-1]
    assert message.type == "message"
    part = message.content[0]
    assert part.type == "output_text"
    assert part.logprobs is not None
    assert "".join(entry.token for entry in part.logprobs) == "Hello!"
    assert all(entry.top_logprobs[0].logprob == -0.25 for entry in part.logprobs)
    assert fake.requests[0].options.logprobs == 1


async def test_a_call_of_nobodys_tool_is_reasoning(api: AsyncOpenAI, fake: FakeTriton) -> None:
    fake.script = says([*call("rm", "{}"), tokens.RETURN])
    response = await api.responses.create(**ASK, tools=[WEATHER])
    assert [item.type for item in response.output] == ["reasoning"]


async def test_items_of_a_stored_response_may_be_referred_to(api: AsyncOpenAI, fake: FakeTriton) -> None:
    """As clients do that keep ids alone."""
    fake.script = in_turn(CALLS, turn("fine", "It is warm."))
    first = await api.responses.create(**ASK, tools=[WEATHER])
    given = (await api.responses.input_items.list(first.id)).data
    references: Any = [{"type": "item_reference", "id": item.id} for item in (*given, *first.output)]
    references[1].pop("type")  # OpenAI lets it be left out
    output = {"type": "function_call_output", "call_id": first.output[-1].call_id, "output": "18"}  # type: ignore[union-attr]
    again = await api.responses.create(model=ENSEMBLE, input=[*references, output], tools=[WEATHER])
    assert fake.requests[1].prompt.messages == [
        Message("user", "hi"),
        Message("assistant", reasoning="need it", tool_calls=[ToolCall("weather", '{"place": "Bern"}')]),
        Message("tool", "18", name="weather"),
    ]
    listed = (await api.responses.input_items.list(again.id, order="asc")).data
    assert [item.type for item in listed] == ["message", "reasoning", "function_call", "function_call_output"]


async def test_reasoning_that_is_remembered_takes_room_as_well(
    api: AsyncOpenAI, app: FastAPI, fake: FakeTriton
) -> None:
    fake.script = hello
    thought = "thought " * 2000
    app.state.reasoning_memory.keep(Caller(ANONYMOUS, "normal"), "call_1", thought)
    long: Any = [
        *({"role": "user", "content": f"{number} " + "word " * 250} for number in range(6)),
        {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "42"},
    ]
    await api.responses.create(model=ENSEMBLE, input=long, truncation="auto", store=False)
    (sent,) = fake.requests
    assert [message.reasoning for message in sent.prompt.messages if message.role == "assistant"] == [thought]
    assert len(render(sent.prompt)) <= 4096 - 1024


@pytest.mark.parametrize(
    ("reference", "status", "param"),
    [
        ({"type": "item_reference", "id": "msg_1"}, 404, "input[1].id"),
        ({"id": "msg_1"}, 404, "input[1].id"),
        ({"type": "item_reference"}, 400, "input[1].id"),
        ({}, 400, "input[1].type"),
        ({"type": "item_reference", "id": "msg_1", "role": "user"}, 400, "input[1].role"),
    ],
)
async def test_a_reference_to_nothing_is_named(
    api: AsyncOpenAI, reference: Any, status: int, param: str
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        await api.responses.create(model=ENSEMBLE, input=[{"role": "user", "content": "hi"}, reference])
    assert (caught.value.status_code, caught.value.param) == (status, param)


async def test_what_does_not_fit_is_cut_where_that_is_asked_for(api: AsyncOpenAI, fake: FakeTriton) -> None:
    """The fake's context holds 4,096 tokens, 1,024 of them for the answer. The whole conversation is stored."""
    fake.script = hello
    long: Any = [{"role": "user", "content": f"{number} " + "word " * 1000} for number in range(6)]
    cut = await api.responses.create(model=ENSEMBLE, input=long, truncation="auto")
    assert cut.truncation == "auto"
    assert [message.content[0] for message in fake.requests[0].prompt.messages] == ["4", "5"]
    await api.responses.create(**ASK, previous_response_id=cut.id)
    assert len(fake.requests[1].prompt.messages) == 8
    whole = await api.responses.create(model=ENSEMBLE, input=long)
    assert whole.truncation == "disabled"
    assert len(fake.requests[2].prompt.messages) == 6


@pytest.mark.parametrize(
    ("param", "own"),
    [
        ("messages[0].content", "instructions"),
        ("messages[1].content", "input[0].content"),
        ("max_tokens", "max_output_tokens"),
        ("grammar", "text.format"),
        ("logprobs", "include"),
    ],
)
async def test_a_refusal_by_the_engine_names_the_callers_field(
    api: AsyncOpenAI, fake: FakeTriton, param: str, own: str
) -> None:
    async def refuse(request: Request) -> Responses:
        raise InvalidRequest("It cannot be.", param=param)
        yield accepted()

    fake.script = refuse
    form: Any = {"format": {"type": "json_object"}}
    items: Any = [{"role": "user", "content": "hi"}]
    with pytest.raises(openai.BadRequestError) as caught:
        await api.responses.create(model=ENSEMBLE, input=items, instructions="Be brief.", text=form)
    assert caught.value.param == own
