"""Open-loop load on admission in front of a simulated engine, in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from frontend.admission.admission import Admission
from frontend.admission.capacity import Capacity
from gpt_oss_triton.config import FrontendSettings
from gpt_oss_triton.errors import Overloaded
from tests.unit.frontend.admission.asks import ENSEMBLE, FakeRouter, FakeTarget, ask
from tests.unit.frontend.admission.simulated_engine import SimulatedEngine
from tests.unit.frontend.admission.virtual_time import now

PROMPT, OUTPUTS = 256, (16, 112)
REPORT_S = 0.2


@dataclass
class Answer:
    """One request as its client saw it, seconds."""

    key: str
    sent: float
    first_token: float | None = None
    ended: float | None = None
    told_s: float | None = None  # refused, and told to come back after so long
    returned: Answer | None = None

    @property
    def ttft_s(self) -> float:
        assert self.first_token is not None
        return self.first_token - self.sent


@dataclass
class World:
    """Attributes:
    obey: share of the refused clients that come back when they were told to; the others never do.
    """

    admission: Admission
    engine: SimulatedEngine
    rng: random.Random
    obey: float = 0.1
    answers: list[Answer] = field(default_factory=list)

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, engine: SimulatedEngine, *, seed: int = 0, obey: float = 0.1, **settings: object) -> AsyncIterator[World]:
        capacity = Capacity(now)
        router = FakeRouter([FakeTarget(capacity)])
        values = FrontendSettings(models={ENSEMBLE: ENSEMBLE}, **settings)  # type: ignore[arg-type]
        admission = Admission(router, values, now, now)  # type: ignore[arg-type]

        async def report() -> None:
            while True:
                capacity.report(engine.load())
                admission.wake()
                await asyncio.sleep(REPORT_S)

        tasks = [asyncio.create_task(engine.run()), asyncio.create_task(report())]
        yield cls(admission, engine, random.Random(seed), obey)
        for task in tasks:
            task.cancel()

    async def closed_loop(self, streams: int, seconds: float) -> float:
        """Answers per second of so many clients, each of which sends its next request when one has ended."""
        end = now() + seconds

        async def client() -> None:
            while now() < end:
                answer = await self.request("loop")
                await asyncio.sleep(answer.told_s or 0)

        begin = len(self.answers)
        await asyncio.gather(*(client() for _ in range(streams)))
        ended = [a for a in self.answers[begin:] if a.ended is not None and end - seconds / 2 <= a.ended < end]
        return len(ended) / (seconds / 2)

    async def open_loop(self, rates: dict[str, float], seconds: float) -> list[Answer]:
        """Send so many requests per second for each key; what was sent, after all has ended."""
        begin = len(self.answers)
        async with asyncio.TaskGroup() as group:
            for key, rate in rates.items():
                group.create_task(self._arrivals(group, key, rate, now() + seconds))
        return self.answers[begin:]

    async def _arrivals(self, group: asyncio.TaskGroup, key: str, rate: float, end: float) -> None:
        while True:
            await asyncio.sleep(self.rng.expovariate(rate))
            if now() >= end:
                return
            group.create_task(self._client(key, obeys=self.rng.random() < self.obey))

    async def _client(self, key: str, *, obeys: bool) -> None:
        body = self.rng.randbytes(8)
        answer = await self.request(key, body)
        if answer.told_s is not None and obeys:
            await asyncio.sleep(answer.told_s)
            answer.returned = await self.request(key, body)

    async def request(self, key: str, body: bytes | None = None) -> Answer:
        answer = Answer(key, now())
        self.answers.append(answer)
        output = self.rng.randint(*OUTPUTS)
        asked = ask(key, prompt=PROMPT, output=output, booking=body)
        try:
            placement = await self.admission.enter(asked)
        except Overloaded as error:
            answer.told_s = error.retry_after_s
            return answer
        sequence = self.engine.submit(PROMPT, output)
        placement.reservation.accepted(PROMPT, 0)
        await sequence.first_token.wait()
        answer.first_token = asked.record.first_token = now()
        await sequence.ended.wait()
        answer.ended = now()
        assert sequence.scheduled is not None
        placement.reservation.scheduled(sequence.scheduled - sequence.arrived)
        placement.reservation.release()
        self.admission.finished(asked, output)
        return answer


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
