"""Whoever leaves, wherever the request is: the engine is free again.

Measured against the engine's own report: nothing running, nothing waiting, no block in use.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from gpt_oss_triton.launch.triton_server import TritonServer, TritonServerSettings
from tests.e2e.shim_process import ShimProcess
from tests.e2e.triton_direct_client import ENSEMBLE, READY_S, REPOSITORY, DirectClient

Until = Callable[[Callable[[], bool], str], None]

PLACES = 2  # sequences that run at once
ENDLESS: dict[str, Any] = {
    "model": ENSEMBLE,
    "messages": [{"role": "user", "content": "Count."}],
    "ignore_eos": True,
    "max_tokens": 3000,
}
LONG_PROMPT = [{"role": "user", "content": "one two three four five six seven eight " * 350}]


@pytest.fixture(scope="module")
def small_triton(
    engine_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    """An engine that is soon full and takes many steps for a long prompt."""
    settings = TritonServerSettings(
        model_repository=REPOSITORY,
        models=[ENSEMBLE],
        log_file=tmp_path_factory.mktemp("small-triton") / "tritonserver.log",
        environment={
            **engine_environment,
            "GPT_OSS_MAX_SEQUENCES": str(PLACES),
            "GPT_OSS_MAX_STEP_TOKENS": "16",
            "GPT_OSS_PREFIX_CACHE": "false",
        },
    )
    with TritonServer(settings) as server:
        server.start()
        server.wait_ready(READY_S)
        yield server


@pytest.fixture(scope="module")
def shim(small_triton: TritonServer) -> Iterator[ShimProcess]:
    with ShimProcess(small_triton) as process:
        yield process


@pytest.fixture
def client(small_triton: TritonServer) -> DirectClient:
    return DirectClient(small_triton.grpc_url)


@pytest.fixture
def idle(client: DirectClient, until: Until) -> Callable[[], None]:
    def is_idle() -> bool:
        load = client.load()
        return (load.running, load.waiting, load.blocks_used) == (0, 0, 0)

    return lambda: until(is_idle, "the engine to be free again")


class RawRequest:
    """A request on a socket of its own, so that a test decides when the client vanishes."""

    def __init__(self, shim: ShimProcess, record: dict[str, Any]) -> None:
        body = json.dumps(record).encode()
        address = urlsplit(shim.url)
        assert address.hostname is not None
        assert address.port is not None
        self._socket = socket.create_connection((address.hostname, address.port), timeout=30)
        self._socket.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: shim\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body) + body
        )

    def wait_bytes(self, end: bytes) -> None:
        received = b""
        while end not in received:
            data = self._socket.recv(65536)
            assert data, f"closed by the server after {received!r}"
            received += data

    def leave(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def full_engine(shim: ShimProcess, client: DirectClient, until: Until) -> Iterator[None]:
    """Every place of the engine is taken."""
    requests = [RawRequest(shim, {**ENDLESS, "stream": True}) for _ in range(PLACES)]
    try:
        until(lambda: client.load().running == PLACES, "a full engine")
        yield
    finally:
        for request in requests:
            request.leave()


@pytest.mark.parametrize("stream", [True, False])
def test_before_the_headers(shim: ShimProcess, idle: Callable[[], None], stream: bool) -> None:
    for attempt in range(20):  # each leaves at another moment of the way to the engine
        request = RawRequest(shim, {**ENDLESS, "stream": stream})
        time.sleep(attempt * 0.001)
        request.leave()
    # The normalizer takes requests in their order, so behind this one none of the others can be on its way.
    last = httpx.post(f"{shim.url}/v1/chat/completions", json={**ENDLESS, "max_tokens": 1}, timeout=30)
    if last.status_code == 429:  # those that leave hold their places for a moment
        time.sleep(int(last.headers["retry-after"]))
        last = httpx.post(f"{shim.url}/v1/chat/completions", json={**ENDLESS, "max_tokens": 1}, timeout=30)
    assert last.status_code == 200
    idle()


def queued(shim: ShimProcess) -> int:
    """Requests that wait in the shim: it sends an engine no more than can run."""
    return int(httpx.get(f"{shim.url}/stats").json()["admission"]["queued"])


@pytest.mark.parametrize("stream", [True, False])
def test_in_the_queue(
    shim: ShimProcess, client: DirectClient, until: Until, idle: Callable[[], None], stream: bool
) -> None:
    with full_engine(shim, client, until):
        request = RawRequest(shim, {**ENDLESS, "stream": stream})
        until(lambda: queued(shim) == 1, "a waiting request")
        request.leave()
        until(lambda: queued(shim) == 0, "an empty queue")
        assert client.load().running == PLACES, "the others go on"
    idle()


@pytest.mark.parametrize("stream", [True, False])
def test_in_prefill(
    shim: ShimProcess, client: DirectClient, until: Until, idle: Callable[[], None], stream: bool
) -> None:
    before = client.load().output_tokens
    request = RawRequest(shim, {**ENDLESS, "messages": LONG_PROMPT, "stream": stream})
    until(lambda: client.load().running == 1, "a running prefill")
    request.leave()
    idle()
    assert client.load().output_tokens == before, "it ended before its first token"


@pytest.mark.parametrize("stream", [True, False])
def test_in_decode(
    shim: ShimProcess, client: DirectClient, until: Until, idle: Callable[[], None], stream: bool
) -> None:
    before = client.load().output_tokens
    request = RawRequest(shim, {**ENDLESS, "stream": stream})
    if stream:
        request.wait_bytes(b'"delta":{"')
    until(lambda: client.load().output_tokens >= before + 5, "some tokens")
    request.leave()
    idle()
    assert client.load().output_tokens < before + ENDLESS["max_tokens"]


def test_at_the_deadline(small_triton: TritonServer, idle: Callable[[], None]) -> None:
    with ShimProcess(small_triton, request_timeout_s=0.5) as shim:
        answer = httpx.post(f"{shim.url}/v1/chat/completions", json=ENDLESS, timeout=30)
        assert answer.status_code == 504
        assert answer.json()["error"]["code"] == "deadline_exceeded"
        streamed = httpx.post(f"{shim.url}/v1/chat/completions", json={**ENDLESS, "stream": True}, timeout=30)
        assert streamed.status_code == 200
        last = streamed.text.strip().split("\n\n")[-1]
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "deadline_exceeded"
        idle()


def test_a_shim_that_drains(
    small_triton: TritonServer, client: DirectClient, until: Until, idle: Callable[[], None]
) -> None:
    with ShimProcess(small_triton, drain_timeout_s=0.5) as shim:
        request = RawRequest(shim, {**ENDLESS, "stream": True})
        until(lambda: client.load().running == 1, "a running request")
        shim.process.terminate()
        request.wait_bytes(b'"code":"engine_unavailable"')
        assert shim.process.wait(30) == 0
        idle()


def test_a_killed_shim(small_triton: TritonServer, client: DirectClient, until: Until) -> None:
    """Nobody sends a cancel: a direct stream would be noticed, one through the ensemble ends by its limit."""
    with ShimProcess(small_triton) as shim:
        request = RawRequest(shim, {**ENDLESS, "max_tokens": 200, "stream": True})
        until(lambda: client.load().running == 1, "a running request")
        shim.process.kill()
        until(lambda: client.load().running == 0, "the end of the answer")
        request.leave()


@pytest.fixture(scope="module", autouse=True)
def _shared_memory_is_bounded(small_triton: TritonServer) -> Iterator[None]:
    regions = list(Path("/dev/shm").glob(f"{small_triton.shm_prefix}*"))
    size = sum(region.stat().st_size for region in regions)
    yield
    after = list(Path("/dev/shm").glob(f"{small_triton.shm_prefix}*"))
    assert len(after) == len(regions)
    assert sum(region.stat().st_size for region in after) <= 4 * size
