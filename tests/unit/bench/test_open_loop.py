"""The load generator against a server of a few lines, on a real socket."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable

import pytest

from gpt_oss_triton.bench.open_loop import Requests, Sent, Source, closed_loop, send
from gpt_oss_triton.bench.overload import figures
from gpt_oss_triton.bench.plain_http import PlainHttp

REQUESTS = Requests("model", prompt_words=5, output_tokens=8)
EVENTS = (
    b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n',
    b'data: {"choices":[{"delta":{"content":"Hel"}}]}\n\ndata: {"choices":[{"delta":{"con',
    b'tent":"lo"}}]}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":7}}\n\ndata: [DONE]\n\n',
)


def streamed(*pieces: bytes) -> bytes:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks


ANSWER = streamed(*EVENTS, b"")


def refusal(status: str = "429 Too Many Requests", headers: str = "Retry-After: 1\r\n") -> bytes:
    return f"HTTP/1.1 {status}\r\n{headers}Content-Length: 2\r\n\r\n{{}}".encode()


class Server:
    """Gives every request the same answer, and hangs up after it if told to.

    Attributes:
        bodies: of the requests; connections: how many were opened.
    """

    def __init__(self, answer: bytes, *, hang_up: bool = False) -> None:
        self.answer = answer
        self.hang_up = hang_up
        self.heads: list[str] = []
        self.bodies: list[bytes] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while head := (await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b""):
            self.heads.append(head.decode())
            length = int(head.lower().partition(b"content-length:")[2].split()[0])
            self.bodies.append(await reader.readexactly(length))
            writer.write(self.answer)
            if self.hang_up:
                break
        writer.close()

    def run(self, work: Callable[[PlainHttp], Awaitable[object]]) -> None:
        async def main() -> None:
            server = await asyncio.start_server(self._quietly, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            async with PlainHttp(f"http://127.0.0.1:{port}/v1") as client:
                await work(client)
            server.close()

        asyncio.run(main())

    async def _quietly(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self.serve(reader, writer)
        except asyncio.IncompleteReadError:  # the client has gone
            writer.close()


def one(answer: bytes, *, hang_up: bool = False) -> Sent:
    sent: list[Sent] = []

    async def work(client: PlainHttp) -> None:
        sent.append(await send(client, b"{}", None))

    Server(answer, hang_up=hang_up).run(work)
    return sent[0]


def test_an_answer_is_read_through_its_chunks() -> None:
    sent = one(ANSWER)
    assert (sent.ok, sent.refused, sent.tokens, sent.told_s) == (True, False, 7, None)
    assert sent.first_token is not None
    assert sent.ended is not None
    assert sent.at <= sent.first_token <= sent.ended


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (refusal("503 Service Unavailable"), "{}"),
        (streamed(EVENTS[0], EVENTS[3], b""), "without text"),
        (streamed(*EVENTS[:2]), "IncompleteReadError"),
        (streamed(EVENTS[0], b'data: {"error":{"message":"lost"}}\n\n', b""), "lost"),
        (b"", "IncompleteReadError"),
    ],
)
def test_what_goes_wrong_is_said(answer: bytes, error: str) -> None:
    sent = one(answer, hang_up=True)
    assert not sent.ok
    assert not sent.refused
    assert error in str(sent.error)


def test_a_refusal_is_no_error() -> None:
    sent = one(refusal())
    assert (sent.refused, sent.told_s, sent.error) == (True, 1, None)


def test_connections_are_kept_and_the_key_is_sent() -> None:
    server = Server(ANSWER)

    async def work(client: PlainHttp) -> None:
        for _ in range(5):
            assert (await send(client, b'{"n": 1}', "secret")).ok

    server.run(work)
    assert server.connections == 1
    assert server.bodies == [b'{"n": 1}'] * 5
    assert server.heads[0].startswith("POST /v1/chat/completions HTTP/1.1\r\n")
    assert "authorization: Bearer secret\r\n" in server.heads[0]


def test_a_closed_connection_is_not_used_again() -> None:
    close = refusal(headers="Retry-After: 1\r\nConnection: close\r\n")
    server = Server(close)

    async def work(client: PlainHttp) -> None:
        for _ in range(3):
            assert (await send(client, b"{}", None)).refused

    server.run(work)
    assert server.connections == 3


def test_a_connection_that_the_server_has_closed_is_replaced() -> None:
    server = Server(ANSWER, hang_up=True)

    async def work(client: PlainHttp) -> None:
        for _ in range(3):
            assert (await send(client, b"{}", None)).ok

    server.run(work)
    assert server.connections == 3


def test_those_who_obey_come_back_once_with_the_same_body() -> None:
    server = Server(refusal())
    source = Source(rate=20.0, seed="seed", obey=1.0)

    async def work(client: PlainHttp) -> None:
        await source.run(client, REQUESTS, 1.5)

    server.run(work)
    returned = [s for s in source.sent if s.returned is not None]
    assert returned
    assert all(s.returned is not None and s.returned.at - s.at >= 1 for s in returned)
    assert len(server.bodies) == len(source.sent)
    assert len(set(server.bodies)) == len(source.sent) - len(returned)


def test_arrivals_do_not_depend_on_the_server() -> None:
    def arrivals(answer: bytes) -> list[bytes]:
        server = Server(answer)
        source = Source(rate=40.0, seed="same")

        async def work(client: PlainHttp) -> None:
            await source.run(client, REQUESTS, 0.5)

        server.run(work)
        return sorted(server.bodies)

    assert arrivals(ANSWER) == arrivals(refusal())


def test_a_closed_loop_waits_for_its_answers() -> None:
    server = Server(ANSWER)
    sent: list[Sent] = []

    async def work(client: PlainHttp) -> None:
        sent.extend(await closed_loop(client, REQUESTS, 3, 0.2))

    server.run(work)
    assert len(sent) >= 3
    assert all(s.ok for s in sent)
    assert server.connections <= 3


def test_answers_are_of_all_lengths_around_the_mean() -> None:
    rng = random.Random(0)
    limits = [json.loads(Requests("m", 1, 64).body(rng))["max_tokens"] for _ in range(500)]
    assert (min(limits), max(limits)) == (16, 112)
    assert 60 < sum(limits) / 500 < 68


def test_figures_of_a_window() -> None:
    def answer(at: float, ttft_s: float, ended: float) -> Sent:
        return Sent(at, 200, at + ttft_s, ended, tokens=10)

    back = answer(15.0, 0.3, 16.0)
    refused = Sent(14.0, 429, ended=14.002, told_s=1, returned=back)
    sent = [
        answer(5.0, 0.1, 10.5),  # sent before, ended in it
        answer(11.0, 0.2, 12.0),
        answer(19.0, 0.4, 25.0),  # sent in it, ended after
        refused,
        back,
        Sent(15.0, 429, ended=15.004, told_s=60),
        Sent(16.0, 500, ended=16.0, error="oops"),
        Sent(30.0, 429, ended=30.0, told_s=1),
    ]
    row = figures(sent, 10.0, 20.0)
    assert row == {
        "goodput": 0.3,
        "output_tokens_per_s": 3.0,
        "sent": 6,
        "admitted": 3,
        "refused": 2,
        "failed": 1,
        "ttft_p50_ms": 300.0,
        "ttft_p95_ms": 400.0,
        "refusal_p50_ms": 4.0,
        "refusal_p99_ms": 4.0,
        "obeyed": 1,
        "obeyed_admitted": 1,
        "first_error": "oops",
    }
