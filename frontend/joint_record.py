"""One request's record from those of its several runs, which must not write over each other's notes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from gpt_oss_triton.telemetry.record import RequestRecord

_SUMS = (
    "priced_tokens", "priced_blocks", "prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens",
    "preemptions", "reserved_blocks", "blocks",
)  # fmt: skip


def part_of(record: RequestRecord) -> RequestRecord:
    """A record for one run."""
    return dataclasses.replace(record, attempts=[])


def join(record: RequestRecord, parts: Sequence[RequestRecord]) -> None:
    """Sums of the runs' counts, the first and the last of their times, and whatever went wrong in one."""
    for name in _SUMS:
        setattr(record, name, sum(getattr(part, name) for part in parts))
    for name, choose in (
        ("queued", min),
        ("admitted", max),
        ("accepted", max),
        ("first_token", min),
        ("last_token", max),
    ):
        times = [getattr(part, name) for part in parts if getattr(part, name) is not None]
        setattr(record, name, choose(times, default=None))
    record.attempts = [attempt for part in parts for attempt in part.attempts]
    record.computing = any(part.computing for part in parts)
    first = parts[0]
    record.priority, record.prompt, record.finish_reason = first.priority, first.prompt, first.finish_reason
    record.session, record.session_by = first.session, first.session_by
    refused = [part.admission for part in parts if part.admission not in (None, "admitted", "cached")]
    record.admission = refused[0] if refused else first.admission
    record.response_cache = first.response_cache
    longest = max(parts, key=lambda part: part.last_token or 0.0)
    record.timings = longest.timings
