"""What admission reserves for a request is what the engine fills: within one KV block, over a mixed replay.

Two figures are compared with what a sequence held at its end. The *reservation* is what counts while the request
runs: made from the engine's own count of the prompt, it has to be exact. The *price* is what the request was let in
with, predicted from the bytes of its prompt: its error is printed, and only has to be sane.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

import httpx
import pytest

from gpt_oss_triton.bench.workload import WORDS
from gpt_oss_triton.launch.triton_server import TritonServer
from tests.e2e.shim_process import ShimProcess
from tests.e2e.triton_direct_client import ENSEMBLE

Until = Callable[[Callable[[], bool], str], None]
Message = dict[str, str]

TALKS = 40
AT_ONCE = 6
OUTPUTS = (1, 2, 15, 16, 17, 40, 90)  # around the borders of blocks of 16
# What each kind of conversation says: words of each question, how many of them, and whether its instructions are
# those of all others of its kind.
KINDS = {"short": (5, 1, False), "long": (900, 1, False), "shared": (20, 1, True), "turns": (60, 4, True)}


@dataclass(frozen=True)
class Use:
    """KV blocks of one request: at its price, as reserved, and as they were."""

    priced: int
    reserved: int
    held: int
    prompt_tokens: int
    cached_tokens: int


@pytest.fixture(scope="module")
def shim(triton: TritonServer) -> Iterator[ShimProcess]:
    with ShimProcess(triton, log_level="debug") as process:
        yield process


class Replay:
    """Conversations of every kind, `AT_ONCE` at the same time. All of them run up to their limit."""

    def __init__(self, seed: int) -> None:
        self.requests = 0
        self._dice = random.Random(seed)
        self._common = {"role": "system", "content": self._text(150)}

    async def run(self, http: httpx.AsyncClient) -> None:
        kinds = list(KINDS) * (TALKS // len(KINDS))
        self._dice.shuffle(kinds)
        waiting = iter(enumerate(kinds))

        async def talk_after_talk() -> None:
            for number, kind in waiting:
                await self._talk(http, number, *KINDS[kind])

        await asyncio.gather(*(talk_after_talk() for _ in range(AT_ONCE)))

    async def _talk(self, http: httpx.AsyncClient, number: int, words: int, turns: int, common: bool) -> None:
        messages = [self._common] if common else []
        session = self._dice.choice(({"x-session-id": f"talk-{number}"}, {}))
        for _ in range(turns):
            messages.append({"role": "user", "content": self._text(words)})
            messages.append({"role": "assistant", "content": await self._answer(http, messages, session)})

    async def _answer(self, http: httpx.AsyncClient, messages: list[Message], headers: dict[str, str]) -> str:
        self.requests += 1
        body = {
            "model": ENSEMBLE,
            "messages": messages,
            "max_tokens": self._dice.choice(OUTPUTS),
            "temperature": self._dice.choice((0, 1)),
            "ignore_eos": True,
        }
        answer = await http.post("/v1/chat/completions", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        content: str = answer.json()["choices"][0]["message"]["content"]
        return content

    def _text(self, words: int) -> str:
        return " ".join(self._dice.choices(WORDS, k=words))


def uses(shim: ShimProcess) -> list[Use]:
    """Of all requests that have ended, as the log tells."""
    of_request: dict[str, dict[str, Any]] = {}
    for line in shim.log().splitlines():
        fields = json.loads(line)
        if fields["event"] in ("admission", "cache", "performance"):
            of_request.setdefault(fields["request_id"], {}).update(fields)
    return [
        Use(
            known["priced_blocks"], known["reserved_blocks"], known["blocks"],
            known["prompt_tokens"], known["cached_tokens"],
        )
        for known in of_request.values()
        if "blocks" in known
    ]  # fmt: skip


@pytest.mark.slow
def test_every_reservation_is_within_one_block_of_what_was_held(shim: ShimProcess, until: Until) -> None:
    replay = Replay(seed=5)

    async def run() -> None:
        async with httpx.AsyncClient(base_url=shim.url, timeout=120) as http:
            await replay.run(http)

    asyncio.run(run())
    until(lambda: len(uses(shim)) == replay.requests, "the log tells of every request")

    found = uses(shim)
    assert [use for use in found if abs(use.reserved - use.held) > 1] == []
    # It was a mixed replay: short and long ones, with and without a part in the cache.
    assert min(use.held for use in found) < 16 < 60 < max(use.held for use in found)
    assert min(use.cached_tokens for use in found) < 100 < 250 < max(use.cached_tokens for use in found)
    (engine,) = httpx.get(f"{shim.url}/stats").json()["engines"]
    assert engine["blocks_reserved"] == 0

    off = sorted(use.priced - use.held for use in found)
    share = sorted(abs(use.priced - use.held) / use.held for use in found)
    print(  # noqa: T201
        f"\n{len(found)} requests of {min(u.prompt_tokens for u in found)} to "
        f"{max(u.prompt_tokens for u in found)} prompt tokens; reserved - held: "
        f"{sorted({u.reserved - u.held for u in found})} blocks; priced - held: "
        f"{off[0]} to {off[-1]} blocks, median {median(off):g}, p5 … p95 {quantiles(off, n=20)[0]:g} … "
        f"{quantiles(off, n=20)[-1]:g}; of what was held {median(share):.0%} in the median, {max(share):.0%} at most"
    )
    assert all(use.priced > 0 for use in found)
    assert median(share) < 0.5
