"""Requests, and targets without engines, for tests of admission."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import msgspec

from frontend.admission.ask import Ask, Estimate
from frontend.admission.capacity import Capacity
from frontend.caller import Caller, KeyLimits
from gpt_oss_triton.config import Priority
from gpt_oss_triton.errors import EngineUnavailable
from gpt_oss_triton.telemetry.record import RequestRecord
from gpt_oss_triton.telemetry.trace_context import TraceContext
from gpt_oss_triton.wire import Load
from tests.unit.frontend.fake_triton import ENSEMBLE, LOAD

NO_LIMITS = KeyLimits()
_numbers = itertools.count()


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def ask(
    key: str = "key",
    *,
    priority: Priority = "normal",
    prompt: int = 200,
    output: int = 56,
    booking: bytes | None = None,
    deadline: float = 1e9,
    limits: KeyLimits = NO_LIMITS,
) -> Ask:
    return Ask(
        ensemble=ENSEMBLE,
        caller=Caller(key, priority, limits),
        priority=priority,
        estimate=Estimate(prompt, output),
        prefix=[],
        session=None,
        booking=booking or str(next(_numbers)).encode(),
        deadline=deadline,
        record=RequestRecord("id", TraceContext.new(), "POST", "/v1/chat/completions"),
    )


def load(**values: Any) -> Load:
    """A report; what is not given is idle and roomy."""
    roomy = {"blocks_total": 10_000, "max_context": 131_072, "max_sequences": 64, "max_step_tokens": 512}
    return msgspec.structs.replace(LOAD, **{**roomy, **values})


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
    """Takes the first target that has room."""

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
