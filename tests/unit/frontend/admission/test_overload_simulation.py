"""More requests than can be served: what admission makes of them, in front of an engine that is only timing.

The engine's times are those of the `bench` checkpoint on two cores, where it serves about six such requests a
second. All is seeded and in virtual time, so every figure is the same in every run.
"""

from __future__ import annotations

import functools

import pytest

from tests.unit.frontend.admission.overload import Source, Window, World
from tests.unit.frontend.admission.simulated_engine import SimulatedEngine
from tests.unit.frontend.admission.virtual_time import now, run_virtual

CAPACITY = 5.8  # answers per second
WARM_UP_S, SECONDS = 20.0, 200.0


@functools.cache
def overload(
    multiple: float, obey: float = 0.02, outputs: tuple[int, int] = (16, 112), seconds: float = SECONDS
) -> Window:
    """One caller that sends so many times what can be served."""
    return run([Source("key", multiple * CAPACITY, obey)], outputs, seconds)


def run(sources: list[Source], outputs: tuple[int, int] = (16, 112), seconds: float = SECONDS) -> Window:
    async def main() -> Window:
        async with World.running(SimulatedEngine(max_sequences=32), outputs) as world:
            begin = now() + WARM_UP_S
            answers = await world.open_loop(sources, WARM_UP_S + seconds)
            stats = world.admission.stats()
            assert sum(stats["decisions"].values()) == len(answers)
            assert stats["queued"] == world.capacity.in_flight == world.capacity.blocks_reserved == 0
            return Window(answers, begin, begin + seconds)

    return run_virtual(main())


MULTIPLES = [1, 2, 4, 10]


@pytest.mark.parametrize("multiple", MULTIPLES)
def test_goodput_stays_at_its_peak(multiple: float) -> None:
    peak = max(overload(m).goodput for m in MULTIPLES)
    assert overload(multiple).goodput >= 0.9 * peak


@pytest.mark.parametrize("multiple", MULTIPLES)
def test_those_let_in_do_not_wait_much_longer_than_without_overload(multiple: float) -> None:
    assert overload(multiple).ttft_p95_s <= 2 * overload(0.8).ttft_p95_s


def test_below_capacity_hardly_anybody_is_refused() -> None:
    sent = overload(0.8).sent
    assert sum(answer.refused for answer in sent) <= 0.01 * len(sent)


@pytest.mark.parametrize("multiple", [2, 4, 10])
def test_who_obeys_is_let_in(multiple: float) -> None:
    assert_promises_kept(overload(multiple))


@pytest.mark.parametrize(("multiple", "obey"), [(1.5, 1.0), (2, 1.0), (4, 0.3)])
def test_so_are_many_as_long_as_their_turns_come_within_a_minute(multiple: float, obey: float) -> None:
    window = overload(multiple, obey, seconds=40)
    assert_promises_kept(window)
    assert window.goodput >= 0.9 * overload(2).goodput


def assert_promises_kept(window: Window) -> None:
    assert len(window.returned) >= 15
    assert sum(not answer.refused for answer in window.returned) >= 0.9 * len(window.returned)


def test_answers_of_one_length_that_end_in_step_do_no_harm() -> None:
    window = overload(4, outputs=(64, 64))
    assert window.goodput >= 0.9 * overload(2).goodput
    assert_promises_kept(window)


def test_nine_callers_hardly_feel_that_a_tenth_floods() -> None:
    nine = [Source(f"caller {n}", 0.8 * CAPACITY / 9) for n in range(9)]
    without, flooded = run(nine), run([*nine, Source("flood", 10 * CAPACITY, obey=0.5)])

    def of_the_nine(window: Window) -> Window:
        return window.only(lambda answer: answer.key != "flood")

    assert of_the_nine(flooded).goodput >= 0.9 * without.goodput
    assert flooded.goodput >= 0.9 * overload(10).goodput
    assert of_the_nine(flooded).ttft_p95_s <= 2 * without.ttft_p95_s


def test_two_callers_get_the_same_however_much_more_one_of_them_sends() -> None:
    window = run([Source("much", 10 * CAPACITY), Source("more", 40 * CAPACITY)])
    much, more = (window.only(lambda answer, key=key: answer.key == key).goodput for key in ("much", "more"))
    assert much == pytest.approx(more, rel=0.15)


def test_classes_share_by_weight_and_none_starves() -> None:
    window = run([Source(p, 4 * CAPACITY, priority=p) for p in ("high", "normal", "low")])
    high, normal, low = (
        window.only(lambda answer, p=p: answer.key == p).goodput for p in ("high", "normal", "low")
    )
    assert high > 1.5 * normal > 3 * low
    assert low > 0.1
