from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.admission.bookings import Bookings
from frontend.admission.fair_queue import FlowKey
from tests.unit.frontend.admission.asks import Clock

FLOW: FlowKey = ("normal", "key")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bookings(clock: Clock) -> Bookings:
    return Bookings(clock)


def book(
    bookings: Bookings, name: str, rate: float = 1.0, flow: FlowKey = FLOW, earliest_s: float = 0.0
) -> int:
    return bookings.book(name.encode(), flow, earliest_s=earliest_s, rate=rate)


def test_turns_come_at_seven_tenths_of_the_rate_of_service(bookings: Bookings) -> None:
    assert [book(bookings, f"{n}") for n in range(5)] == [2, 3, 5, 6, 8]


def test_nobody_is_let_in_before_there_is_room(bookings: Bookings) -> None:
    assert book(bookings, "a", earliest_s=10.0) == 12


def test_who_comes_when_told_is_known_and_who_comes_early_keeps_its_turn(
    bookings: Bookings, clock: Clock
) -> None:
    told = book(bookings, "a", earliest_s=10.0)
    assert bookings.wait_s(b"stranger") is None
    clock.now += 4
    assert bookings.wait_s(b"a") == pytest.approx(7.43, abs=0.01)
    clock.now += told - 4
    assert bookings.wait_s(b"a") == 0
    bookings.take(b"a")
    assert bookings.wait_s(b"a") is None
    assert len(bookings) == 0


def test_who_comes_too_late_is_a_stranger(bookings: Bookings, clock: Clock) -> None:
    clock.now += book(bookings, "a") + 4.9
    assert bookings.wait_s(b"a") == 0
    clock.now += 0.2
    assert bookings.wait_s(b"a") is None
    assert len(bookings) == 0


def test_beyond_a_minute_nothing_is_promised(bookings: Bookings) -> None:
    told = [book(bookings, f"{n}") for n in range(100)]
    assert told[-1] == max(told) == 60
    assert len(bookings) == 42
    assert book(bookings, "idle", rate=0.0) == 60
    assert bookings.wait_s(b"idle") is None


def test_flows_do_not_wait_for_each_others_turns(bookings: Bookings) -> None:
    for n in range(30):
        book(bookings, f"{n}")
    assert book(bookings, "other", flow=("normal", "other")) == 2
    assert bookings.flows() == {FLOW, ("normal", "other")}


def test_turns_that_are_not_taken_are_handed_out_more_densely(bookings: Bookings, clock: Clock) -> None:
    for n in range(2000):
        book(bookings, f"{n}", rate=10.0)
        if n % 4 == 0:
            bookings.take(f"{n}".encode())  # every fourth comes
        clock.now += 0.2
    assert bookings.show_up == pytest.approx(0.25, abs=0.02)
    clock.now += 10
    told = [book(bookings, f"again {n}") for n in range(20)]
    assert told[-1] == 8  # 20 turns, of which 5 will be taken, at 0.7 a second


def test_a_turn_is_judged_only_when_it_is_over(bookings: Bookings, clock: Clock) -> None:
    for n in range(100):
        book(bookings, f"{n}", rate=100.0)
    for n in range(20):
        bookings.take(f"{n}".encode())
    assert bookings.show_up == 1.0
    clock.now += 10
    bookings.flows()
    assert bookings.show_up == pytest.approx((20 + 20) / (20 + 100))  # what was assumed counts for 20 turns


def test_a_request_that_is_refused_again_has_one_turn(bookings: Bookings, clock: Clock) -> None:
    clock.now += book(bookings, "a")
    assert bookings.wait_s(b"a") == 0
    again = book(bookings, "a")
    assert len(bookings) == 1
    assert bookings.wait_s(b"a") == pytest.approx(again, abs=1)
    clock.now += 4  # when the first turn ends
    assert bookings.wait_s(b"a") is not None


@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.floats(0, 20), st.sampled_from("ab"), st.booleans()), max_size=200
    )
)
def test_what_is_told_is_kept(arrivals: list[tuple[int, float, str, bool]]) -> None:
    """Whoever comes at or after the moment it was told, within the grace, is let in."""
    clock = Clock()
    bookings = Bookings(clock)
    promised: dict[bytes, float] = {}
    for name, pause_s, flow, take in arrivals:
        clock.now += pause_s
        booking = f"{name}".encode()
        due = promised.get(booking)
        wait_s = bookings.wait_s(booking)
        if due is not None and due <= clock.now < due + 4.9:
            assert wait_s == 0
        if wait_s is None:
            told = bookings.book(booking, ("normal", flow), earliest_s=0.0, rate=1.0)
            assert 1 <= told <= 60
            promised.pop(booking, None)
            if bookings.wait_s(booking) is not None:
                promised[booking] = clock.now + told
        elif take:
            bookings.take(booking)
            promised.pop(booking, None)
    assert 0 <= bookings.show_up <= 1
    clock.now += 100
    assert bookings.flows() == set()
    assert len(bookings) == 0


def test_there_is_a_bound(bookings: Bookings) -> None:
    for n in range(10_050):
        book(bookings, f"{n}", rate=1e6)
    assert len(bookings) == 10_000
    assert book(bookings, "one more", rate=1e6) == 60
