"""The text completions endpoint on a fake engine, read by the real client."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from openai import AsyncOpenAI

from frontend import service as service_module
from frontend.admission.ask import Ask
from frontend.dispatch import Dispatch
from frontend.routing.prefix_index import Point, prefix_points
from frontend.service import Service
from gpt_oss_triton.errors import ContextLengthExceeded, InternalError
from gpt_oss_triton.harmony import tokens
from gpt_oss_triton.harmony.tokens import encode_text
from gpt_oss_triton.telemetry.record import RequestRecord
from gpt_oss_triton.wire import Event, Logprobs, PromptRequest, TokenLogprobs
from tests.unit.frontend.asgi_client import Exchange
from tests.unit.frontend.fake_triton import ENSEMBLE, FakeTriton, Request, accepted, finished

pytestmark = pytest.mark.anyio

PATH = "/v1/completions"
BODY: dict[str, Any] = {"model": ENSEMBLE, "prompt": "Once"}
STREAM = {**BODY, "stream": True}
Responses = AsyncIterator[tuple[list[int], Event | None]]
Until = Callable[[Callable[[], bool]], Awaitable[None]]


def says(text: str, size: int = 2) -> Callable[[Request], Responses]:
    """Answers with that text, some tokens at a time; `{}` in it is the prompt."""

    async def script(request: Request) -> Responses:
        ids = encode_text(text.format(request.prompt.text))
        yield accepted()
        for start in range(0, len(ids), size):
            yield ids[start : start + size], None
        yield finished([tokens.RETURN], count=len(ids) + 1)

    return script


async def endless(request: Request) -> Responses:
    yield accepted()
    while True:
        yield encode_text(" again"), None
        await asyncio.sleep(0.01)


@pytest.fixture
async def api(app: FastAPI) -> AsyncIterator[AsyncOpenAI]:
    http = httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False))
    async with AsyncOpenAI(base_url="http://shim/v1", api_key="k", max_retries=0, http_client=http) as client:
        yield client


async def test_the_answer_is_the_text_of_the_tokens(api: AsyncOpenAI, fake: FakeTriton) -> None:
    fake.script = says(" upon a time 🌍")
    answer = await api.completions.create(model=ENSEMBLE, prompt="Once", max_tokens=50)
    (choice,) = answer.choices
    assert (choice.text, choice.finish_reason, choice.index) == (" upon a time 🌍", "stop", 0)
    assert answer.object == "text_completion"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 7
    assert answer.usage.completion_tokens == len(encode_text(" upon a time 🌍")) + 1
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 4
    (request,) = fake.requests
    assert request.prompt == PromptRequest(text="Once")
    assert request.id.startswith(answer.id)


async def test_streamed_and_unstreamed_are_equal(api: AsyncOpenAI, fake: FakeTriton) -> None:
    fake.script = says(" {} and more 🌍")
    given: dict[str, Any] = {"model": ENSEMBLE, "prompt": ["a", "b"], "n": 2, "echo": True, "seed": 5}
    whole = await api.completions.create(**given)
    texts, ends = [""] * 4, [""] * 4
    async for chunk in await api.completions.create(**given, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            ends[choice.index] = choice.finish_reason or ends[choice.index]
    assert (
        texts
        == [choice.text for choice in whole.choices]
        == ["a a and more 🌍"] * 2 + ["b b and more 🌍"] * 2
    )
    assert ends == ["stop"] * 4
    assert whole.usage is not None
    assert whole.usage.prompt_tokens == 2 * 7, "a prompt counts once"
    assert whole.usage.completion_tokens == 4 * (len(encode_text(" a and more 🌍")) + 1)
    assert sorted((r.prompt.text, r.options.seed) for r in fake.requests[:4]) == [
        ("a", 5), ("a", 6), ("b", 5), ("b", 6),
    ]  # fmt: skip
    assert len({request.id for request in fake.requests}) == 8


async def test_events_of_a_stream(app: FastAPI, fake: FakeTriton) -> None:
    fake.script = says(" upon")
    exchange = Exchange.post(app, PATH, {**STREAM, "stream_options": {"include_usage": True}})
    await exchange.finish()
    *chunks, usage, done = exchange.events()
    assert done == "data: [DONE]"
    assert usage["choices"] == []
    assert usage["usage"]["total_tokens"] == 9
    assert not any("usage" in chunk for chunk in chunks), "the schema does not allow null here"
    assert chunks[-1]["choices"] == [{"text": "", "index": 0, "logprobs": None, "finish_reason": "stop"}]
    assert all(m["body"].count(b"\n\n") == 1 for m in exchange.sent[1:-1]), "one event in each write"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stop_string_ends_the_answer_and_the_generation(
    app: FastAPI, fake: FakeTriton, until: Until, stream: bool
) -> None:
    sent: list[list[int]] = [encode_text(" one two"), encode_text(" STOP three four"), encode_text(" five")]

    async def script(request: Request) -> Responses:
        yield accepted()
        for ids in sent:
            yield ids, None
        await asyncio.Event().wait()

    fake.script = script
    body = {**BODY, "stop": ["STOP"], "max_tokens": 99, "stream": stream, "return_token_ids": True}
    exchange = Exchange.post(
        app, PATH, body | ({"stream_options": {"include_usage": True}} if stream else {})
    )
    await exchange.finish()
    if stream:
        *chunks, usage, _ = exchange.events()
        text = "".join(chunk["choices"][0]["text"] for chunk in chunks)
        last, usage = chunks[-1]["choices"][0], usage["usage"]
    else:
        record = json.loads(exchange.body)
        last, usage = record["choices"][0], record["usage"]
        text = last["text"]
    assert (text, last["finish_reason"]) == (" one two ", "stop")
    up_to_stop = encode_text(" one two") + encode_text(" STOP")
    assert last["token_ids"] == up_to_stop
    assert usage["completion_tokens"] == len(up_to_stop), "what came with it is not counted"
    assert fake.requests[0].options.stop == []
    await until(lambda: fake.cancelled == [fake.requests[0].id])
    service: Service = app.state.service
    await until(lambda: service.in_flight == 0)


@pytest.mark.parametrize("to_its_end", [False, True])
async def test_tokens_after_a_stop_string_are_not_counted(
    app: FastAPI, api: AsyncOpenAI, fake: FakeTriton, monkeypatch: pytest.MonkeyPatch, to_its_end: bool
) -> None:
    up_to_stop, rest = encode_text(" one STOP"), encode_text(" two three four")

    async def script(request: Request) -> Responses:
        yield accepted()
        if to_its_end:
            yield finished([*up_to_stop, *rest])
        yield [*up_to_stop, *rest], None
        await asyncio.Event().wait()

    fake.script = script
    service: Service = app.state.service
    records: list[RequestRecord] = []
    settled: list[tuple[int, int]] = []
    finish, settle = service.telemetry.finish, service.admission.finished

    def noted_finish(record: RequestRecord) -> None:
        records.append(record)
        finish(record)

    def noted_settle(ask: Ask) -> None:
        settled.append((ask.record.counts.prompt, ask.record.counts.completion))
        settle(ask)

    monkeypatch.setattr(service.telemetry, "finish", noted_finish)
    monkeypatch.setattr(service.admission, "finished", noted_settle)
    answer = await api.completions.create(model=ENSEMBLE, prompt=["a", "b"], stop="STOP", n=2)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (14, 4 * len(up_to_stop))
    (record,) = records
    assert (record.counts.prompt, record.counts.completion) == (14, 4 * len(up_to_stop))
    assert (record.finish_reason, record.answers) == ("stop", 4)
    if not to_its_end:  # else the answer was over before its text was looked at
        assert settled == [(7, len(up_to_stop))] * 4


async def test_control_tokens(api: AsyncOpenAI, fake: FakeTriton) -> None:
    async def script(request: Request) -> Responses:
        yield accepted()
        yield finished(
            [tokens.CHANNEL, *encode_text("final"), tokens.MESSAGE, *encode_text("Hi"), tokens.RETURN]
        )

    fake.script = script
    hidden = await api.completions.create(model=ENSEMBLE, prompt="x")
    shown = await api.completions.create(
        model=ENSEMBLE, prompt="x", extra_body={"skip_special_tokens": False}
    )
    assert hidden.choices[0].text == "finalHi"
    assert shown.choices[0].text == "<|channel|>final<|message|>Hi<|return|>"


async def test_the_limit_is_said(api: AsyncOpenAI, fake: FakeTriton) -> None:
    async def script(request: Request) -> Responses:
        yield accepted()
        yield finished(encode_text(" upon"), "length")

    fake.script = script
    answer = await api.completions.create(model=ENSEMBLE, prompt=[1, 2])
    assert answer.choices[0].finish_reason == "length"
    assert fake.requests[0].prompt == PromptRequest(token_ids=[1, 2])
    assert fake.requests[0].options.max_tokens == 16


@pytest.mark.parametrize("stream", [False, True])
async def test_logprobs_in_the_legacy_form(api: AsyncOpenAI, fake: FakeTriton, stream: bool) -> None:
    ids = [*encode_text(" a 🌍 STOP"), tokens.RETURN]
    other = encode_text(" b")[0]

    async def script(request: Request) -> Responses:
        yield accepted()
        for token in ids:
            yield [token], Logprobs([TokenLogprobs(-0.5, [(token, -0.5), (other, -12345.0)])])
        yield finished([], count=len(ids))

    fake.script = script
    given: dict[str, Any] = {"model": ENSEMBLE, "prompt": "x", "logprobs": 2, "stop": "STOP"}
    found: dict[str, list[Any]] = {"tokens": [], "text_offset": [], "token_logprobs": [], "top_logprobs": []}
    text = ""
    if stream:
        async for chunk in await api.completions.create(**given, stream=True):
            text += chunk.choices[0].text
            for name, values in found.items():
                values += getattr(chunk.choices[0].logprobs, name)
    else:
        choice = (await api.completions.create(**given)).choices[0]
        text, found = choice.text, choice.logprobs.model_dump() if choice.logprobs else {}
    assert text == " a 🌍 "
    assert found["tokens"][0] == " a"
    assert all(token.startswith("bytes:\\x") for token in found["tokens"][1:-1]), "parts of one character"
    assert found["text_offset"][:2] == [0, 2]
    assert all(offset < len(text) for offset in found["text_offset"])
    assert found["top_logprobs"][0] == {" a": -0.5, " b": -9999.0}
    assert found["token_logprobs"] == [-0.5] * len(found["tokens"])
    assert fake.requests[0].options.logprobs == 2


async def test_one_refusal_ends_all(app: FastAPI, fake: FakeTriton, until: Until) -> None:
    async def script(request: Request) -> Responses:
        if request.prompt.text == "long":
            await until(lambda: len(fake.requests) == 3)
            raise ContextLengthExceeded("5000 tokens do not fit 4096.", param="messages")
        async for response in endless(request):
            yield response

    fake.script = script
    exchange = Exchange.post(app, PATH, {**STREAM, "prompt": ["a", "long", "b"]})
    await exchange.finish()
    assert exchange.status == 400
    error = json.loads(exchange.body)["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", "prompt")
    service: Service = app.state.service
    await until(lambda: service.in_flight == 0)
    going_on = {request.id for request in fake.requests if request.prompt.text != "long"}
    await until(lambda: set(fake.cancelled) == going_on)


async def test_one_failure_in_the_stream_ends_it(app: FastAPI, fake: FakeTriton, until: Until) -> None:
    async def script(request: Request) -> Responses:
        if request.prompt.text == "a":
            async for response in endless(request):
                yield response
        yield accepted()
        yield encode_text(" x"), None
        raise InternalError("The step failed.")

    fake.script = script
    exchange = Exchange.post(app, PATH, {**STREAM, "prompt": ["a", "b"]})
    await exchange.finish()
    assert exchange.events()[-1]["error"]["code"] == "internal_error"
    assert b"[DONE]" not in exchange.body
    service: Service = app.state.service
    going_on = next(request.id for request in fake.requests if request.prompt.text == "a")
    await until(lambda: service.in_flight == 0 and going_on in fake.cancelled)


@pytest.mark.parametrize("stream", [False, True])
async def test_disconnect_cancels_every_run(
    app: FastAPI, fake: FakeTriton, until: Until, stream: bool
) -> None:
    fake.script = endless
    exchange = Exchange.post(app, PATH, {**BODY, "stream": stream, "n": 3, "max_tokens": 5000})
    await until(lambda: len(fake.requests) == 3)
    if stream:
        await exchange.wait_sent(5)
    exchange.disconnect()
    await exchange.finish()
    await until(lambda: set(fake.cancelled) == {request.id for request in fake.requests})
    service: Service = app.state.service
    assert service.in_flight == 0


async def test_the_work_on_a_prompt_is_done_once(
    api: AsyncOpenAI, fake: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    worked_on: list[PromptRequest] = []
    written_out: list[list[int]] = []
    asks: list[Ask] = []
    decode, dispatch = tokens.decode, Service.dispatch

    def prefixes(prompt: PromptRequest, salt: str, prompt_tokens: int) -> list[Point]:
        worked_on.append(prompt)
        return prefix_points(prompt, salt, prompt_tokens)

    def noted_decode(ids: list[int]) -> str:
        written_out.append(ids)
        return decode(ids)

    def noted_dispatch(service: Service, ask: Ask, *args: Any) -> Dispatch:
        asks.append(ask)
        return dispatch(service, ask, *args)

    monkeypatch.setattr(service_module, "prefix_points", prefixes)
    monkeypatch.setattr(tokens, "decode", noted_decode)
    monkeypatch.setattr(Service, "dispatch", noted_dispatch)
    prompts = [encode_text("a b c"), encode_text("d e")]
    answer = await api.completions.create(model=ENSEMBLE, prompt=prompts, n=3, echo=True)
    assert [choice.text for choice in answer.choices] == ["a b c"] * 3 + ["d e"] * 3
    assert worked_on == [PromptRequest(token_ids=ids) for ids in prompts]
    assert written_out == prompts
    assert sorted(ask.estimate.prompt_tokens for ask in asks) == [2] * 3 + [3] * 3
    assert sum(not ask.same_prompt for ask in asks) == 2, "each is paid for once"
    assert len({ask.booking for ask in asks}) == 6
    assert len({id(ask.excluded) for ask in asks}) == 6, "what has failed one may answer another"
    assert len({id(ask.record) for ask in asks}) == 6


async def test_the_work_on_a_long_prompt_holds_nobody_up(
    api: AsyncOpenAI, fake: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []

    def prefixes(prompt: PromptRequest, salt: str, prompt_tokens: int) -> list[Point]:
        threads.append(threading.current_thread())
        return prefix_points(prompt, salt, prompt_tokens)

    monkeypatch.setattr(service_module, "prefix_points", prefixes)
    await api.completions.create(model=ENSEMBLE, prompt=["a " * 150_000, "b"], n=2)
    assert len(threads) == 2
    assert threading.current_thread() not in threads


async def test_errors_have_the_envelope(api: AsyncOpenAI, app: FastAPI) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shim") as http:
        assert (await http.post(PATH, content=b"{}")).status_code == 415
        unknown = await http.post(PATH, json={**BODY, "model": "gpt-7"})
        assert unknown.status_code == 404
        refused = await http.post(PATH, json={**BODY, "suffix": "x"})
        assert refused.json()["error"]["param"] == "suffix"
