"""Clients that do not wait for each other: their requests come when they come, however the server does.

Some of the refused ones obey: they come back, once, after as many seconds as they were told.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field

import msgspec

from gpt_oss_triton.bench.plain_http import PlainHttp, Reply
from gpt_oss_triton.bench.workload import WORDS


@dataclass(frozen=True, slots=True)
class Requests:
    """What is asked. Answers are of any length around `output_tokens`, from a quarter of it on: if all were
    equal, they would end in step with each other."""

    model: str
    prompt_words: int = 200
    output_tokens: int = 64

    def body(self, rng: random.Random) -> bytes:
        tokens = rng.randint(self.output_tokens // 4, self.output_tokens * 7 // 4)
        prompt = " ".join(rng.choices(WORDS, k=self.prompt_words))
        return msgspec.json.encode(
            {
                "model": self.model,
                "messages": [{"role": "user", "content": prompt}],
                "max_tokens": tokens,
                "temperature": 0,
                "ignore_eos": True,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
        )


@dataclass(slots=True)
class Sent:
    """One request as its client saw it; moments are `time.perf_counter()`.

    Attributes:
        told_s: it was refused with this `Retry-After`; 0 where it had none.
        returned: the same request once more, when it had obeyed.
    """

    at: float
    status: int = 0
    first_token: float | None = None
    ended: float | None = None
    tokens: int = 0
    told_s: int | None = None
    returned: Sent | None = None
    error: str | None = None

    @property
    def ok(self) -> bool:
        return self.status == 200 and self.error is None

    @property
    def refused(self) -> bool:
        return self.status == 429


@dataclass(slots=True)
class Source:
    """Requests of one API key.

    Attributes:
        rate: requests per second, Poisson.
        obey: share of the refused ones that come back.
    """

    rate: float
    seed: str
    key: str | None = None
    obey: float = 0.0
    sent: list[Sent] = field(default_factory=list)

    async def run(self, client: PlainHttp, requests: Requests, seconds: float) -> None:
        """Send for so long; returns when all have ended."""
        rng = random.Random(self.seed)
        due, end = time.perf_counter(), time.perf_counter() + seconds
        async with asyncio.TaskGroup() as group:
            while (due := due + rng.expovariate(self.rate)) < end:
                await asyncio.sleep(due - time.perf_counter())
                obeys = rng.random() < self.obey
                group.create_task(self._client(client, requests.body(rng), end, obeys=obeys))

    async def _client(self, client: PlainHttp, body: bytes, end: float, *, obeys: bool) -> None:
        sent = await send(client, body, self.key)
        self.sent.append(sent)
        if obeys and sent.told_s and time.perf_counter() + sent.told_s < end:  # later, the load would be gone
            await asyncio.sleep(sent.told_s)
            sent.returned = await send(client, body, self.key)
            self.sent.append(sent.returned)


async def closed_loop(
    client: PlainHttp, requests: Requests, streams: int, seconds: float, key: str | None = None
) -> list[Sent]:
    """So many clients, each of which sends its next request when the last one has ended."""
    sent: list[Sent] = []
    end = time.perf_counter() + seconds

    async def stream(n: int) -> None:
        rng = random.Random(f"closed/{n}/{seconds}")
        while time.perf_counter() < end:
            sent.append(await send(client, requests.body(rng), key))
            await asyncio.sleep(sent[-1].told_s or 0)

    await asyncio.gather(*(stream(n) for n in range(streams)))
    return sent


async def send(client: PlainHttp, body: bytes, key: str | None) -> Sent:
    """One request to its end; what goes wrong is in `error`."""
    sent = Sent(time.perf_counter())
    try:
        reply = await client.post("/chat/completions", body, key)
        sent.status = reply.status
        await (_read_stream(reply, sent) if reply.status == 200 else _read_refusal(reply, sent))
    except (OSError, EOFError) as error:
        sent.error = repr(error)
    sent.ended = time.perf_counter()
    return sent


async def _read_refusal(reply: Reply, sent: Sent) -> None:
    body = b"".join([piece async for piece in reply])
    if reply.status == 429:
        sent.told_s = int(reply.headers.get("retry-after", "0"))
    else:
        sent.error = body[:200].decode(errors="replace")


async def _read_stream(reply: Reply, sent: Sent) -> None:
    """A server-sent event is looked into only when it matters: the first text, the usage, an error."""
    async for event in reply.events():
        if sent.first_token is None and _has_text(event):
            sent.first_token = time.perf_counter()
        if b'"completion_tokens"' in event:
            sent.tokens = msgspec.json.decode(event.removeprefix(b"data: "))["usage"]["completion_tokens"]
        elif event.startswith(b'data: {"error"'):
            sent.error = event[:200].decode(errors="replace")
    if sent.first_token is None:
        sent.error = sent.error or "an answer without text"


def _has_text(event: bytes) -> bool:
    data = event.removeprefix(b"data: ")
    choices = msgspec.json.decode(data).get("choices", []) if data.startswith(b"{") else []
    return any(choice["delta"].get(name) for choice in choices for name in ("content", "reasoning"))
