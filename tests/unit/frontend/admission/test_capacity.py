from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from frontend.admission.ask import Estimate
from frontend.admission.capacity import Capacity, Reservation
from tests.unit.frontend.admission.asks import Clock, load

SMALL = Estimate(100, 28)  # 8 blocks of 16


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def capacity(clock: Clock) -> Capacity:
    return Capacity(clock)


def test_requests_are_taken_up_to_what_the_engine_runs(capacity: Capacity) -> None:
    capacity.report(load(max_sequences=2))
    held = [capacity.reserve(SMALL), capacity.reserve(SMALL)]
    assert not capacity.fits(SMALL)
    held[0].release()
    assert capacity.fits(SMALL)
    assert (capacity.in_flight, capacity.limit) == (1, 2)


def test_blocks_are_promised_once_with_a_spare_one_for_each_request(capacity: Capacity) -> None:
    capacity.report(load(blocks_total=17))
    capacity.reserve(SMALL)
    assert capacity.fits(SMALL)  # 8 + 8, and 1 to spare
    capacity.report(load(blocks_total=16))
    assert not capacity.fits(SMALL)


def test_two_kinds_of_blocks_take_a_spare_one_each(capacity: Capacity) -> None:
    capacity.report(load(blocks_total=34, block_window=128))
    capacity.reserve(SMALL)
    assert capacity.fits(SMALL)  # 16 + 16, and 2 to spare
    capacity.report(load(blocks_total=33, block_window=128))
    assert not capacity.fits(SMALL)


def test_a_request_larger_than_the_cache_runs_alone(capacity: Capacity) -> None:
    capacity.report(load(blocks_total=4))
    assert capacity.fits(SMALL)
    small = capacity.reserve(Estimate(1, 1))
    assert not capacity.fits(SMALL)
    small.release()
    assert capacity.fits(SMALL)


def test_the_exact_count_corrects_the_promise(capacity: Capacity) -> None:
    capacity.report(load())
    reservation = capacity.reserve(SMALL)
    reservation.accepted(prompt_tokens=200, cached_tokens=160)
    assert reservation.blocks == 5  # 40 tokens of the prompt and 28 of the answer
    assert reservation.blocks_held == 15  # and 10 that hold the rest
    assert capacity.blocks_reserved == 5
    reservation.release()
    reservation.accepted(prompt_tokens=200, cached_tokens=0)  # too late to matter
    assert capacity.blocks_reserved == 0


@given(
    prompt=st.integers(1, 5000),
    output=st.integers(1, 1024),
    cached=st.integers(0, 300),
    block_size=st.sampled_from([8, 16, 64]),
    window=st.sampled_from([0, 128]),
)
def test_the_promise_is_what_the_engine_holds_in_the_end(
    prompt: int, output: int, cached: int, block_size: int, window: int
) -> None:
    """An answer that runs to its reserve: the engine holds all tokens but the last one, which it only sampled."""
    cached = min(cached, (prompt - 1) // block_size) * block_size
    capacity = Capacity(Clock())
    capacity.report(load(block_size=block_size, block_window=window))
    reservation = capacity.reserve(Estimate(1, output))
    reservation.accepted(prompt, cached)
    computed = prompt + output - 1
    full, fallen_out = -(-computed // block_size), max(0, computed // block_size - 127 // block_size - 1)
    window_blocks = range(fallen_out, full) if window else range(0)
    assert reservation.blocks_held == full + len(window_blocks)
    of_the_cache = cached // block_size + sum(n < cached // block_size for n in window_blocks)
    assert reservation.blocks_held == reservation.blocks + of_the_cache


def test_an_answer_is_not_reserved_beyond_the_context(capacity: Capacity) -> None:
    capacity.report(load(max_context=160))
    reservation = capacity.reserve(Estimate(100, 1024))
    assert reservation.blocks == 10


def test_release_counts_once_and_says_so(capacity: Capacity) -> None:
    freed: list[int] = []
    reservation = capacity.reserve(SMALL, lambda: freed.append(1))
    reservation.release()
    reservation.release()
    assert (freed, capacity.in_flight, capacity.blocks_reserved) == ([1], 0, 0)


def test_promises_made_before_the_first_report_are_priced_by_it(capacity: Capacity) -> None:
    reservation = capacity.reserve(SMALL)
    assert capacity.blocks_reserved == 0
    capacity.report(load(blocks_total=12))
    assert (reservation.blocks, capacity.blocks_reserved) == (8, 8)
    assert not capacity.fits(SMALL)


# ------------------------------------------------------------------------------------------ reports


def test_a_nearly_full_cache_takes_nobody(capacity: Capacity) -> None:
    capacity.report(load(blocks_total=100, blocks_used=79, running=1))
    assert capacity.fits(Estimate(16, 0))
    capacity.report(load(blocks_total=100, blocks_used=80, running=1))
    assert not capacity.fits(Estimate(16, 0))
    assert capacity.kv_used == capacity.kv_fraction == 0.8


def test_requests_of_others_count(capacity: Capacity) -> None:
    capacity.report(load(max_sequences=4, running=3, waiting=1))
    assert not capacity.fits(SMALL)
    capacity.report(load(max_sequences=4, running=3))
    assert capacity.fits(SMALL)


def test_our_own_that_have_just_ended_do_not_count_as_others(capacity: Capacity) -> None:
    capacity.report(load(max_sequences=2))
    held = [capacity.reserve(SMALL), capacity.reserve(SMALL)]
    held[0].release()
    capacity.report(load(max_sequences=2, running=2))  # made before the release
    assert capacity.fits(SMALL)


def test_a_stale_report_leaves_only_the_promises(capacity: Capacity, clock: Clock) -> None:
    capacity.report(load(blocks_total=100, blocks_used=95, running=64, waiting=9))
    assert not capacity.fits(SMALL)
    clock.now += 3.1
    assert capacity.fits(SMALL)
    assert capacity.kv_used == 0
    capacity.reserve(Estimate(1500, 0))
    assert not capacity.fits(SMALL)  # 94 blocks are promised


def test_without_any_report_requests_run(capacity: Capacity) -> None:
    for _ in range(64):
        assert capacity.fits(SMALL)
        capacity.reserve(SMALL)
    assert not capacity.fits(SMALL)


def test_a_restarted_engine_begins_with_its_own_limit(capacity: Capacity, clock: Clock) -> None:
    capacity.report(load(max_sequences=10))
    clock.now += 10
    capacity.report(load(max_sequences=10, queue_wait_s=5.0))
    assert capacity.limit == 9
    capacity.report(load(max_sequences=10, pid=2))
    assert capacity.limit == 10


# ----------------------------------------------------------------------------------- service rate


def end(reservation: Reservation) -> None:
    """It was accepted, and has its answer."""
    reservation.accepted(100, 0)
    reservation.release()


def test_the_service_rate_follows_from_how_long_requests_stay(capacity: Capacity, clock: Clock) -> None:
    capacity.report(load(max_sequences=8))
    held = [capacity.reserve(SMALL) for _ in range(8)]
    for _ in range(200):  # each stays for 8 seconds, one ends every second
        clock.now += 1
        end(held.pop(0))
        held.append(capacity.reserve(SMALL))
    assert capacity.service_rate == pytest.approx(1.0, rel=0.05)
    assert list(islice(capacity.free_in_s(), 3)) == pytest.approx([1, 2, 3], rel=0.05)


def test_requests_that_stay_longer_than_usual_lower_it_before_they_end(
    capacity: Capacity, clock: Clock
) -> None:
    reservation = capacity.reserve(SMALL)
    clock.now += 2
    end(reservation)
    for _ in range(4):
        capacity.reserve(SMALL)
    assert capacity.service_rate == 2.0
    clock.now += 8
    assert capacity.service_rate == 0.5


def test_requests_that_the_engine_refuses_are_no_service(capacity: Capacity, clock: Clock) -> None:
    held = [capacity.reserve(SMALL) for _ in range(4)]
    clock.now += 2
    end(held.pop())
    rate = capacity.service_rate
    for _ in range(50):
        capacity.reserve(SMALL).release()
    assert capacity.service_rate == rate


def test_after_a_burst_nothing_ends_for_a_while(capacity: Capacity, clock: Clock) -> None:
    reservation = capacity.reserve(SMALL)
    clock.now += 10
    end(reservation)
    for _ in range(10):
        capacity.reserve(SMALL)
    assert list(islice(capacity.free_in_s(), 2)) == [10, 10]
    clock.now += 9
    assert list(islice(capacity.free_in_s(), 2)) == [1, 2]


# --------------------------------------------------------------------------------------- invariants


class Books(RuleBasedStateMachine):
    """Whatever is reserved, corrected and released, in whatever order: the sums are those of what is held."""

    held = Bundle("held")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.capacity = Capacity(self.clock)
        self.alive: set[Reservation] = set()

    @rule(target=held, prompt=st.integers(0, 3000), output=st.integers(1, 2000))
    def reserve(self, prompt: int, output: int) -> Reservation:
        reservation = self.capacity.reserve(Estimate(prompt, output))
        self.alive.add(reservation)
        return reservation

    @rule(reservation=held, prompt=st.integers(1, 3000), cached_blocks=st.integers(0, 100))
    def accepted(self, reservation: Reservation, prompt: int, cached_blocks: int) -> None:
        reservation.accepted(prompt, min(16 * cached_blocks, prompt))

    @rule(reservation=consumes(held), again=st.booleans())
    def release(self, reservation: Reservation, again: bool) -> None:
        reservation.release()
        self.alive.discard(reservation)
        if again:
            reservation.release()

    @rule(
        seconds=st.floats(0, 10),
        running=st.integers(0, 100),
        used=st.integers(0, 1000),
        wait_s=st.floats(0, 60),
        block_size=st.sampled_from([8, 16]),
        pid=st.integers(1, 2),
    )
    def report(
        self, seconds: float, running: int, used: int, wait_s: float, block_size: int, pid: int
    ) -> None:
        self.clock.now += seconds
        self.capacity.report(
            load(running=running, blocks_used=used, queue_wait_s=wait_s, block_size=block_size, pid=pid)
        )

    @invariant()
    def sums_are_right(self) -> None:
        assert self.capacity.in_flight == len(self.alive)
        assert self.capacity.blocks_reserved == sum(r.blocks for r in self.alive)
        assert all(r.blocks >= 0 for r in self.alive)
        assert 1 <= self.capacity.limit <= 64
        assert self.capacity.service_rate > 0
        waits = list(islice(self.capacity.free_in_s(), 20))
        assert waits == sorted(waits)

    @invariant()
    def an_idle_target_takes_anything(self) -> None:
        self.capacity.report(load(pid=3))
        if not self.alive:
            assert self.capacity.fits(Estimate(10**9, 10**9))


TestBooks = Books.TestCase
