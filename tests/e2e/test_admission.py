"""Admission with all processes real: a small engine that is asked for more than it can do."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from frontend.caller import digest_of
from gpt_oss_triton.bench.open_loop import Requests, Sent, Source, closed_loop
from gpt_oss_triton.bench.plain_http import PlainHttp
from gpt_oss_triton.launch.triton_server import TritonServer, TritonServerSettings
from tests.e2e.shim_process import ShimProcess
from tests.e2e.triton_direct_client import ENSEMBLE, READY_S, REPOSITORY

pytestmark = pytest.mark.slow

Until = Callable[[Callable[[], bool], str], None]

PATH = "/v1/chat/completions"
SLOTS = 2
ADMIN = {"authorization": "Bearer the-admin-key"}
REQUESTS = Requests(ENSEMBLE, prompt_words=30, output_tokens=48)
KEYS = {
    "flood": "",
    "quiet": "",
    "limited": "requests_per_minute = 2\ntokens_per_minute = 600\nconcurrency = 5\n",
    "urgent": 'priority = "high"\n',
}


@pytest.fixture(scope="module")
def small(
    engine_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    """A server whose engine runs two requests at once."""
    settings = TritonServerSettings(
        model_repository=REPOSITORY,
        models=[ENSEMBLE],
        log_file=tmp_path_factory.mktemp("small") / "tritonserver.log",
        environment={**engine_environment, "GPT_OSS_MAX_SEQUENCES": str(SLOTS)},
    )
    with TritonServer(settings) as server:
        server.start()
        server.wait_ready(READY_S)
        yield server


@pytest.fixture(scope="module")
def keys_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "keys.toml"
    entries = (
        f'[[key]]\nname = "{name}"\nsha256 = "{digest_of(key_of(name).encode()).hex()}"\n{limits}'
        for name, limits in KEYS.items()
    )
    path.write_text("\n".join(entries))
    return path


@pytest.fixture(scope="module")
def shim(small: TritonServer, keys_file: Path) -> Iterator[ShimProcess]:
    with ShimProcess(small, api_keys_file=str(keys_file), admin_key="the-admin-key") as process:
        yield process


@pytest.fixture
def new_shim(small: TritonServer, keys_file: Path) -> Iterator[ShimProcess]:
    """One that has yet to learn how long answers take."""
    with ShimProcess(small, api_keys_file=str(keys_file), admin_key="the-admin-key") as process:
        yield process


def key_of(name: str) -> str:
    return f"the-key-of-{name}"


def post(shim: ShimProcess, name: str, **fields: Any) -> httpx.Response:
    body = {"model": ENSEMBLE, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4, **fields}
    headers = {"authorization": f"Bearer {key_of(name)}"}
    return httpx.post(shim.url + PATH, json=body, headers=headers, timeout=60)


def admission(shim: ShimProcess) -> dict[str, Any]:
    stats: dict[str, Any] = httpx.get(f"{shim.url}/stats", headers=ADMIN).json()
    return stats["admission"] | {"in_flight": sum(engine["in_flight"] for engine in stats["engines"])}


@contextlib.contextmanager
def all_slots_taken(shim: ShimProcess, until: Until) -> Iterator[None]:
    """By answers that go on until the client leaves."""
    body = {
        "model": ENSEMBLE,
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 20_000,
        "ignore_eos": True,
        "stream": True,
    }
    with contextlib.ExitStack() as stack:
        http = stack.enter_context(httpx.Client(base_url=shim.url, timeout=60))
        headers = {"authorization": f"Bearer {key_of('flood')}"}
        for _ in range(SLOTS):
            response = stack.enter_context(http.stream("POST", PATH, json=body, headers=headers))
            assert response.status_code == 200
        yield
    until(lambda: admission(shim)["in_flight"] == 0, "the slots are free again")


def test_more_than_it_can_do(shim: ShimProcess, until: Until) -> None:
    """Nobody gets anything but an answer or a 429 that says when to come back, and who obeys is let in."""
    before = sum(admission(shim)["decisions"].values())

    async def main() -> tuple[list[Sent], list[Sent]]:
        async with PlainHttp(f"{shim.url}/v1") as client:
            alone = await closed_loop(client, REQUESTS, SLOTS, 4.0, key_of("flood"))
            source = Source(4 * len(alone) / 4.0, "overload", key_of("flood"), obey=0.3)
            await source.run(client, REQUESTS, 12.0)
            return alone, source.sent

    alone, sent = asyncio.run(main())
    assert {s.status for s in sent} == {200, 429}
    assert [s.error for s in [*alone, *sent] if s.error is not None] == []
    refused = [s for s in sent if s.refused]
    assert len(refused) > len(sent) / 4
    assert all(s.told_s is not None and 1 <= s.told_s <= 60 for s in refused)
    returned = [s.returned for s in sent if s.returned is not None]
    assert len(returned) >= 3
    assert (
        sum(s.ok for s in returned) > len(returned) / 2
    )  # measured by the benchmark; here it only has to work
    until(lambda: admission(shim)["in_flight"] == 0, "all have ended")
    stats = admission(shim)
    assert stats["queued"] == 0
    assert sum(stats["decisions"].values()) - before == len(alone) + len(sent)


def test_a_key_that_floods_does_not_lock_out_another(shim: ShimProcess) -> None:
    async def main() -> tuple[list[Sent], list[Sent]]:
        async with PlainHttp(f"{shim.url}/v1") as client:
            flood = Source(150.0, "flood", key_of("flood"))
            flooding = asyncio.create_task(flood.run(client, REQUESTS, 8.0))
            await asyncio.sleep(2.0)
            quiet = await closed_loop(client, REQUESTS, 1, 5.0, key_of("quiet"))
            await flooding
            return flood.sent, quiet

    flood, quiet = asyncio.run(main())
    assert sum(s.refused for s in flood) > len(flood) / 2
    assert sum(s.ok for s in quiet) >= 0.9 * len(quiet)
    assert len(quiet) >= 3


def test_limits_of_a_key(shim: ShimProcess) -> None:
    first = post(shim, "limited")
    assert first.status_code == 200
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert int(first.headers["x-ratelimit-remaining-tokens"]) < 600
    assert post(shim, "limited").status_code == 200
    third = post(shim, "limited")
    assert third.status_code == 429
    error = third.json()["error"]
    assert (error["code"], error["param"]) == ("rate_limit_exceeded", None)
    assert 20 <= int(third.headers["retry-after"]) <= 30
    assert third.headers["x-ratelimit-remaining-requests"] == "0"
    assert admission(shim)["decisions"]["rate_requests"] == 1


def test_the_queue_knows_classes_and_ends_with_a_drain(new_shim: ShimProcess, until: Until) -> None:
    with all_slots_taken(new_shim, until), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(post, new_shim, "urgent")
        until(lambda: admission(new_shim)["queued"] == 1, "somebody waits")
        assert admission(new_shim)["queued_by_priority"] == {"high": 1, "normal": 0, "low": 0}
        httpx.post(f"{new_shim.url}/admin/drain", headers=ADMIN, json={}).raise_for_status()
        try:
            answer = waiting.result(timeout=10)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert post(new_shim, "quiet").status_code == 503
        finally:
            httpx.post(f"{new_shim.url}/admin/drain", headers=ADMIN, json={"undo": True}).raise_for_status()
    assert post(new_shim, "quiet").status_code == 200


def test_a_client_that_leaves_the_queue_leaves_nothing_behind(new_shim: ShimProcess, until: Until) -> None:
    with all_slots_taken(new_shim, until):
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                new_shim.url + PATH,
                json={"model": ENSEMBLE, "messages": [{"role": "user", "content": "hi"}]},
                headers={"authorization": f"Bearer {key_of('urgent')}"},
                timeout=1.0,
            )
        until(lambda: admission(new_shim)["queued"] == 0, "its place in the queue is free")
        assert admission(new_shim)["decisions"]["cancelled"] == 1


def test_what_was_reserved_is_what_the_engine_held(triton: TritonServer, until: Until) -> None:
    """Prompts and answers of many sizes, some of which share a prefix: one block of difference at most."""
    sizes = [(words, tokens) for words in (1, 20, 90, 300) for tokens in (1, 15, 16, 17, 100)]
    with ShimProcess(triton, log_level="debug", log_format="json") as shim, ThreadPoolExecutor(4) as pool:

        def send(size: tuple[int, int]) -> int:
            words, tokens = size
            body = {
                "model": ENSEMBLE,
                "messages": [{"role": "user", "content": " ".join(f"{n}" for n in range(words))}],
                "max_tokens": tokens,
                "ignore_eos": True,
            }
            return httpx.post(shim.url + PATH, json=body, timeout=60).status_code

        assert set(pool.map(send, sizes)) == {200}
        until(lambda: len(events(shim, "performance")) == len(sizes), "all are in the log")
        pairs = [(e["reserved_blocks"], e["blocks"]) for e in events(shim, "performance")]
        priced = [e["priced_blocks"] for e in events(shim, "admission")]
        cached = [e.get("cached_tokens", 0) for e in events(shim, "cache")]
    assert all(0 <= reserved - held <= 1 for reserved, held in pairs), pairs
    assert len({held for _, held in pairs}) >= 8
    assert any(cached)
    assert all(blocks > 0 for blocks in priced)


def events(shim: ShimProcess, kind: str) -> list[dict[str, Any]]:
    found = (json.loads(line) for line in shim.log().splitlines() if line.startswith("{"))
    return [event for event in found if event["event"] == kind]
