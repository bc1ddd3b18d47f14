"""Requests in open loop on admission in front of a simulated engine, in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from frontend.admission.admission import Admission
from frontend.admission.capacity import Capacity
from gpt_oss_triton.config import FrontendSettings, Priority
from gpt_oss_triton.errors import Overloaded
from tests.unit.frontend.admission.asks import ENSEMBLE, FakeRouter, FakeTarget, ask
from tests.unit.frontend.admission.simulated_engine import SimulatedEngine
from tests.unit.frontend.admission.virtual_time import now

PROMPT = 256
REPORT_S = 0.2


@dataclass
class Answer:
    """One request as its client saw it, in seconds.

    Attributes:
        told_s: it was refused, and should come back after so long.
        returned: the same request once more, when it had obeyed.
    """

    key: str
    sent: float
    first_token: float | None = None
    ended: float | None = None
    told_s: float | None = None
    returned: Answer | None = None

    @property
    def refused(self) -> bool:
        return self.told_s is not None


@dataclass
class Source:
    """One caller: so many requests per second, of which those refused come back with probability `obey`."""

    key: str
    rate: float
    obey: float = 0.0
    priority: Priority = "normal"


@dataclass
class World:
    """Attributes:
    outputs: shortest and longest answer, tokens.
    """

    admission: Admission
    capacity: Capacity
    engine: SimulatedEngine
    outputs: tuple[int, int]
    answers: list[Answer] = field(default_factory=list)

    @classmethod
    @contextlib.asynccontextmanager
    async def running(
        cls, engine: SimulatedEngine, outputs: tuple[int, int] = (16, 112)
    ) -> AsyncIterator[World]:
        capacity = Capacity(now)
        router = FakeRouter([FakeTarget(capacity)])
        settings = FrontendSettings(models={ENSEMBLE: ENSEMBLE})
        admission = Admission(router, settings, now, now)  # type: ignore[arg-type]

        async def report() -> None:
            while True:
                capacity.report(engine.load())
                admission.wake()
                await asyncio.sleep(REPORT_S)

        tasks = [asyncio.create_task(engine.run()), asyncio.create_task(report())]
        yield cls(admission, capacity, engine, outputs)
        for task in tasks:
            task.cancel()

    async def open_loop(self, sources: list[Source], seconds: float) -> list[Answer]:
        """What all of them sent in that time, after all has ended."""
        begin = len(self.answers)
        async with asyncio.TaskGroup() as group:
            for source in sources:
                group.create_task(self._arrivals(group, source, now() + seconds))
        return self.answers[begin:]

    async def _arrivals(self, group: asyncio.TaskGroup, source: Source, end: float) -> None:
        rng = random.Random(source.key)
        due = now()
        while (due := due + rng.expovariate(source.rate)) < end:
            await asyncio.sleep(due - now())
            obeys = rng.random() < source.obey
            group.create_task(self._client(source, rng.randbytes(8), rng.randint(*self.outputs), obeys=obeys))

    async def _client(self, source: Source, body: bytes, output: int, *, obeys: bool) -> None:
        answer = await self._request(source, body, output)
        if answer.told_s is not None and obeys:
            await asyncio.sleep(answer.told_s)
            answer.returned = await self._request(source, body, output)

    async def _request(self, source: Source, body: bytes, output: int) -> Answer:
        answer = Answer(source.key, now())
        self.answers.append(answer)
        asked = ask(source.key, priority=source.priority, prompt=PROMPT, output=output, booking=body)
        try:
            placement = await self.admission.enter(asked)
        except Overloaded as error:
            answer.told_s = error.retry_after_s
            assert answer.sent == now(), "a refusal took its time"
            return answer
        sequence = self.engine.submit(PROMPT, output)
        placement.reservation.accepted(PROMPT, 0)
        await sequence.first_token.wait()
        answer.first_token = asked.record.first_token = now()
        await sequence.ended.wait()
        answer.ended = now()
        placement.reservation.release()
        asked.record.counts.came(output, None)
        self.admission.finished(asked)
        return answer


@dataclass
class Window:
    """The part of what was sent that counts: from `begin` to `end`."""

    answers: list[Answer]
    begin: float
    end: float

    def only(self, which: Callable[[Answer], bool]) -> Window:
        return Window([a for a in self.answers if which(a)], self.begin, self.end)

    @property
    def sent(self) -> list[Answer]:
        return [a for a in self.answers if self.begin <= a.sent < self.end]

    @property
    def goodput(self) -> float:
        """Answers per second that ended in the window."""
        ended = [a for a in self.answers if a.ended is not None and self.begin <= a.ended < self.end]
        return len(ended) / (self.end - self.begin)

    @property
    def ttft_p95_s(self) -> float:
        waits = sorted(a.first_token - a.sent for a in self.sent if a.first_token is not None)
        return waits[int(0.95 * len(waits))]

    @property
    def returned(self) -> list[Answer]:
        """Those who obeyed, and were back before the load ended."""
        returned = [a.returned for a in self.sent if a.returned is not None]
        return [a for a in returned if a.sent < self.end]
