"""Conversations over several turns, each of which sends all that was said before: how much of it was cached."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass

import httpx

from gpt_oss_triton.bench.http import Endpoint
from gpt_oss_triton.bench.rows import Row
from gpt_oss_triton.bench.workload import WORDS


@dataclass(frozen=True, slots=True)
class Conversations:
    """Every one takes its first turn, then every one its second, each time in another order.

    Attributes:
        system_words: of the instructions, which all conversations have in common.
        words: of each question.
        streams: conversations that wait for an answer at the same time.
    """

    count: int = 16
    turns: int = 5
    system_words: int = 50
    words: int = 100
    output_tokens: int = 32
    streams: int = 4
    seed: int = 0

    def talks(self) -> list[_Talk]:
        rng = random.Random(self.seed)

        def text(words: int) -> str:
            return " ".join(rng.choices(WORDS, k=words))

        instructions = {"role": "system", "content": text(self.system_words)}
        return [
            _Talk([instructions], [text(self.words) for _ in range(self.turns)]) for _ in range(self.count)
        ]


@dataclass(slots=True)
class _Talk:
    messages: list[dict[str, str]]
    questions: list[str]  # to come, the last one first


@dataclass(slots=True)
class _Sums:
    ok: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    first_error: str | None = None


def measure_replay(endpoint: Endpoint, conversations: Conversations) -> Row:
    """One row of figures."""
    return asyncio.run(_measure(endpoint, conversations))


async def _measure(endpoint: Endpoint, conversations: Conversations) -> Row:
    sums = _Sums()
    rng = random.Random(conversations.seed)
    talks = conversations.talks()
    headers = {"authorization": f"Bearer {endpoint.key}"} if endpoint.key else {}
    began = time.perf_counter()
    async with httpx.AsyncClient(timeout=600, headers=headers, trust_env=False) as client:

        async def stream(order: list[_Talk]) -> None:
            while order:
                await _ask(client, endpoint, order.pop(), conversations.output_tokens, sums)

        for _ in range(conversations.turns):  # everybody goes on once before anybody goes on twice
            order = rng.sample(talks, len(talks))
            await asyncio.gather(*(stream(order) for _ in range(conversations.streams)))
    row: Row = {
        "ok": sums.ok,
        "failed": sums.failed,
        "prompt_tokens": sums.prompt_tokens,
        "cached_tokens": sums.cached_tokens,
        "cached_share": round(sums.cached_tokens / max(1, sums.prompt_tokens), 3),
        "seconds": round(time.perf_counter() - began, 2),
    }
    return {**row, "first_error": sums.first_error} if sums.first_error else row


async def _ask(
    client: httpx.AsyncClient, endpoint: Endpoint, talk: _Talk, output_tokens: int, sums: _Sums
) -> None:
    """One turn."""
    talk.messages.append({"role": "user", "content": talk.questions.pop()})
    body = {
        "model": endpoint.model,
        "messages": talk.messages,
        "max_tokens": output_tokens,
        "temperature": 0,
    }
    answer = await client.post(f"{endpoint.url}/chat/completions", json=body)
    if answer.status_code != 200:
        sums.failed += 1
        sums.first_error = sums.first_error or f"{answer.status_code} {answer.text[:200]}"
        return
    record = answer.json()
    usage = record["usage"]
    sums.ok += 1
    sums.prompt_tokens += usage["prompt_tokens"]
    sums.cached_tokens += usage["prompt_tokens_details"]["cached_tokens"]
    talk.messages.append({"role": "assistant", "content": record["choices"][0]["message"]["content"]})
