"""Targets whose engines are only reports, and the requests that are routed to them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import msgspec

from frontend.admission.ask import Ask, Estimate
from frontend.caller import Caller
from frontend.routing.breaker import Breaker
from frontend.routing.prefix_index import prefix_points
from frontend.routing.router import Choice, Router
from frontend.routing.sessions import Sessions
from frontend.routing.target import Target
from gpt_oss_triton.config import FrontendSettings
from gpt_oss_triton.telemetry.record import RequestRecord
from gpt_oss_triton.telemetry.trace_context import TraceContext
from gpt_oss_triton.wire import Load, Message, PromptRequest
from tests.unit.frontend.fake_triton import ENSEMBLE, LOAD

CALLER = Caller("tester", "normal")
# 48 KiB a token, as gpt-oss-20b has it, so that 6,000 MB are 122,000 tokens.
ROOMY = msgspec.structs.replace(
    LOAD, blocks_total=10_000, block_bytes=16 * 49_152, max_context=131_072, prefill_tokens_per_s=10_000.0
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class FakeCapacity:
    full: bool = False
    in_flight: int = 0
    limit: int = 64
    kv_fraction: float = 0.0
    reported: Load | None = None

    def fits(self, estimate: Estimate) -> bool:
        return not self.full

    def report(self, load: Load) -> None:
        self.reported = load


class FakeTarget(Target):
    """`capacity` and `watch` are what a test makes of them."""

    capacity: Any
    watch: Any

    def __init__(
        self, name: str, gpus: int = 1, ensemble: str = ENSEMBLE, clock: Clock | None = None
    ) -> None:
        watch = SimpleNamespace(ensemble=ensemble, load=ROOMY, problem=None)
        breaker = Breaker(3, 10.0, clock or time.monotonic)
        super().__init__(name, gpus, watch, breaker, FakeCapacity())  # type: ignore[arg-type]
        self.report()

    def report(self, **fields: Any) -> None:
        """A report that differs from the one before in `fields`."""
        self.watch.load = msgspec.structs.replace(self.watch.load, **fields)
        self.watch.on_report(self.watch.load)


def conversation(*texts: str, system: str = "") -> PromptRequest:
    """The user's and the assistant's texts in turn."""
    roles = ("user", "assistant")
    turns = [Message(roles[n % 2], text) for n, text in enumerate(texts)]  # type: ignore[arg-type]
    return PromptRequest([Message("system", system), *turns] if system else turns)


def ask(
    prompt: PromptRequest | None = None,
    tokens: int = 1000,
    session: str | None = None,
    ensemble: str = ENSEMBLE,
    caller: Caller = CALLER,
) -> Ask:
    prompt = prompt or conversation("hello")
    return Ask(
        ensemble=ensemble,
        caller=caller,
        priority="normal",
        estimate=Estimate(tokens, 64),
        prefix=prefix_points(prompt, caller.salt, tokens),
        session=session,
        booking=b"",
        deadline=0.0,
        record=RequestRecord("r", TraceContext.new(), "POST", "/v1/chat/completions"),
    )


def router(*targets: Target, sessions: Sessions | None = None, **settings: Any) -> Router:
    return Router(targets, FrontendSettings(**settings), sessions or Sessions(100, 180.0))


def place(made: Router, request: Ask) -> Choice:
    choice = made.choose(request)
    assert choice is not None
    made.placed(request, choice)
    return choice
