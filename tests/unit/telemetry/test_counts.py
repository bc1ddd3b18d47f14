"""Totals, and the invariant that they keep."""

from __future__ import annotations

import random

from gpt_oss_triton.telemetry.counts import Counts
from gpt_oss_triton.telemetry.record import RequestRecord
from gpt_oss_triton.wire import PromptInfo
from tests.unit.telemetry.records import answered, refused


def test_every_request_is_counted_as_one_thing() -> None:
    """accepted = ok + error + cancelled + in flight, at every moment."""
    kinds: list[RequestRecord] = [
        answered(),
        refused(),
        answered(error="internal_error"),
        answered(error="cancelled", finish_reason=None),
        answered(status=400, error="invalid_value"),
    ]
    counts, flying, dice = Counts(), 0, random.Random(0)
    for _ in range(500):
        if flying and dice.random() < 0.5:
            counts.finish(dice.choice(kinds))
            flying -= 1
        else:
            counts.begin()
            flying += 1
        requests = counts.summary()["requests"]
        assert requests["in_flight"] == flying
        assert requests["accepted"] == (
            requests["ok"] + requests["error"] + requests["cancelled"] + requests["in_flight"]
        )
    assert min(requests[outcome] for outcome in ("ok", "error", "cancelled", "rejected")) > 0


def test_cancels_are_told_apart_by_how_far_they_came() -> None:
    counts = Counts()
    for record in (
        answered(error="cancelled", accepted=None, first_token=None),
        answered(error="cancelled", first_token=None, timings=None),
        answered(error="cancelled", first_token=None, timings=None, computing=True),
        answered(error="cancelled"),
        answered(error="cancelled"),
    ):
        counts.begin()
        counts.finish(record)
    phases = counts.summary()["requests"]["cancelled_by_phase"]
    assert phases == {"admission": 1, "queue": 1, "prefill": 1, "decode": 2}


def test_caches() -> None:
    counts = Counts()
    for cache, reason in (("hit", ""), ("miss", "new"), ("miss", "expired"), ("miss", "from outer space")):
        counts.begin()
        counts.finish(answered(prompt=PromptInfo("a", "b", "v1", cache, reason)))  # type: ignore[arg-type]
    summary = counts.summary()
    assert summary["prompt_cache"] == {"hits": 1, "misses": {"new": 1, "expired": 1, "other": 1}}
    assert summary["prefix_cache"] == {"prompt_tokens": 200, "cached_tokens": 128, "hit_ratio": 0.64}


def test_nothing_yet() -> None:
    assert Counts().summary()["prefix_cache"]["hit_ratio"] == 0.0
