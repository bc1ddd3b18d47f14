from __future__ import annotations

from frontend.admission.concurrency_limit import ConcurrencyLimit
from tests.unit.frontend.admission.asks import load


class Engine:
    """Reports every fifth of a second."""

    def __init__(self, most: int = 20) -> None:
        self.limit = ConcurrencyLimit(most)
        self.now = 100.0
        self.last = load(running=1)

    def report(self, *, wait_s: float = 0.0, steps: int = 1, times: int = 1, running: int = 1) -> None:
        for _ in range(times):
            self.now += 0.2
            tokens = self.last.output_tokens + running * steps
            new = load(
                running=running, steps=self.last.steps + steps, queue_wait_s=wait_s, output_tokens=tokens
            )
            self.limit.report(self.last, new, 0.2, self.now)
            self.last = new


def test_it_starts_with_what_the_engine_takes_and_never_exceeds_it() -> None:
    engine = Engine(most=20)
    engine.report(times=100)
    assert engine.limit.value == 20


def test_patience_is_a_few_steps() -> None:
    engine = Engine()
    engine.report(steps=2, times=50)  # a tenth of a second each
    assert 0.3 < engine.limit.patience_s < 1.0
    engine.report(steps=20, times=200)
    assert engine.limit.patience_s == 0.1


def test_a_long_wait_cuts_it_once_until_a_later_request_waits_as_long() -> None:
    engine = Engine(most=20)
    engine.report(times=10)
    engine.report(wait_s=4.0)
    assert engine.limit.value == 18
    engine.report(wait_s=4.0, times=5)  # it began to wait before the cut
    assert engine.limit.value == 18
    engine.report(wait_s=1.5, times=15)
    assert engine.limit.value < 18


def test_waits_that_end_soon_are_those_of_a_burst() -> None:
    engine = Engine(most=20)
    engine.report(times=20)
    for _ in range(10):
        for wait_s in (0.6, 0.8, 1.0, 1.2):
            engine.report(wait_s=wait_s, steps=0)
        engine.report(times=2)
    assert engine.limit.value == 20


def test_waits_that_take_turns_without_end_are_a_sign() -> None:
    engine = Engine(most=20)
    engine.report(times=20)
    engine.report(wait_s=0.9 + engine.limit.patience_s, steps=1, times=30)
    assert engine.limit.value < 20


def test_it_grows_back_by_one_a_second() -> None:
    engine = Engine(most=20)
    engine.report(wait_s=9.0, steps=0)
    assert engine.limit.value == 18
    engine.report(times=6)
    assert engine.limit.value == 19
    engine.report(times=50)
    assert engine.limit.value == 20


def test_waits_between_short_and_long_change_nothing() -> None:
    engine = Engine(most=20)
    engine.report(times=30)
    engine.report(wait_s=9.0)
    engine.report()
    patience = engine.limit.patience_s
    before = engine.limit.value
    engine.report(times=50, wait_s=0.75 * patience)
    assert engine.limit.value == before


def test_one_request_may_always_run() -> None:
    engine = Engine(most=2)
    for _ in range(50):
        engine.now += 100
        engine.report(wait_s=50.0)
    assert engine.limit.value == 1


def test_it_retreats_to_what_is_worth_it_and_a_burst_passes_before() -> None:
    engine = Engine(most=64)
    for running, steps in ((8, 60), (16, 50), (32, 40), (60, 22)):
        engine.report(running=running, steps=steps, times=8)
    assert engine.limit.value > 48, "a burst"
    engine.report(running=60, steps=22, times=100)
    assert engine.limit.value == 32
    engine.report(running=24, steps=46, times=50)
    assert engine.limit.value > 32, "and with less to do it is ready for the next"
