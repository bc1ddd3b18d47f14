"""The bounds below ASGI, seen from a socket: what no client library sends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from frontend.http_protocol import bounded_protocol
from gpt_oss_triton.launch import ports

pytestmark = pytest.mark.anyio

MAX_HEADER_BYTES = 10_000
HEAD_TIMEOUT_S = 0.5
CLOSE_TIMEOUT_S = 0.5
CHUNK = b"x" * 4096
ENDLESS = 64 * 1024 * 1024  # more than any buffer on the way takes
LARGE = 16 * 1024 * 1024  # more than the kernel takes for a client that does not read


class Application:
    """Answers with the number of bytes in the body. `/wait` has no answer, and waits for its client to go;
    `/large` has a long one, and `/broken` the beginning of one, after which the connection is closed. `/early` has one before
    the body has come.

    Attributes:
        waiting: requests to `/wait` that have begun.
        left: those whose client has gone.
    """

    def __init__(self) -> None:
        self.waiting = 0
        self.left = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        size, more = 0, scope["path"] != "/early"
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return
            size, more = size + len(message["body"]), message["more_body"]
        if scope["path"] == "/wait":
            self.waiting += 1
            while (await receive())["type"] != "http.disconnect":
                pass
            self.left += 1
            return
        body = b"x" * LARGE if scope["path"] in ("/large", "/broken") else str(size).encode()
        more = scope["path"] == "/broken"
        headers = [(b"content-length", str(len(body) + more).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": more})


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The loop that is served with."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with ports.bind("127.0.0.1", 0) as listener:
        yield listener


@pytest.fixture
def port(server: uvicorn.Server, listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


@pytest.fixture
async def server(application: Application, listener: socket.socket) -> AsyncIterator[uvicorn.Server]:
    config = uvicorn.Config(
        application,
        http=bounded_protocol(MAX_HEADER_BYTES, HEAD_TIMEOUT_S, CLOSE_TIMEOUT_S),
        ws="none",
        lifespan="off",
        log_config=None,
        timeout_keep_alive=1,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    yield server
    server.should_exit = True
    await task


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - the server's own state tells nobody of its changes
            await asyncio.sleep(0.01)


class Connection:
    """A client that sends what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def to(cls, port: int) -> Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def flood(self, data: bytes) -> int:
        """Send it again and again, until the server has had enough; the bytes that went out."""
        sent = 0
        try:
            while sent < ENDLESS:
                await self.send(data)
                sent += len(data)
        except ConnectionError:
            pass
        return sent

    def finish(self) -> None:
        """Nothing more is sent."""
        self._writer.write_eof()

    def leave(self) -> None:
        self._writer.close()

    async def head(self) -> bytes:
        async with asyncio.timeout(10):
            return await self._reader.readuntil(b"\r\n\r\n")

    async def answer(self) -> bytes:
        """Head and body of one answer whose body is short."""
        head = await self.head()
        async with asyncio.timeout(10):
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            return head + await self._reader.readexactly(length)

    async def rest(self) -> bytes:
        """All until the server closes."""
        async with asyncio.timeout(10):
            try:
                return await self._reader.read()
            except ConnectionError:
                return b""


HEAD = b"POST / HTTP/1.1\r\nhost: x\r\n"


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (HEAD + b"x-long: ", CHUNK),
        (HEAD, b"x-many: " + CHUNK + b"\r\n"),
        (b"GET /", CHUNK),
        (b"GET / HTTP/1.1\r\n", CHUNK),
    ],
    ids=["one header", "many headers", "path", "name"],
)
async def test_a_head_without_end_is_cut_off(port: int, begin: bytes, more: bytes) -> None:
    connection = await Connection.to(port)
    await connection.send(begin)
    assert await connection.flood(more) < ENDLESS


async def test_a_long_head_is_told_so(port: int) -> None:
    connection = await Connection.to(port)
    await connection.send(HEAD + b"x-long: ")
    for _ in range(3):
        await connection.send(CHUNK)
        await asyncio.sleep(0.05)  # so that they come in as reads of their own
    assert (await connection.rest()).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("more", [b"x-long: " + CHUNK, b"a: b\r\n" * 1000], ids=["one", "many"])
async def test_a_trailer_without_end_is_cut_off(port: int, more: bytes) -> None:
    connection = await Connection.to(port)
    await connection.send(HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n")
    assert await connection.flood(more) < ENDLESS


async def test_a_chunk_extension_without_end_is_cut_off(port: int) -> None:
    connection = await Connection.to(port)
    await connection.send(HEAD + b"transfer-encoding: chunked\r\n\r\n1;x=")
    assert await connection.flood(CHUNK) < ENDLESS


async def test_a_slow_head_is_given_up(port: int) -> None:
    connection = await Connection.to(port)
    await connection.send(HEAD)
    assert (await connection.rest()).startswith(b"HTTP/1.1 408 ")


async def test_a_slow_second_head_as_well(port: int) -> None:
    connection = await Connection.to(port)
    await connection.send(HEAD + b"content-length: 1\r\n\r\nx")
    assert (await connection.answer()).endswith(b"\r\n\r\n1")
    await connection.send(b"POST")
    assert (await connection.rest()).startswith(b"HTTP/1.1 408 ")


async def test_a_connection_that_says_nothing_is_closed_without_a_word(port: int) -> None:
    connection = await Connection.to(port)
    assert await connection.rest() == b""


@pytest.mark.parametrize(
    ("request_", "after"),
    [(HEAD + b"content-length: 1\r\n\r\nx", b"\r\n"), (b"POST /early HTTP/1.1\r\ncontent-length: 9\r\n\r\n", b"x")],
    ids=["blank line", "rest of a body"],
)  # fmt: skip
async def test_bytes_behind_an_answer_that_begin_nothing_keep_no_connection(
    port: int, request_: bytes, after: bytes
) -> None:
    connection = await Connection.to(port)
    await connection.send(request_)
    await connection.answer()
    await connection.send(after)
    assert await connection.rest() == b"", "no request has begun that one could be told of"


async def test_large_bodies_pass_on_one_connection(port: int) -> None:
    connection = await Connection.to(port)
    for _ in range(3):
        await connection.send(HEAD + b"content-length: 400000\r\n\r\n" + b"x" * 400_000)
        assert (await connection.answer()).endswith(b"\r\n\r\n400000")
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(CHUNK), CHUNK) for _ in range(100))
    await connection.send(HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
    assert (await connection.answer()).endswith(b"\r\n\r\n409600")


async def test_a_body_may_take_longer_than_a_head(port: int) -> None:
    connection = await Connection.to(port)
    await connection.send(HEAD + b"content-length: 2\r\n\r\nx")
    await asyncio.sleep(2 * HEAD_TIMEOUT_S)
    await connection.send(b"x")
    assert (await connection.answer()).endswith(b"\r\n\r\n2")


async def test_pipelined_requests_are_answered_in_turn(port: int) -> None:
    connection = await Connection.to(port)
    await connection.send((HEAD + b"content-length: 3\r\n\r\nabc") * 3)
    for _ in range(3):
        assert (await connection.answer()).endswith(b"\r\n\r\n3")


WAIT = b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n"
OTHER = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.mark.parametrize("behind", [OTHER, WAIT, WAIT + OTHER], ids=["another", "its like", "two"])
async def test_the_request_that_runs_hears_that_its_client_left_others_behind_it(
    port: int, application: Application, behind: bytes
) -> None:
    connection = await Connection.to(port)
    await connection.send(WAIT + behind)
    await until(lambda: application.waiting == 1)
    connection.leave()
    await until(lambda: application.left == 1)
    assert application.waiting == 1, "nor does what waited begin"


async def test_also_where_the_other_came_while_it_ran(port: int, application: Application) -> None:
    connection = await Connection.to(port)
    await connection.send(WAIT)
    await until(lambda: application.waiting == 1)
    await connection.send(OTHER)
    connection.leave()
    await until(lambda: application.left == 1)


async def test_also_where_it_had_waited_itself(port: int, application: Application) -> None:
    connection = await Connection.to(port)
    await connection.send(OTHER + WAIT + OTHER)
    await until(lambda: application.waiting == 1)
    connection.leave()
    await until(lambda: application.left == 1)


async def test_no_more_is_read_than_some_requests_that_wait(
    port: int, server: uvicorn.Server, application: Application
) -> None:
    connection = await Connection.to(port)
    await connection.send(WAIT)
    await until(lambda: application.waiting == 1)
    (protocol,) = server.server_state.connections
    flood = asyncio.create_task(connection.flood(OTHER * 1000))
    await until(lambda: protocol.flow.read_paused)
    assert not flood.done()
    flood.cancel()


@pytest.mark.parametrize(
    ("request_", "finished"),
    [
        (b"GET /large HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", False),
        (b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n", False),
        (b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n", True),
        (b"GET /broken HTTP/1.1\r\nhost: x\r\n\r\n", False),
    ],
    ids=["the client asked to close", "idle", "the client has finished", "the answer broke"],
)
async def test_a_closed_connection_waits_for_no_reader_for_ever(
    port: int, server: uvicorn.Server, request_: bytes, finished: bool
) -> None:
    connection = await Connection.to(port)
    await connection.send(request_)
    await connection.head()
    if finished:
        connection.finish()
    await until(lambda: not server.server_state.connections)
    assert len(await connection.rest()) < LARGE
