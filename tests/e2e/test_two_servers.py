"""One shim in front of two real tritonservers: what routing gains, and what the death of one costs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from gpt_oss_triton.bench.http import Endpoint
from gpt_oss_triton.bench.replay import Conversations, measure_replay
from gpt_oss_triton.launch.triton_server import TritonServer, TritonServerSettings
from tests.e2e.shim_process import ShimProcess
from tests.e2e.triton_direct_client import ENSEMBLE, READY_S, REPOSITORY, DirectClient

pytestmark = pytest.mark.slow

Until = Callable[[Callable[[], bool], str], None]

# Sixteen conversations of about 700 tokens: what one cache holds is enough for half of them, not for all.
REPLAY = Conversations(count=16, turns=5, words=100, output_tokens=16, streams=4)
KV_CACHE_GIB = "0.0065"  # 6,800 tokens of the tiny model
TALKS = 12


@pytest.fixture(scope="module")
def servers(
    engine_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, TritonServer]]:
    with contextlib.ExitStack() as stack:
        running = {}
        for name in ("one", "two"):
            settings = TritonServerSettings(
                model_repository=REPOSITORY,
                models=[ENSEMBLE],
                log_file=tmp_path_factory.mktemp(name) / "tritonserver.log",
                environment={**engine_environment, "GPT_OSS_KV_CACHE_GIB": KV_CACHE_GIB},
            )
            running[name] = stack.enter_context(TritonServer(settings))
            running[name].start()
        for server in running.values():
            server.wait_ready(READY_S)
        yield running


@contextlib.contextmanager
def shim_over(servers: dict[str, TritonServer], **settings: Any) -> Iterator[ShimProcess]:
    targets = [{"name": name, "url": server.grpc_url} for name, server in servers.items()]
    with ShimProcess(servers["one"], targets=targets, recover=False, **settings) as shim:
        yield shim


def test_prefix_affinity_finds_more_in_the_caches_than_round_robin(servers: dict[str, TritonServer]) -> None:
    cached: dict[str, int] = {}
    for seed, policy in enumerate(("round_robin", "affinity")):  # each with words that no cache has seen
        with shim_over(servers, routing_policy=policy) as shim:
            conversations = Conversations(**{**_fields(REPLAY), "seed": seed})
            row = measure_replay(Endpoint(f"{shim.url}/v1", ENSEMBLE), conversations)
        assert row["failed"] == 0, row
        assert row["ok"] == REPLAY.count * REPLAY.turns
        cached[policy] = int(row["cached_tokens"])
    assert cached["affinity"] >= 1.5 * cached["round_robin"], cached


def _fields(conversations: Conversations) -> dict[str, Any]:
    return {name: getattr(conversations, name) for name in conversations.__slots__}


@dataclass
class Talk:
    """A conversation, as its client sees it."""

    shim: ShimProcess
    messages: list[dict[str, str]]
    usage: dict[str, Any] = field(default_factory=dict)

    def ask(self, question: str) -> int:
        """One turn, unstreamed; its cached tokens."""
        self.messages.append({"role": "user", "content": question})
        answer = httpx.post(f"{self.shim.url}/v1/chat/completions", json=self._body(16), timeout=60)
        assert answer.status_code == 200, answer.text
        self.messages.append(
            {"role": "assistant", "content": answer.json()["choices"][0]["message"]["content"]}
        )
        return int(answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"])

    def follow(self, question: str, tokens: int) -> tuple[int, list[dict[str, Any]]]:
        """The status and the events of a streamed answer, which is not part of the conversation."""
        self.messages.append({"role": "user", "content": question})
        body = {**self._body(tokens), "stream": True, "ignore_eos": True}
        self.messages.pop()
        with httpx.stream("POST", f"{self.shim.url}/v1/chat/completions", json=body, timeout=60) as answer:
            lines = answer.read().decode().split("\n\n")
            return answer.status_code, [json.loads(line[6:]) for line in lines if line.startswith("data: {")]

    def _body(self, max_tokens: int) -> dict[str, Any]:
        return {"model": ENSEMBLE, "messages": self.messages, "max_tokens": max_tokens, "temperature": 0}


def test_one_of_two_servers_is_killed_under_load(
    servers: dict[str, TritonServer], until: Until, tmp_path: Path
) -> None:
    clients = {name: DirectClient(server.grpc_url) for name, server in servers.items()}

    def where(request: Callable[[], object]) -> str:
        """Which server has computed the prompt of a request."""
        before = {name: client.load().prompt_tokens for name, client in clients.items()}
        request()
        (name,) = (name for name, client in clients.items() if client.load().prompt_tokens != before[name])
        return name

    with shim_over(servers) as shim:
        words = "some words that make a prompt long enough to be worth a cache " * 5
        talks = [Talk(shim, [{"role": "system", "content": f"{n} {words}"}]) for n in range(TALKS)]
        homes = [where(lambda talk=talk: talk.ask("One?")) for talk in talks]  # type: ignore[misc]
        assert set(homes) == {"one", "two"}, "new conversations are spread"
        assert [where(lambda talk=talk: talk.ask("Two?")) for talk in talks] == homes  # type: ignore[misc]

        with ThreadPoolExecutor(3 * TALKS) as pool:
            running = [pool.submit(talk.follow, "Tell me.", 300) for talk in talks]
            until(lambda: all(client.load().running > 1 for client in clients.values()), "load on both")
            os.kill(servers["two"].pid or 0, signal.SIGKILL)
            late = [pool.submit(talk.follow, "And?", 10) for talk in talks for _ in range(2)]
        broken = 0
        for status, events in (request.result() for request in running + late):
            assert status == 200, events
            if "error" in events[-1]:
                broken += 1
                begun = [event for event in events[:-1] if event["choices"][0]["delta"].get("content", "x")]
                assert begun, "a request that had no token yet is run elsewhere"
                assert events[-1]["error"]["code"] == "engine_unavailable"
        assert broken <= homes.count("two"), "answers of the other server went on"
        assert not any("error" in request.result()[1][-1] for request in late)

        assert shim.ready(), "the model is still served"
        lost = clients.pop("two")
        for talk, home in zip(talks, homes, strict=True):
            cached = talk.ask("Three?")
            assert (cached > 100) == (home == "one"), "what the killed server had is computed anew"
        servers["two"].terminate()  # what is left of it
        servers["two"].start()
        servers["two"].wait_ready(READY_S)
        clients["two"] = lost
        until(lambda: _ready_targets(shim) == 2, "both to be used again")
        assert {where(lambda talk=talk: talk.ask("Four?")) for talk in talks} == {"one"}, (
            "all are at home there"
        )  # type: ignore[misc]
        strangers = [
            Talk(shim, [{"role": "system", "content": f"{n} stranger {words}"}]) for n in range(TALKS)
        ]
        assert "two" in {where(lambda talk=talk: talk.ask("One?")) for talk in strangers}  # type: ignore[misc]


def _ready_targets(shim: ShimProcess) -> int:
    stats = httpx.get(f"{shim.url}/stats").json()
    return sum(engine["ready"] for engine in stats["engines"])
