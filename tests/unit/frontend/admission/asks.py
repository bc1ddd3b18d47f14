"""Requests and targets for tests of admission."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from frontend.admission.ask import Ask, Estimate
from frontend.admission.capacity import Capacity
from frontend.caller import Caller, KeyLimits
from gpt_oss_triton.config import Priority
from gpt_oss_triton.errors import EngineUnavailable
from gpt_oss_triton.telemetry.record import RequestRecord
from gpt_oss_triton.telemetry.trace_context import TraceContext
from gpt_oss_triton.wire import Load

ENSEMBLE = "gpt-oss-20b"
_numbers = itertools.count()


def ask(
    key: str = "key",
    *,
    priority: Priority = "normal",
    prompt: int = 200,
    output: int = 56,
    booking: bytes | None = None,
    deadline: float = 1e9,
    limits: KeyLimits = KeyLimits(),
    ensemble: str = ENSEMBLE,
) -> Ask:
    return Ask(
        ensemble=ensemble,
        caller=Caller(key, priority, limits),
        priority=priority,
        estimate=Estimate(prompt, output),
        prefix=[],
        session=None,
        booking=booking or str(next(_numbers)).encode(),
        deadline=deadline,
        record=RequestRecord("id", TraceContext.new(), "POST", "/v1/chat/completions"),
    )


@dataclass(frozen=True)
class Choice:
    target: Any
    reason: str = "only"


@dataclass(eq=False)
class FakeTarget:
    capacity: Capacity
    name: str = "target"
    load: Load | None = None
    problem: str | None = None


@dataclass
class FakeRouter:
    """The first target that has room."""

    targets: list[FakeTarget] = field(default_factory=list)
    down: bool = False
    placed_asks: list[Ask] = field(default_factory=list)

    def choose(self, ask: Ask) -> Choice | None:
        if self.down:
            raise EngineUnavailable("no engine", retry_after_s=5.0)
        fitting = [t for t in self.targets if t.capacity.fits(ask.estimate) and t.name not in ask.excluded]
        return Choice(fitting[0]) if fitting else None

    def placed(self, ask: Ask, choice: Choice) -> None:
        self.placed_asks.append(ask)


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


Now = Callable[[], float]
