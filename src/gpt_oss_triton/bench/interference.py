"""What streams that run notice of a long prompt which is computed beside them."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from gpt_oss_triton.bench.engine import measure_prompt
from gpt_oss_triton.bench.http import Endpoint, ask
from gpt_oss_triton.bench.plain_http import PlainHttp
from gpt_oss_triton.bench.rows import Row, milliseconds, ratio
from gpt_oss_triton.bench.running_streams import POLL_S, RunningStreams, gaps
from gpt_oss_triton.bench.workload import Answer, Workload
from gpt_oss_triton.engine.protocol import Engine
from gpt_oss_triton.harmony.render import render_plain

ALONE_TOKENS = 128  # that each stream has before the long prompt comes
VISIBLE = 16  # tokens, of which the first that can be seen through HTTP is one


@dataclass(frozen=True, slots=True)
class Neighbours:
    """
    Attributes:
        streams: that run, with prompts of `prompt_words`.
        long_words: of the prompt that comes beside them.
        max_tokens: of a stream; enough to outlast that.
    """

    streams: int = 8
    prompt_words: int = 100
    long_words: int = 8192
    max_tokens: int = 2048
    seed: int = 0

    def prompts(self, round_number: int) -> tuple[list[str], str]:
        """Of the streams, and the long one."""
        short = Workload(self.prompt_words, rounds=1, seed=self.seed).prompts(self.streams, round_number)
        return short, Workload(self.long_words, rounds=1, seed=self.seed).prompts(1, round_number)[0]


def measure_engine_interference(engine: Engine, neighbours: Neighbours, round_number: int = 0) -> Row:
    """One row of figures for the engine alone.

    Raises:
        RuntimeError: a stream ended too early, or failed.
    """
    short, long = neighbours.prompts(round_number)
    prompt = render_plain(long)
    with RunningStreams(engine, [render_plain(text) for text in short], neighbours.max_tokens) as running:
        alone = running.wait(ALONE_TOKENS)
        began = time.perf_counter()
        ended = began + measure_prompt(engine, prompt)
        running.check()
        return _figures(neighbours, running.arrivals, alone, began, ended)


def measure_http_interference(endpoint: Endpoint, neighbours: Neighbours, round_number: int = 0) -> Row:
    """The same through HTTP, where times are those of visible text.

    Raises:
        RuntimeError: a stream ended too early, or failed.
    """
    return asyncio.run(_measure_http(endpoint, neighbours, round_number))


async def _measure_http(endpoint: Endpoint, neighbours: Neighbours, round_number: int) -> Row:
    short, long = neighbours.prompts(round_number)
    answers, last = [Answer() for _ in short], Answer()
    async with PlainHttp(endpoint.url) as client:
        streams = [
            asyncio.create_task(ask(client, endpoint, text, neighbours.max_tokens, answer))
            for text, answer in zip(short, answers, strict=True)
        ]
        try:
            while any(len(answer.arrivals) < ALONE_TOKENS for answer in answers):
                _check(streams, answers)
                await asyncio.sleep(POLL_S)
            await ask(client, endpoint, long, VISIBLE, last)
            _check(streams, answers)
            if not last.arrivals:
                raise RuntimeError(last.error or "The long prompt's answer had no text.")
        finally:
            for stream in streams:
                stream.cancel()  # closes its connection, which is all that a server is told
            await asyncio.gather(*streams, return_exceptions=True)
    arrivals = [[answer.sent + at for at in answer.arrivals] for answer in answers]
    alone = max(times[0] for times in arrivals)
    return _figures(neighbours, arrivals, alone, last.sent, last.sent + last.arrivals[0])


def _check(streams: list[asyncio.Task[None]], answers: list[Answer]) -> None:
    if any(stream.done() for stream in streams):
        errors = [answer.error for answer in answers if answer.error]
        raise RuntimeError(errors[0] if errors else "A stream ended too early; raise --max-tokens.")


def _figures(
    neighbours: Neighbours, arrivals: list[list[float]], alone: float, began: float, ended: float
) -> Row:
    """`alone`: when all streams ran; `began`, `ended`: the long prompt, from sent to its first token."""
    before = [gap for times in arrivals for gap in gaps(times, alone, began)]
    beside = [gap for times in arrivals for gap in gaps(times, began, ended)]
    p50, p95 = milliseconds(beside, 0.5), milliseconds(beside, 0.95)
    return {
        "streams": neighbours.streams,
        "long_prompt_words": neighbours.long_words,
        "long_ttft_ms": round(1e3 * (ended - began), 1),
        "alone_gap_p50_ms": milliseconds(before, 0.5),
        "alone_gap_p95_ms": milliseconds(before, 0.95),
        "beside_gaps": len(beside),
        "beside_gap_p50_ms": p50,
        "beside_gap_p95_ms": p95,
        "p95_to_p50": ratio(p95, p50),
        "p95_to_alone_p50": ratio(p95, milliseconds(before, 0.5)),
    }
