"""The load generators' HTTP, against a server that sends what it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gpt_oss_triton.bench.http import Endpoint, ask
from gpt_oss_triton.bench.plain_http import PlainHttp
from gpt_oss_triton.bench.workload import Answer

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: Chunked\r\n\r\n5;why=so\r\nhello\r\n3\r\n ab\r\n0\r\nx-sum: 1\r\n\r\n"
LENGTH = HEAD + b"content-length: 8\r\n\r\nhello ab"
TO_THE_END = HEAD + b"\r\nhello ab"
ENDLESS = HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"


class Server:
    """Gives one of `answers` after the other; closes behind one without an end of its own.

    Attributes:
        connections: that clients made.
        left: set when a client closes one.
    """

    def __init__(self, *answers: bytes) -> None:
        self._answers = list(answers)
        self.connections = 0
        self.left = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while self._answers:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except EOFError:
                break
            lengths = [line[15:] for line in head.split(b"\r\n") if line.startswith(b"content-length:")]
            await reader.readexactly(int(lengths[0]))
            answer = self._answers.pop(0)
            writer.write(answer)
            if answer == TO_THE_END:
                break
        else:
            await reader.read()
            self.left.set()
        writer.close()


def run(server: Server, use: Callable[[str], Awaitable[None]]) -> None:
    async def both() -> None:
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        try:
            await use(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1")
        finally:
            listening.close()

    asyncio.run(asyncio.wait_for(both(), 20))


async def read(client: PlainHttp) -> bytes:
    return b"".join([data async for data in await client.post("/x", b"{}")])


@pytest.mark.parametrize(
    ("answers", "connections"), [((CHUNKED, LENGTH, CHUNKED), 1), ((TO_THE_END, LENGTH, TO_THE_END), 2)]
)
def test_bodies_of_every_kind_are_read_and_whole_ones_keep_their_connection(
    answers: tuple[bytes, ...], connections: int
) -> None:
    server = Server(*answers)

    async def use(url: str) -> None:
        async with PlainHttp(url) as client:
            for _ in answers:
                assert await read(client) == b"hello ab"

    run(server, use)
    assert server.connections == connections


def test_a_cancelled_reader_closes_its_connection() -> None:
    server = Server(ENDLESS)

    async def use(url: str) -> None:
        async with PlainHttp(url) as client:
            reading = asyncio.create_task(read(client))
            await asyncio.sleep(0.1)
            reading.cancel()
            await server.left.wait()

    run(server, use)


@pytest.mark.parametrize("answer", [b"nonsense\r\n\r\n", HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n"])
def test_what_is_no_http_is_an_error_of_that_answer(answer: bytes) -> None:
    found = Answer()

    async def use(url: str) -> None:
        async with PlainHttp(url) as client:
            await ask(client, Endpoint(url, "model"), "Hello", 1, found)

    run(Server(answer), use)
    assert "no HTTP" in str(found.error)


def test_a_refusal_is_told_with_its_body() -> None:
    found = Answer()

    async def use(url: str) -> None:
        async with PlainHttp(url) as client:
            await ask(client, Endpoint(url, "model"), "Hello", 1, found)

    run(Server(b"HTTP/1.1 429 Busy\r\ncontent-length: 12\r\n\r\nwhy\n\nthe end"), use)
    assert found.error == "429 b'why\\n\\nthe end'"
