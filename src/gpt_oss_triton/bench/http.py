"""Any OpenAI-compatible endpoint, streamed: ours, or a peer's."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import msgspec
import uvloop

from gpt_oss_triton.bench.plain_http import PlainHttp
from gpt_oss_triton.bench.rows import Row
from gpt_oss_triton.bench.workload import Answer, Workload, figures

_TIMEOUT_S = 600  # without an event


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`completions` also asks /v1/completions, which is what peers stream random weights' text on."""

    url: str  # ends in /v1
    model: str
    key: str | None = None
    completions: bool = False


def measure_http(endpoint: Endpoint, workload: Workload, streams: int, round_number: int = 0) -> Row:
    """One row of figures for `streams` concurrent callers."""
    return uvloop.run(_measure(endpoint, workload, streams, round_number))


async def _measure(endpoint: Endpoint, workload: Workload, streams: int, round_number: int) -> Row:
    prompts = iter(workload.prompts(streams, round_number))
    answers: list[Answer] = []
    async with PlainHttp(endpoint.url) as client:

        async def caller() -> None:
            for prompt in prompts:
                answer = Answer()
                answers.append(answer)
                await ask(client, endpoint, prompt, workload.output_tokens, answer)

        began = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(streams)))
        return figures(streams, answers, time.perf_counter() - began)


async def ask(client: PlainHttp, endpoint: Endpoint, prompt: str, output_tokens: int, answer: Answer) -> None:
    """Fills `answer` while it comes."""
    body: dict[str, object] = {
        "model": endpoint.model,
        "max_tokens": output_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        "ignore_eos": True,
    }
    if endpoint.completions:
        path, body["prompt"] = "/completions", prompt
    else:
        path, body["messages"] = "/chat/completions", [{"role": "user", "content": prompt}]
    answer.sent = time.perf_counter()
    try:
        async with asyncio.timeout(_TIMEOUT_S) as limit:
            reply = await client.post(path, msgspec.json.encode(body), endpoint.key)
            if reply.status != 200:
                refusal = b"".join([data async for data in reply])
                answer.error = f"{reply.status} {refusal[:200]!r}"
                return
            async for event in reply.events():
                limit.reschedule(asyncio.get_running_loop().time() + _TIMEOUT_S)
                if event.startswith(b"data: {"):
                    _take(answer, msgspec.json.decode(event[6:]), time.perf_counter() - answer.sent)
    except (OSError, EOFError, TimeoutError) as error:
        answer.error = repr(error)


def _take(answer: Answer, chunk: dict[str, object], now: float) -> None:
    if "error" in chunk:
        answer.error = str(chunk["error"])
    usage = chunk.get("usage")
    if isinstance(usage, dict):
        answer.tokens = int(usage["completion_tokens"])
    choices = chunk.get("choices")
    for choice in choices if isinstance(choices, list) else []:
        delta = choice.get("delta") or choice
        if any(delta.get(name) for name in ("content", "reasoning", "reasoning_content", "text")):
            answer.arrivals.append(now)
