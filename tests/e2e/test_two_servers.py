"""One shim in front of two real tritonservers: what routing gains, and what the death of one costs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
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

# Sixteen conversations that grow to a thousand tokens each: two caches together hold most of that.
REPLAY = Conversations(count=16, turns=6, system_words=20, words=150, output_tokens=16, streams=4)
REPLAYS = 4  # in one alone, round robin may be lucky
KV_CACHE_GIB = "0.0038"  # about 7,000 tokens of the tiny model, and their last windows
TALKS = 8  # few enough that none has to leave its home


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
    cached = {"round_robin": 0, "affinity": 0}
    seeds = iter(range(2 * REPLAYS))  # each with words that no cache has seen
    for policy in cached:
        with shim_over(servers, routing_policy=policy) as shim:
            for _ in range(REPLAYS):
                row = measure_replay(Endpoint(f"{shim.url}/v1", ENSEMBLE), replace(REPLAY, seed=next(seeds)))
                assert (row["ok"], row["failed"]) == (REPLAY.count * REPLAY.turns, 0), row
                cached[policy] += int(row["cached_tokens"])
    assert cached["affinity"] >= 1.5 * cached["round_robin"], cached


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

    def follow(self, question: str, tokens: int) -> list[dict[str, Any]]:
        """The events of a streamed answer, which is not part of the conversation."""
        body = {**self._body(tokens), "stream": True, "ignore_eos": True}
        body["messages"] = [*self.messages, {"role": "user", "content": question}]
        with httpx.stream("POST", f"{self.shim.url}/v1/chat/completions", json=body, timeout=60) as answer:
            text = answer.read().decode()
            assert answer.status_code == 200, text
        return [json.loads(line[6:]) for line in text.split("\n\n") if line.startswith("data: {")]

    def _body(self, max_tokens: int) -> dict[str, Any]:
        return {"model": ENSEMBLE, "messages": self.messages, "max_tokens": max_tokens, "temperature": 0}


def error_of(events: list[dict[str, Any]]) -> str | None:
    """The code of the error that ended an answer."""
    return events[-1]["error"]["code"] if "error" in events[-1] else None


def test_one_of_two_servers_is_killed_under_load(servers: dict[str, TritonServer], until: Until) -> None:
    clients = {name: DirectClient(server.grpc_url) for name, server in servers.items()}

    def where(talk: Talk, question: str) -> str:
        """Which server has computed the prompt of a turn."""
        before = {name: client.load().prompt_tokens for name, client in clients.items()}
        talk.ask(question)
        (name,) = (name for name, client in clients.items() if client.load().prompt_tokens != before[name])
        return name

    with shim_over(servers) as shim:
        words = "some words that make a prompt long enough to be worth a cache " * 5
        talks = [Talk(shim, [{"role": "system", "content": f"{n} {words}"}]) for n in range(TALKS)]
        homes = [where(talk, "One?") for talk in talks]
        assert set(homes) == {"one", "two"}, "new conversations are spread"
        assert [where(talk, "Two?") for talk in talks] == homes

        with ThreadPoolExecutor(2 * TALKS) as pool:
            running = [pool.submit(talk.follow, "Tell me.", 200) for talk in talks]
            until(lambda: all(client.load().running for client in clients.values()), "load on both")
            os.kill(servers["two"].pid or 0, signal.SIGKILL)
            late = [pool.submit(talk.follow, "And?", 10) for talk in talks]  # the shim has yet to find out
        assert {error_of(request.result()) for request in late} == {None}, "none of them had begun there"
        lost = [error_of(request.result()) is not None for request in running]
        assert not any(home == "one" for home, is_lost in zip(homes, lost, strict=True) if is_lost)
        assert {error_of(request.result()) for request in running} <= {None, "engine_unavailable"}

        assert shim.ready(), "the model is still served"
        client_of_two = clients.pop("two")
        for talk, home in zip(talks, homes, strict=True):
            cached = talk.ask("Three?")
            assert cached > 100 or home == "two", "the other server's conversations find what they had"
        servers["two"].terminate()  # what is left of it
        servers["two"].start()
        servers["two"].wait_ready(READY_S)
        clients["two"] = client_of_two
        until(lambda: _ready_targets(shim) == 2, "both to be used again")
        assert {where(talk, "Four?") for talk in talks} == {"one"}, "all are at home there"
        strangers = [
            Talk(shim, [{"role": "system", "content": f"{n} stranger {words}"}]) for n in range(TALKS)
        ]
        assert "two" in {where(talk, "One?") for talk in strangers}


def _ready_targets(shim: ShimProcess) -> int:
    stats = httpx.get(f"{shim.url}/stats").json()
    return sum(engine["ready"] for engine in stats["engines"])
