from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.admission.ask import Ask
from frontend.admission.key_limits import CallerLimits
from frontend.admission.refusal import Refusal
from frontend.admission.token_bucket import TokenBucket
from frontend.caller import KeyLimits
from gpt_oss_triton.errors import RateLimited
from gpt_oss_triton.telemetry.token_counts import TokenCounts
from tests.unit.frontend.admission.asks import Clock, ask


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limits(clock: Clock) -> CallerLimits:
    return CallerLimits(clock)


def let_in(limits: CallerLimits, asked: Ask) -> Ask:
    limits.check(asked)
    limits.charge(asked)
    return asked


def refused(limits: CallerLimits, asked: Ask) -> Refusal:
    with pytest.raises(Refusal) as caught:
        limits.check(asked)
    return caught.value


def test_a_caller_without_limits_is_never_refused(limits: CallerLimits) -> None:
    for _ in range(1000):
        let_in(limits, ask(prompt=10**6))
    assert limits.headers(ask().caller) == {}


def test_requests_per_minute(limits: CallerLimits, clock: Clock) -> None:
    two = KeyLimits(requests_per_minute=2)
    let_in(limits, ask(limits=two))
    let_in(limits, ask(limits=two))
    refusal = refused(limits, ask(limits=two))
    assert refusal.reason == "rate_requests"
    assert isinstance(refusal.error, RateLimited)
    assert refusal.error.param is None
    assert refusal.error.retry_after_s == pytest.approx(30)
    assert "2 requests per minute" in refusal.error.message
    clock.now += 29.9
    refused(limits, ask(limits=two))
    clock.now += 0.1
    let_in(limits, ask(limits=two))
    refused(limits, ask(limits=two))


def test_tokens_are_charged_as_estimated_and_settled_as_used(limits: CallerLimits, clock: Clock) -> None:
    thousand = KeyLimits(tokens_per_minute=1000)
    asked = let_in(limits, ask(prompt=500, output=400, limits=thousand))
    refusal = refused(limits, ask(prompt=100, output=100, limits=thousand))
    assert refusal.reason == "rate_tokens"
    assert refusal.error.retry_after_s == pytest.approx(6)  # 100 are missing, and 1000 come in a minute
    limits.settle(asked, TokenCounts(completion=300))
    let_in(limits, ask(prompt=600, output=100, limits=thousand))


def test_a_prompt_is_paid_for_once_however_many_answers_it_gets(limits: CallerLimits) -> None:
    asked = [ask(prompt=5000, output=200, limits=KeyLimits(tokens_per_minute=20_000)) for _ in range(8)]
    for other in asked[1:]:
        other.first, other.same_prompt = asked[0], True
    let_in(limits, asked[0])
    for other in asked[1:]:
        limits.charge(other)
    assert limits.headers(asked[0].caller)["x-ratelimit-remaining-tokens"] == str(20_000 - 5000 - 8 * 200)
    for one in asked:
        limits.settle(one, TokenCounts(prompt=5000, completion=100))
    assert limits.headers(asked[0].caller)["x-ratelimit-remaining-tokens"] == str(20_000 - 5800)


def test_an_answer_that_got_longer_than_its_reserve_is_paid_for(limits: CallerLimits) -> None:
    thousand = KeyLimits(tokens_per_minute=1000)
    limits.settle(let_in(limits, ask(prompt=100, output=100, limits=thousand)), TokenCounts(completion=2000))
    refusal = refused(limits, ask(prompt=100, output=0, limits=thousand))
    assert refusal.error.retry_after_s == pytest.approx(66)


def test_a_request_larger_than_a_minutes_tokens_waits_for_a_full_minute(
    limits: CallerLimits, clock: Clock
) -> None:
    thousand = KeyLimits(tokens_per_minute=1000)
    let_in(limits, ask(prompt=5000, limits=thousand))
    refusal = refused(limits, ask(prompt=5000, limits=thousand))
    assert refusal.error.retry_after_s is not None
    clock.now += refusal.error.retry_after_s
    let_in(limits, ask(prompt=5000, limits=thousand))


def test_requests_at_once(limits: CallerLimits) -> None:
    one = KeyLimits(concurrency=1)
    asked = let_in(limits, ask(limits=one))
    refusal = refused(limits, ask(limits=one))
    assert (refusal.reason, refusal.error.retry_after_s) == ("rate_concurrency", 1.0)
    limits.settle(asked, TokenCounts(completion=10))
    limits.settle(asked, TokenCounts(completion=10))  # settled only once
    again = let_in(limits, ask(limits=one))
    refused(limits, ask(limits=one))
    limits.settle(again, TokenCounts(completion=0))


def test_keys_do_not_share(limits: CallerLimits) -> None:
    one = KeyLimits(requests_per_minute=1)
    let_in(limits, ask("a", limits=one))
    let_in(limits, ask("b", limits=one))
    refused(limits, ask("a", limits=one))


def test_openais_headers(limits: CallerLimits, clock: Clock) -> None:
    both = KeyLimits(requests_per_minute=60, tokens_per_minute=6000)
    asked = let_in(limits, ask(prompt=500, output=100, limits=both))
    assert limits.headers(asked.caller) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1.000s",
        "x-ratelimit-limit-tokens": "6000",
        "x-ratelimit-remaining-tokens": "5400",
        "x-ratelimit-reset-tokens": "6.000s",
    }
    clock.now += 60
    assert limits.headers(asked.caller)["x-ratelimit-remaining-requests"] == "60"
    assert limits.headers(asked.caller)["x-ratelimit-reset-tokens"] == "0.000s"


def test_idle_callers_leave(limits: CallerLimits, clock: Clock) -> None:
    sixty = KeyLimits(requests_per_minute=60, tokens_per_minute=60_000)
    busy = let_in(limits, ask("busy", limits=sixty))
    for n in range(500):
        limits.settle(let_in(limits, ask(f"{n}", limits=sixty)), TokenCounts(completion=10))
    clock.now += 60
    for _ in range(300):
        let_in(limits, ask("other", prompt=1, output=0))
    assert len(limits) == 2
    assert busy.charge is not None  # it still runs
    assert len(busy.charge.use.running) == 1


def test_new_limits_of_a_key_hold_at_once(limits: CallerLimits) -> None:
    let_in(limits, ask(limits=KeyLimits(requests_per_minute=1)))
    let_in(limits, ask(limits=KeyLimits(requests_per_minute=2)))


@given(
    per_minute=st.integers(1, 10**6),
    uses=st.lists(st.tuples(st.floats(0, 100), st.integers(0, 10**6)), max_size=30),
)
def test_waiting_as_long_as_told_is_enough_and_necessary(
    per_minute: int, uses: list[tuple[float, int]]
) -> None:
    bucket, now = TokenBucket(per_minute, per_minute, 0.0), 0.0
    for pause_s, amount in uses:
        now += pause_s
        bucket.fill(now)
        wait_s = bucket.wait_s(amount)
        if wait_s > 0.01:
            now += 0.99 * wait_s
            bucket.fill(now)
            assert bucket.wait_s(amount) > 0
            wait_s -= 0.99 * wait_s
        now += wait_s
        bucket.fill(now)
        assert bucket.wait_s(amount) == pytest.approx(0, abs=1e-6)
        bucket.level -= amount
        assert bucket.level <= per_minute
