from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.admission.capacity import Capacity
from frontend.admission.degradation import Ladder, Relief
from tests.unit.frontend.admission.asks import Clock, FakeTarget, load


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ladder(clock: Clock) -> Ladder:
    return Ladder(clock)


def under(ladder: Ladder, clock: Clock, pressure: float, seconds: int) -> list[int]:
    """The level after each second."""
    levels = []
    for _ in range(seconds):
        clock.now += 1
        ladder.update(pressure)
        levels.append(ladder.level)
    return levels


def test_the_first_step_is_immediate_and_the_others_take_their_time(ladder: Ladder, clock: Clock) -> None:
    assert under(ladder, clock, 1.0, 12) == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]


@pytest.mark.parametrize(
    ("pressure", "level"), [(0.79, 0), (0.8, 1), (0.87, 2), (0.93, 3), (0.97, 4), (1.5, 4)]
)
def test_how_far_a_pressure_drives_it(ladder: Ladder, clock: Clock, pressure: float, level: int) -> None:
    assert under(ladder, clock, pressure, 20)[-1] == level


def test_it_steps_down_only_when_it_is_clearly_calmer(ladder: Ladder, clock: Clock) -> None:
    under(ladder, clock, 0.87, 20)
    assert under(ladder, clock, 0.78, 20)[-1] == 2  # 0.87 - 0.1 is not reached
    assert under(ladder, clock, 0.76, 20)[-1] == 1
    assert under(ladder, clock, 0.0, 20)[-1] == 0


def test_a_moment_of_calm_is_not_enough(ladder: Ladder, clock: Clock) -> None:
    under(ladder, clock, 0.8, 5)
    for _ in range(20):
        assert under(ladder, clock, 0.0, 1) == [1]
        under(ladder, clock, 0.8, 1)


def test_who_is_refused(ladder: Ladder, clock: Clock) -> None:
    refused = []
    for _ in range(14):
        refused.append([p for p in ("low", "normal", "high") if ladder.refuses(p)])  # type: ignore[arg-type]
        under(ladder, clock, 1.0, 1)
    assert refused == [[]] * 7 + [["low"]] * 3 + [["low", "normal"]] * 4


@given(st.lists(st.tuples(st.floats(0, 20), st.floats(0, 2)), max_size=100))
def test_one_step_at_a_time_within_its_bounds(updates: list[tuple[float, float]]) -> None:
    clock = Clock()
    ladder = Ladder(clock)
    for seconds, pressure in updates:
        clock.now += seconds
        before = ladder.level
        assert ladder.update(pressure) == (ladder.level != before)
        assert abs(ladder.level - before) <= 1
        assert 0 <= ladder.level <= 4


def test_relief_halves_the_steps_and_ends_leases_once_each() -> None:
    calls: list[Any] = []
    one = FakeTarget(Capacity(), load=load(max_step_tokens=128, configured_step_tokens=512))
    lost = FakeTarget(Capacity(), load=None)
    relief = Relief(
        lambda target, tokens: calls.append((target, tokens)), lambda ensemble: calls.append(ensemble)
    )
    for before, level in [(0, 1), (1, 2), (2, 3), (3, 2), (2, 1)]:
        relief.level_changed("gpt-oss-20b", [one, lost], before, level)  # type: ignore[list-item]
    assert calls == [(one, 256), "gpt-oss-20b"]
    relief.level_changed("gpt-oss-20b", [one], 1, 0)  # type: ignore[list-item]
    assert calls[-1] == (one, None)
