"""The times and rates of a request."""

from __future__ import annotations

import pytest

from gpt_oss_triton.telemetry.figures import Figures
from gpt_oss_triton.telemetry.token_counts import TokenCounts
from gpt_oss_triton.wire import Timings
from tests.unit.telemetry.records import BEGAN, answered, refused


def test_of_an_answer() -> None:
    figures = Figures.of(answered())
    assert figures.ttft_s == pytest.approx(1.0)
    assert figures.e2e_s == pytest.approx(2.0)
    assert figures.tpot_s == pytest.approx(0.9 / 10)
    assert figures.shim_queue_s == pytest.approx(0.1)
    assert figures.engine_queue_s == pytest.approx(0.2)
    assert figures.output_tokens_per_s == pytest.approx(5.5)


def test_what_was_not_reached_is_none() -> None:
    figures = Figures.of(refused())
    assert figures.e2e_s == pytest.approx(0.01)
    assert figures.ttft_s is figures.tpot_s is figures.shim_queue_s is figures.engine_queue_s is None
    assert figures.output_tokens_per_s is None


def test_who_is_let_in_at_once_waits_for_nothing() -> None:
    assert Figures.of(answered(queued=None)).shim_queue_s == 0.0


def test_one_token_has_no_time_between_tokens() -> None:
    assert Figures.of(answered(counts=TokenCounts(50, 32, 1))).tpot_s is None


def test_a_clock_that_was_set_back_gives_zero() -> None:
    record = answered(
        finished=BEGAN - 5, first_token=BEGAN - 1, last_token=BEGAN - 2, timings=Timings(BEGAN, BEGAN - 3)
    )
    figures = Figures.of(record)
    assert (figures.ttft_s, figures.e2e_s, figures.tpot_s, figures.engine_queue_s) == (0, 0, 0, 0)
    assert figures.output_tokens_per_s is None
