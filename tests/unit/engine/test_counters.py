"""Rates look back on a few seconds; totals on everything."""

import pytest

from gpt_oss_triton.engine.counters import RATE_WINDOW_S, Counters


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_the_output_rate_forgets_and_the_total_does_not():
    clock = Clock()
    counters = Counters(clock)
    counters.count_step(output_tokens=10, prompt_tokens=0, seconds=0.1)
    assert counters.rate() == 10 / RATE_WINDOW_S
    clock.now += RATE_WINDOW_S + 1
    assert counters.rate() == 0
    assert (counters.output_tokens, counters.steps) == (10, 1)


def test_the_prefill_rate_is_of_the_time_that_prefills_took():
    clock = Clock()
    counters = Counters(clock)
    assert counters.prefill_rate() == 0
    counters.count_step(output_tokens=0, prompt_tokens=300, seconds=0.5)
    clock.now += 1
    counters.count_step(output_tokens=8, prompt_tokens=0, seconds=0.7)  # decodes only
    counters.count_step(output_tokens=1, prompt_tokens=100, seconds=0.3)
    assert counters.prefill_rate() == pytest.approx(500)


def test_the_prefill_rate_is_kept_through_a_pause_and_renewed_after_it():
    clock = Clock()
    counters = Counters(clock)
    counters.count_step(output_tokens=1, prompt_tokens=100, seconds=1.0)
    clock.now += 1000
    assert counters.prefill_rate() == 100
    counters.count_step(output_tokens=1, prompt_tokens=100, seconds=0.5)
    assert counters.prefill_rate() == 200
