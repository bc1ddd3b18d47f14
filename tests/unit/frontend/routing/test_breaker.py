from __future__ import annotations

import pytest

from frontend.routing.breaker import Breaker
from gpt_oss_triton.errors import (
    Cancelled,
    DeadlineExceeded,
    EngineUnavailable,
    InternalError,
    InvalidRequest,
    NotAccepted,
    Overloaded,
    ServiceError,
)
from tests.unit.frontend.routing.fake_targets import Clock

FAILURES = 3
OPEN_S = 10.0
BAD = InternalError("broken")
NEUTRAL: list[BaseException] = [
    Overloaded("full"),
    EngineUnavailable("lost"),
    Cancelled("gone"),
    RuntimeError("our own bug"),
]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(FAILURES, OPEN_S, clock)


@pytest.fixture
def opened(breaker: Breaker) -> Breaker:
    for _ in range(FAILURES):
        breaker.record(BAD)
    return breaker


@pytest.mark.parametrize("error", [BAD, DeadlineExceeded("late"), NotAccepted("hung")])
def test_failures_in_a_row_open_it(breaker: Breaker, error: ServiceError) -> None:
    for _ in range(FAILURES - 1):
        breaker.record(error)
        assert breaker.allows
    breaker.record(error)
    assert (breaker.state, breaker.allows) == ("open", False)


@pytest.mark.parametrize("outcome", [None, InvalidRequest("the caller's fault")])
def test_a_success_between_them_begins_the_count_anew(breaker: Breaker, outcome: ServiceError | None) -> None:
    for _ in range(FAILURES):
        breaker.record(BAD)
        breaker.record(outcome)
    assert breaker.state == "closed"


@pytest.mark.parametrize("error", NEUTRAL)
def test_what_load_and_callers_cause_counts_for_nothing(breaker: Breaker, error: BaseException) -> None:
    for _ in range(3 * FAILURES):
        breaker.record(error)
    assert breaker.state == "closed"
    breaker.record(BAD)
    breaker.record(error)
    breaker.record(BAD)
    breaker.record(BAD)
    assert breaker.state == "open", "nor did it begin the count anew"


def test_an_answer_that_its_deadline_cuts_is_no_failure(breaker: Breaker) -> None:
    for _ in range(3 * FAILURES):
        breaker.record(DeadlineExceeded("long"), answered=True)
    assert breaker.state == "closed"
    for _ in range(FAILURES):
        breaker.record(BAD, answered=True)
    assert breaker.state == "open"


def test_after_a_while_one_request_may_try(opened: Breaker, clock: Clock) -> None:
    clock.now += OPEN_S - 0.1
    assert not opened.allows
    clock.now += 0.1
    assert (opened.state, opened.allows) == ("half_open", True)
    opened.begin()
    assert not opened.allows


def test_a_good_try_closes_it(opened: Breaker, clock: Clock) -> None:
    clock.now += OPEN_S
    opened.begin()
    opened.record(None)
    assert (opened.state, opened.allows) == ("closed", True)
    opened.record(BAD)
    assert opened.state == "closed", "one failure is not three"


def test_a_bad_try_opens_it_again(opened: Breaker, clock: Clock) -> None:
    clock.now += OPEN_S
    opened.begin()
    opened.record(BAD)
    assert opened.state == "open"
    clock.now += OPEN_S
    assert opened.allows


@pytest.mark.parametrize("error", NEUTRAL)
def test_a_try_that_showed_nothing_leaves_room_for_the_next(
    opened: Breaker, clock: Clock, error: BaseException
) -> None:
    clock.now += OPEN_S
    opened.begin()
    opened.record(error)
    assert (opened.state, opened.allows) == ("half_open", True)


def test_a_try_that_never_ends_blocks_it_only_for_a_while(opened: Breaker, clock: Clock) -> None:
    clock.now += OPEN_S
    opened.begin()
    clock.now += OPEN_S
    assert opened.allows


def test_requests_from_before_do_not_close_it(opened: Breaker, clock: Clock) -> None:
    opened.record(None)
    assert opened.state == "open"
    clock.now += OPEN_S / 2
    opened.record(BAD)
    clock.now += OPEN_S / 2
    assert opened.allows, "nor do they keep it open for longer"
