"""The times and rates of one request, derived in one place, so that metrics, log and statistics agree.

The record's times are wall-clock times of up to three processes. A clock that is set back while a request
runs gives zero, never a negative duration.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Self

from gpt_oss_triton.telemetry.record import RequestRecord


@dataclass(frozen=True, slots=True)
class Figures:
    """Seconds, and tokens per second; None: the request did not come so far.

    Attributes:
        ttft_s: from the request's arrival to the shim's first token.
        e2e_s: from its arrival to its end.
        tpot_s: between two tokens of an answer after its first, on average.
        shim_queue_s: in the shim's queue; 0 where it was let in at once.
        engine_queue_s: in the engine's.
        output_tokens_per_s: an answer's tokens over the whole time, as its reader feels it.
    """

    ttft_s: float | None
    e2e_s: float
    tpot_s: float | None
    shim_queue_s: float | None
    engine_queue_s: float | None
    output_tokens_per_s: float | None

    @classmethod
    def of(cls, record: RequestRecord) -> Self:
        """Of a request that has ended, or of one that runs so far."""
        tokens, answers = record.counts.completion, record.answers
        e2e_s = max((record.finished or time.time()) - record.started, 0.0)
        decoding_s = record.decoding_s
        if decoding_s is None:
            decoding_s = _between(record.first_token, record.last_token)
        timings = record.timings
        return cls(
            ttft_s=_between(record.started, record.first_token),
            e2e_s=e2e_s,
            tpot_s=decoding_s / (tokens - answers) if decoding_s is not None and tokens > answers else None,
            shim_queue_s=_between(record.queued or record.admitted, record.admitted),
            engine_queue_s=_between(timings.arrived, timings.scheduled) if timings is not None else None,
            output_tokens_per_s=tokens / answers / e2e_s if tokens and e2e_s else None,
        )


def _between(begin: float | None, end: float | None) -> float | None:
    return None if begin is None or end is None else max(end - begin, 0.0)
