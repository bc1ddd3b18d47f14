"""One request's record from those of its several runs, which must not write over each other's notes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from gpt_oss_triton.telemetry.record import RequestRecord
from gpt_oss_triton.telemetry.token_counts import TokenCounts

_SUMS = ("priced_tokens", "priced_blocks", "preemptions", "reserved_blocks", "blocks")


def part_of(record: RequestRecord) -> RequestRecord:
    """A record for one run."""
    return dataclasses.replace(record, attempts=[], counts=TokenCounts())


def join(record: RequestRecord, parts: Sequence[RequestRecord], counts: TokenCounts) -> None:
    """Sums, the first and the last of the runs' times, and whatever went wrong in one. The request waited as long as its
    first run, with which it was let in.

    Args:
        counts: of all runs.
    """
    record.counts = counts
    for name in _SUMS:
        setattr(record, name, sum(getattr(part, name) for part in parts))
    for name, choose in (("accepted", max), ("first_token", min), ("last_token", max)):
        times = [getattr(part, name) for part in parts if getattr(part, name) is not None]
        setattr(record, name, choose(times, default=None))
    record.attempts = [attempt for part in parts for attempt in part.attempts]
    record.answers = max(1, sum(part.counts.completion > 0 for part in parts))
    spans = [
        max(part.last_token - part.first_token, 0.0)
        for part in parts
        if part.first_token is not None and part.last_token is not None
    ]
    record.decoding_s = sum(spans) if spans else None
    record.computing = any(part.computing for part in parts)
    first = parts[0]
    record.priority, record.prompt = first.priority, first.prompt
    record.queued, record.admitted = first.queued, first.admitted
    whole = all(part.finish_reason is not None for part in parts)
    record.finish_reason = first.finish_reason if whole else None
    record.session, record.session_by = first.session, first.session_by
    refused = [part.admission for part in parts if part.admission not in (None, "admitted", "cached")]
    record.admission = refused[0] if refused else first.admission
    hits = {part.response_cache for part in parts}
    record.response_cache = first.response_cache if len(hits) == 1 else "miss"
    longest = max(parts, key=lambda part: part.last_token or 0.0)
    record.timings = longest.timings
