"""The outermost layer: ids, trace context, the record, and that it is read at every end."""

from __future__ import annotations

import asyncio
import logging
from io import StringIO
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from frontend.observed import Observed
from gpt_oss_triton.config import FrontendSettings
from gpt_oss_triton.telemetry.log_lines import line_formatter
from gpt_oss_triton.telemetry.logs import LogOutput
from gpt_oss_triton.telemetry.record import RequestRecord
from gpt_oss_triton.telemetry.telemetry import Telemetry
from tests.unit.frontend.asgi_client import Exchange

pytestmark = pytest.mark.anyio

CHAT = "/v1/chat/completions"


class Watched(Telemetry):
    """Keeps the records."""

    def __init__(self) -> None:
        super().__init__(FrontendSettings())
        self.begun: list[RequestRecord] = []
        self.ended: list[RequestRecord] = []

    def begin(self, record: RequestRecord) -> None:
        super().begin(record)
        self.begun.append(record)

    def finish(self, record: RequestRecord) -> None:
        super().finish(record)
        self.ended.append(record)


@pytest.fixture
def telemetry() -> Watched:
    return Watched()


@pytest.fixture
def app(telemetry: Watched) -> ASGIApp:
    """A few routes, as FastAPI makes them."""
    inner = FastAPI()

    @inner.get("/v1/models/{model}")
    async def model(model: str) -> Response:
        return Response(b"x" * 10)

    @inner.post(CHAT)
    async def chat(request: Request) -> Response:
        request.state.record.model = "gpt-oss-20b"
        logging.getLogger("inside").warning("while it runs")
        return Response(b"y" * 7, status_code=201)

    return Observed(inner, telemetry)


async def ask(app: ASGIApp, path: str, method: str = "GET", **headers: str) -> Exchange:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    exchange = Exchange(app, path, b"", named, method)
    exchange.start()
    await exchange.finish()
    return exchange


async def test_the_record_of_a_request(app: ASGIApp, telemetry: Watched) -> None:
    answer = await ask(app, CHAT, "POST", x_request_id="mine-1")
    (record,) = telemetry.ended
    assert telemetry.begun == [record]
    assert (record.method, record.path, record.route) == ("POST", CHAT, CHAT)
    assert (record.status, record.bytes_sent, record.model) == (201, 7, "gpt-oss-20b")
    assert record.request_id == answer.headers["x-request-id"] == "mine-1"
    assert record.finished is not None
    assert record.finished >= record.started


async def test_the_route_is_the_template(app: ASGIApp, telemetry: Watched) -> None:
    await ask(app, "/v1/models/whatever-a-client-writes")
    assert telemetry.ended[0].route == "/v1/models/{model}"
    await ask(app, "/nowhere/secret")
    assert telemetry.ended[1].route is None


@pytest.mark.parametrize("given", ["abc-1.2_3", "x" * 128])
async def test_a_good_request_id_is_taken(app: ASGIApp, given: str) -> None:
    assert (await ask(app, "/nowhere", x_request_id=given)).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "a\tb", "a\nb"])
async def test_a_bad_one_is_replaced(app: ASGIApp, telemetry: Watched, given: str) -> None:
    answer = await ask(app, "/nowhere", x_request_id=given)
    assert answer.headers["x-request-id"] not in ("", given)
    assert telemetry.ended[0].request_id == answer.headers["x-request-id"]


async def test_the_callers_trace_goes_on(app: ASGIApp, telemetry: Watched) -> None:
    await ask(app, "/nowhere", traceparent="00-" + "ab" * 16 + "-" + "cd" * 8 + "-01")
    await ask(app, "/nowhere", traceparent="nonsense")
    first, second = (record.trace for record in telemetry.ended)
    assert (first.trace_hex, first.parent_id) == ("ab" * 16, int("cd" * 8, 16))
    assert second.parent_id is None
    assert second.trace_hex != first.trace_hex


async def test_the_path_is_bounded(app: ASGIApp, telemetry: Watched) -> None:
    await ask(app, "/" + "x" * 10_000)
    assert len(telemetry.ended[0].path) == 256


async def failing(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("oh")


async def test_a_failure_is_an_end_too(telemetry: Watched) -> None:
    with pytest.raises(RuntimeError):
        await ask(Observed(failing, telemetry), CHAT, "POST")
    (record,) = telemetry.ended
    assert (record.status, record.outcome, record.route) == (0, "error", CHAT)
    assert telemetry.counts()["requests"]["in_flight"] == 0


async def test_so_is_being_cancelled(telemetry: Watched) -> None:
    async def hanging(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    exchange = Exchange(Observed(hanging, telemetry), CHAT, b"", {}, "POST")
    exchange.start()
    while not telemetry.begun:  # noqa: ASYNC110 - it has no event for it
        await asyncio.sleep(0)
    assert telemetry.counts()["requests"]["in_flight"] == 1
    assert exchange.task is not None
    exchange.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await exchange.task
    assert telemetry.counts()["requests"]["in_flight"] == 0


async def test_a_client_that_went_away_was_not_sent_the_bytes(telemetry: Watched) -> None:
    async def streaming(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(5):
            await send({"type": "http.response.body", "body": b"x" * 10, "more_body": True})

    class Gone(Exception):
        pass

    sent: list[Any] = []

    async def send(message: Any) -> None:
        if len(sent) == 3:
            raise Gone
        sent.append(message)

    exchange = Exchange(Observed(streaming, telemetry), CHAT, b"", {}, "POST")
    exchange._send = send  # type: ignore[method-assign]
    exchange.start()
    with pytest.raises(Gone):
        await exchange.finish()
    assert telemetry.ended[0].bytes_sent == 20


async def test_lines_that_are_logged_meanwhile_carry_the_ids(app: ASGIApp, telemetry: Watched) -> None:
    stream = StringIO()
    output = LogOutput(line_formatter(as_json=True), stream)
    logging.getLogger("inside").addHandler(output)
    try:
        await ask(app, CHAT, "POST", x_request_id="mine-2")
        logging.getLogger("inside").warning("afterwards")
    finally:
        logging.getLogger("inside").removeHandler(output)
    output.finish()
    inside, after = stream.getvalue().splitlines()
    assert '"request_id":"mine-2"' in inside
    assert telemetry.ended[0].trace.trace_hex in inside
    assert "request_id" not in after


async def test_what_is_no_request_passes_through(telemetry: Watched) -> None:
    seen: list[str] = []

    async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def nothing(*_: Any) -> Any:
        raise AssertionError

    await Observed(lifespan, telemetry)({"type": "lifespan"}, nothing, nothing)
    assert seen == ["lifespan"]
    assert telemetry.begun == []
