"""`python -m frontend` as a process of its own: its command line, its socket, its signals."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator

import httpx
import pytest

from frontend.server import bind
from gpt_oss_triton.errors import ConfigurationError
from gpt_oss_triton.wire import Event
from tests.unit.frontend.fake_triton import ENSEMBLE, FakeTriton, Request, accepted, endless, finished
from tests.unit.frontend.harmony_turn import turn

pytestmark = pytest.mark.anyio

CHAT = {"model": ENSEMBLE, "messages": [{"role": "user", "content": "hi"}], "stream": True}


class ShimProcess:
    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.process = process
        self.url = url

    async def until_status(self, path: str, status: int) -> None:
        async with asyncio.timeout(20), httpx.AsyncClient(base_url=self.url) as http:
            while (await http.get(path)).status_code != status:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.02)


@pytest.fixture
async def shim(fake: FakeTriton) -> AsyncIterator[ShimProcess]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "frontend", "--port", "0", "--triton-url", f"127.0.0.1:{fake.port}",
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    line = (await process.stderr.readline()).decode()
    match = re.search(r"listening on (http://\S+),", line)
    assert match, line
    drain = asyncio.create_task(process.stderr.read())
    shim = ShimProcess(process, match[1])
    try:
        await shim.until_status("/readyz", 200)
        yield shim
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        drain.cancel()


async def test_sigterm_lets_the_running_answer_finish(shim: ShimProcess, fake: FakeTriton) -> None:
    go = asyncio.Event()

    async def slow(request: Request) -> AsyncIterator[tuple[list[int], Event | None]]:
        yield accepted()
        yield turn("think", "Hello! ")[:-1], None
        await go.wait()
        yield finished([turn("", "")[-1]])

    fake.script = slow
    async with (
        httpx.AsyncClient(base_url=shim.url, timeout=20) as http,
        http.stream("POST", "/v1/chat/completions", json=CHAT) as response,
    ):
        lines = response.aiter_lines()
        await anext(lines)
        shim.process.send_signal(signal.SIGTERM)
        await shim.until_status("/readyz", 503)
        refused = await http.post("/v1/chat/completions", json=CHAT)
        assert refused.status_code == 503
        go.set()
        assert "data: [DONE]" in [line async for line in lines]
    assert await asyncio.wait_for(shim.process.wait(), 20) == 0
    assert fake.cancelled == []


async def test_a_second_signal_ends_the_answer_and_tells_the_engine(
    shim: ShimProcess, fake: FakeTriton
) -> None:
    fake.script = endless
    async with (
        httpx.AsyncClient(base_url=shim.url, timeout=20) as http,
        http.stream("POST", "/v1/chat/completions", json=CHAT) as response,
    ):
        lines = response.aiter_lines()
        await anext(lines)
        shim.process.send_signal(signal.SIGTERM)
        await shim.until_status("/readyz", 503)
        shim.process.send_signal(signal.SIGTERM)
        rest = [line async for line in lines if line]
        assert "engine_unavailable" in rest[-1]
    assert await asyncio.wait_for(shim.process.wait(), 20) == 0
    assert fake.cancelled == [fake.requests[0].id]


async def test_an_idle_shim_ends_at_once(shim: ShimProcess) -> None:
    shim.process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(shim.process.wait(), 20) == 0


async def test_an_inherited_socket(fake: FakeTriton) -> None:
    with bind("127.0.0.1", 0) as listener:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "frontend", "--fd", str(listener.fileno()),
            "--triton-url", f"127.0.0.1:{fake.port}",
            pass_fds=[listener.fileno()], stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        shim = ShimProcess(process, f"http://127.0.0.1:{listener.getsockname()[1]}")
        try:
            await shim.until_status("/readyz", 200)
        finally:
            process.terminate()
            assert await asyncio.wait_for(process.wait(), 20) == 0


async def output(*arguments: str, **environment: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "frontend", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=environment or None,
    )  # fmt: skip
    text, _ = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode, text.decode()


async def test_help_teaches() -> None:
    status, text = await output("--help")
    assert status == 0
    for word in ("--triton-url", "GPT_OSS_API_KEY", "curl", "/readyz"):
        assert word in text


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["--port", "70000"], {}, "GPT_OSS_PORT"),
        (["--fd", "77"], {}, "descriptor 77"),
        (["--port", "0"], {"GPT_OSS_MODELS": '{"a": "nope"}'}, "nope"),
        (["--port", "0"], {"GPT_OSS_REQUEST_TIMEOUT_S": "-1"}, "GPT_OSS_REQUEST_TIMEOUT_S"),
    ],
)
async def test_bad_settings_are_one_line(
    arguments: list[str], environment: dict[str, str], words: str
) -> None:
    status, text = await output(*arguments, **environment)
    assert status not in (0, None)
    assert words in text
    assert "Traceback" not in text


def test_a_taken_port_is_said() -> None:
    with bind("127.0.0.1", 0) as taken, pytest.raises(ConfigurationError, match="cannot listen"):
        bind("127.0.0.1", taken.getsockname()[1])


def test_bind_gives_the_port() -> None:
    with bind("localhost", 0) as listener:
        assert listener.getsockname()[1] > 0
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
