"""The engine's process is killed, or stops, in the middle of answers; nobody but the shim puts it right."""

from __future__ import annotations

import json
import os
import queue
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from gpt_oss_triton.launch import shared_memory
from gpt_oss_triton.launch.triton_server import TritonServer
from tests.e2e.shim_process import ShimProcess
from tests.e2e.triton_direct_client import ENSEMBLE, DirectClient

Until = Callable[[Callable[[], bool], str], None]

ROUNDS = int(os.environ.get("ENGINE_DEATH_ROUNDS", "2"))
STREAMS = 4
CHAT: dict[str, Any] = {
    "model": ENSEMBLE,
    "messages": [{"role": "user", "content": "Count."}],
    "max_tokens": 8,
}
ENDLESS = {**CHAT, "ignore_eos": True, "max_tokens": 3000}


@pytest.fixture
def shim(triton: TritonServer) -> Iterator[ShimProcess]:
    with ShimProcess(triton, watch_hung_s=3.0) as process:
        yield process


@pytest.fixture
def supervised(triton: TritonServer) -> Iterator[Callable[[], None]]:
    """Does what the launcher does: starts the server again when it has ended. Call it while waiting."""
    before = len(shared_memory.regions(triton.shm_prefix))

    def look_after() -> None:
        if not triton.poll():
            triton.terminate()  # what is left of it
            triton.start()

    yield look_after
    assert len(shared_memory.regions(triton.shm_prefix)) == before


def stubs_of(triton: TritonServer) -> list[int]:
    """The processes of its models."""
    children = Path(f"/proc/{triton.pid}/task").glob("*/children")
    pids = [int(pid) for child in children for pid in child.read_text().split()]
    return [pid for pid in pids if b"python_backend_stub" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def last_event(shim: ShimProcess, begun: queue.SimpleQueue[int]) -> str:
    """The end of a streamed answer that does not end by itself; `begun` gets its status when it has begun."""
    chat = {**ENDLESS, "stream": True}
    with httpx.stream("POST", f"{shim.url}/v1/chat/completions", json=chat, timeout=60) as answer:
        begun.put(answer.status_code)
        return answer.read().decode().strip().split("\n\n")[-1]


def whole_answer(shim: ShimProcess) -> httpx.Response:
    return httpx.post(f"{shim.url}/v1/chat/completions", json=ENDLESS, timeout=60)


def lose_engine(
    shim: ShimProcess, client: DirectClient, until: Until, look_after: Callable[[], None], by: signal.Signals
) -> None:
    """Send a signal to the stub while it answers: everybody gets to know, and then all is well again."""
    with ThreadPoolExecutor(STREAMS + 1) as pool:
        begun: queue.SimpleQueue[int] = queue.SimpleQueue()
        streams = [pool.submit(last_event, shim, begun) for _ in range(STREAMS)]
        unstreamed = pool.submit(whole_answer, shim)
        assert [begun.get(timeout=30) for _ in range(STREAMS)] == [200] * STREAMS
        until(lambda: client.load().running == STREAMS + 1, "running answers")
        load = client.load()
        os.kill(load.pid, by)
        until(lambda: not shim.ready(), "the shim to notice")
        refused = httpx.post(f"{shim.url}/v1/chat/completions", json=CHAT)
        for stream in streams:
            event = stream.result()
            assert event.startswith("data: {"), event
            assert json.loads(event.removeprefix("data: "))["error"]["code"] == "engine_unavailable"
        assert unstreamed.result().status_code == 503
        assert refused.status_code == 503
        assert "retry-after" in refused.headers

    def recovered() -> bool:
        look_after()
        return shim.ready()

    until(recovered, "the recovery")
    answer = httpx.post(f"{shim.url}/v1/chat/completions", json=CHAT, timeout=60)
    assert answer.status_code == 200, answer.text
    after = client.load()
    assert after.pid != load.pid
    assert (after.running, after.waiting, after.blocks_used) == (0, 0, 0)


@pytest.mark.parametrize("attempt", range(ROUNDS))
def test_a_killed_stub(
    shim: ShimProcess, client: DirectClient, until: Until, supervised: Callable[[], None], attempt: int
) -> None:
    lose_engine(shim, client, until, supervised, signal.SIGKILL)


def test_a_stopped_stub(
    shim: ShimProcess, client: DirectClient, until: Until, supervised: Callable[[], None]
) -> None:
    lose_engine(shim, client, until, supervised, signal.SIGSTOP)


@pytest.mark.usefixtures(
    "started_anew"
)  # the watch stream was in flight, so the old instance still holds its memory
def test_without_a_supervisor_the_model_alone_is_loaded_again(
    triton: TritonServer, client: DirectClient, until: Until
) -> None:
    """As with a Triton in a container. No answer is in flight, which keeps the server sound."""
    server = triton.pid
    with ShimProcess(triton, local_triton=False) as shim:
        load = client.load()
        os.kill(load.pid, signal.SIGKILL)
        until(lambda: not shim.ready(), "the shim to notice")
        until(shim.ready, "the recovery")
        answer = httpx.post(f"{shim.url}/v1/chat/completions", json=CHAT, timeout=60)
        assert answer.status_code == 200, answer.text
    assert triton.pid == server
    assert triton.poll()


@pytest.mark.usefixtures("started_anew")  # the instance whose process died is never freed
@pytest.mark.parametrize("local", [True, False])
def test_a_killed_normalizer_is_loaded_again_and_answers_go_on(
    triton: TritonServer, client: DirectClient, until: Until, local: bool
) -> None:
    """Triton would give the dead process every second request for ever."""
    with ShimProcess(triton, local_triton=local) as shim, ThreadPoolExecutor(1) as pool:
        begun: queue.SimpleQueue[int] = queue.SimpleQueue()
        engine = client.load().pid
        running = pool.submit(last_event, shim, begun)
        assert begun.get(timeout=30) == 200
        normalizers = [pid for pid in stubs_of(triton) if pid != engine]
        assert not running.done()
        os.kill(normalizers[0], signal.SIGKILL)

        def answered(times: int = 2 * len(normalizers)) -> bool:
            asked = [
                httpx.post(f"{shim.url}/v1/chat/completions", json=CHAT, timeout=60) for _ in range(times)
            ]
            assert {answer.status_code for answer in asked} <= {200, 503}
            return all(answer.status_code == 200 for answer in asked)

        until(answered, "the normalizer")
        assert running.result() == "data: [DONE]"
        assert client.load().pid == engine
