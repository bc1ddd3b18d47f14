"""Which traces are kept."""

from __future__ import annotations

import random

import pytest

from gpt_oss_triton.config import FrontendSettings
from gpt_oss_triton.telemetry.sampling import Sampler
from gpt_oss_triton.telemetry.trace_context import TraceContext
from tests.unit.telemetry.records import answered, refused

SAMPLER = Sampler.of(FrontendSettings())


def traces(count: int) -> list[TraceContext]:
    dice = random.Random(0)
    return [TraceContext(dice.getrandbits(128) or 1, 1) for _ in range(count)]


def test_the_defaults_are_100_100_3() -> None:
    assert (SAMPLER.errors, SAMPLER.slow, SAMPLER.rest, SAMPLER.slow_s) == (1.0, 1.0, 0.03, 10.0)


@pytest.mark.parametrize(
    ("record", "e2e_s", "kind"),
    [
        (answered(), 2.0, "rest"),
        (answered(), 10.0, "rest"),
        (answered(), 10.1, "slow"),
        (answered(status=400, error="invalid_value"), 0.1, "error"),
        (answered(error="engine_unavailable"), 20.0, "error"),  # after the headers
        (answered(status=0), 0.1, "error"),
        (refused(), 0.1, "rest"),
        (answered(error="cancelled"), 0.1, "rest"),
    ],
)
def test_kinds(record, e2e_s: float, kind: str) -> None:
    assert SAMPLER.kind(record, e2e_s) == kind


def test_errors_and_slow_ones_are_all_kept() -> None:
    assert all(SAMPLER.keeps(trace, "error") and SAMPLER.keeps(trace, "slow") for trace in traces(1000))
    assert SAMPLER.keeps(TraceContext(2**128 - 1, 1), "error")


@pytest.mark.parametrize("share", [0.0, 0.03, 0.5, 1.0])
def test_the_rest_is_kept_to_its_share(share: float) -> None:
    sampler = Sampler(1.0, 1.0, share, 10.0)
    kept = sum(sampler.keeps(trace, "rest") for trace in traces(20_000))
    assert kept / 20_000 == pytest.approx(share, abs=0.005)


def test_every_shim_decides_alike_and_a_smaller_share_is_a_subset() -> None:
    small, large = Sampler(1, 1, 0.03, 10), Sampler(1, 1, 0.3, 10)
    for trace in traces(2000):
        again = TraceContext(trace.trace_id, 99, parent_id=7)
        assert small.keeps(trace, "rest") == small.keeps(again, "rest")
        assert large.keeps(trace, "rest") or not small.keeps(trace, "rest")


def test_surely_kept_is_what_every_kind_keeps() -> None:
    sampler = Sampler(errors=0.1, slow=1.0, rest=0.5, slow_s=10)
    sure = [trace for trace in traces(2000) if sampler.surely_keeps(trace)]
    assert 100 < len(sure) < 300
    assert all(sampler.keeps(trace, kind) for trace in sure for kind in ("error", "slow", "rest"))


def test_the_library_decides_alike() -> None:
    """So that a caller's ratio sampler and ours keep the same traces."""
    from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

    theirs = TraceIdRatioBased(0.03)
    for trace in traces(2000):
        decision = theirs.should_sample(None, trace.trace_id, "x").decision
        assert (decision is Decision.RECORD_AND_SAMPLE) == SAMPLER.keeps(trace, "rest")
