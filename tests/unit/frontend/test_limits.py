"""Caps on memory and time, at the ASGI edge."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from frontend.limits import BodyTimeout, SizeLimits
from gpt_oss_triton.errors import HeadersTooLarge, Overloaded, RequestTimeout, RequestTooLarge

pytestmark = pytest.mark.anyio


async def read(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the body and waits for `go` before it ends."""
    while (await receive()).get("more_body", False):
        pass
    if (go := scope.get("go")) is not None:
        await go.wait()


async def nothing(message: Message) -> None:
    raise AssertionError("limits raise and do not answer")


def scope(**fields: Any) -> Scope:
    return {"type": "http", "headers": [], "raw_path": b"/", "query_string": b"", **fields}


def sender(chunks: Iterable[bytes]) -> Receive:
    """A client that sends these chunks at once, and then nothing more."""
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages[-1]["more_body"] = False

    async def receive() -> Message:
        return messages.pop(0)

    return receive


async def run(app: ASGIApp, chunks: Iterable[bytes] = (b"",), **fields: Any) -> None:
    await app(scope(**fields), sender(chunks), nothing)


@pytest.mark.parametrize(
    ("fields", "fits"),
    [
        ({"headers": [(b"x" * 50, b"y" * 49)]}, True),
        ({"headers": [(b"x" * 50, b"y" * 50)]}, False),
        ({"headers": [(b"x", b"")] * 100}, False),
        ({"raw_path": b"/" + b"p" * 100}, False),
        ({"query_string": b"q" * 100}, False),
        ({"raw_path": None, "query_string": b"q" * 100}, True),
    ],
)
async def test_heads(fields: dict[str, Any], fits: bool) -> None:
    limits = SizeLimits(read, max_body_bytes=10, max_header_bytes=100)
    if fits:
        await run(limits, **fields)
    else:
        with pytest.raises(HeadersTooLarge, match="100"):
            await run(limits, **fields)


async def test_a_declared_length_is_refused_before_the_body() -> None:
    async def receive() -> Message:
        raise AssertionError("read")

    limits = SizeLimits(read, max_body_bytes=10, max_header_bytes=100)
    with pytest.raises(RequestTooLarge):
        await limits(scope(headers=[(b"content-length", b"11")]), receive, nothing)


async def test_a_body_is_counted_whatever_it_declares() -> None:
    limits = SizeLimits(read, max_body_bytes=10, max_header_bytes=100)
    await run(limits, [b"12345", b"67890"])
    for headers in ([], [(b"content-length", b"1")], [(b"content-length", b"x")]):
        with pytest.raises(RequestTooLarge, match="10"):
            await run(limits, [b"12345", b"67890", b"1"], headers=headers)


async def test_bodies_share_a_limit_while_they_are_answered(
    until: Callable[[Callable[[], bool]], Any],
) -> None:
    limits = SizeLimits(read, max_body_bytes=10, max_header_bytes=100, max_held_bytes=25)
    go = asyncio.Event()
    held = [asyncio.create_task(run(limits, [b"x" * 10], go=go)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded) as caught:
        await run(limits, [b"x" * 6])
    assert caught.value.retry_after_s is not None
    await run(limits, [b"x" * 5])
    go.set()
    await asyncio.gather(*held)
    await run(limits, [b"x" * 10])


async def test_a_refused_body_gives_back_its_share() -> None:
    limits = SizeLimits(read, max_body_bytes=10, max_header_bytes=100, max_held_bytes=15)
    for _ in range(5):
        with pytest.raises(RequestTooLarge):
            await run(limits, [b"x" * 11])
    await run(limits, [b"x" * 10])


async def test_a_body_in_time_passes_and_its_sender_may_stay() -> None:
    left = asyncio.Event()

    async def listen(scope: Scope, receive: Receive, send: Send) -> None:
        await read(scope, receive, send)
        assert (await receive())["type"] == "http.disconnect"
        left.set()

    arrivals: asyncio.Queue[Message] = asyncio.Queue()
    arrivals.put_nowait({"type": "http.request", "body": b"x", "more_body": False})
    task = asyncio.create_task(BodyTimeout(listen, timeout_s=0.05)(scope(), arrivals.get, nothing))
    await asyncio.sleep(0.2)
    assert not task.done()
    arrivals.put_nowait({"type": "http.disconnect"})
    await task
    assert left.is_set()


async def test_a_body_that_stalls() -> None:
    arrivals: asyncio.Queue[Message] = asyncio.Queue()
    arrivals.put_nowait({"type": "http.request", "body": b"x", "more_body": True})
    with pytest.raises(RequestTimeout, match=r"within 0\.05 seconds"):
        await BodyTimeout(read, timeout_s=0.05)(scope(), arrivals.get, nothing)


async def test_a_body_that_trickles() -> None:
    async def receive() -> Message:
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b"x", "more_body": True}

    with pytest.raises(RequestTimeout):
        await BodyTimeout(read, timeout_s=0.1)(scope(), receive, nothing)


@pytest.mark.parametrize(
    "limit", [lambda app: BodyTimeout(app, 0.05), lambda app: SizeLimits(app, 10, 100)], ids=["time", "size"]
)
async def test_a_client_that_leaves_is_passed_on(limit: Callable[[ASGIApp], ASGIApp]) -> None:
    heard: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        heard.append(await receive())

    await limit(application)(scope(), receive, nothing)
    assert heard == [{"type": "http.disconnect"}]


@pytest.mark.parametrize(
    "limit", [lambda app: BodyTimeout(app, 0.01), lambda app: SizeLimits(app, 1, 1)], ids=["time", "size"]
)
async def test_what_is_not_http_passes_untouched(limit: Callable[[ASGIApp], ASGIApp]) -> None:
    seen: list[Any] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend((scope, receive, send))

    lifespan = {"type": "lifespan"}
    receive = sender([b""])
    await limit(application)(lifespan, receive, nothing)
    assert seen == [lifespan, receive, nothing]
