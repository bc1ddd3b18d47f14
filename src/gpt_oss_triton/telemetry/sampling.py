"""Which traces are kept. Decided at a request's end, when it is known how it went.

The share is taken of the trace id's lower half, as OpenTelemetry's own ratio sampler does it: every shim
decides alike for one trace, and a smaller share keeps a subset of what a larger one keeps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

from gpt_oss_triton.config import FrontendSettings
from gpt_oss_triton.telemetry.record import RequestRecord
from gpt_oss_triton.telemetry.trace_context import TraceContext

Kind = Literal["error", "slow", "rest"]

_HALF = 1 << 64
_OURS = 500  # the least status that is the server's own fault


@dataclass(frozen=True, slots=True)
class Sampler:
    """The share (0..1) that is kept of each kind of request.

    A refusal for want of capacity (429) belongs to the rest, or overload would crowd out every other trace.
    So does what was refused before a model was found for it (no key, no such path, not JSON): whoever can
    reach the port can send any number of those."""

    errors: float
    slow: float
    rest: float
    slow_s: float

    @classmethod
    def of(cls, settings: FrontendSettings) -> Self:
        return cls(
            settings.trace_errors, settings.trace_slow, settings.trace_rest, slow_s=settings.trace_slow_s
        )

    def kind(self, record: RequestRecord, e2e_s: float) -> Kind:
        """What a request that has ended is to the sampler."""
        if record.outcome == "error" and (record.model is not None or record.status >= _OURS):
            return "error"
        return "slow" if e2e_s > self.slow_s else "rest"

    def keeps(self, trace: TraceContext, kind: Kind) -> bool:
        share = {"error": self.errors, "slow": self.slow, "rest": self.rest}[kind]
        return _below(trace, share)

    def surely_keeps(self, trace: TraceContext) -> bool:
        """Whether the trace is kept however its request ends."""
        return _below(trace, min(self.errors, self.slow, self.rest))


def _below(trace: TraceContext, share: float) -> bool:
    return trace.trace_id % _HALF < share * _HALF
