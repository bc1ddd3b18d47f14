"""The last minute."""

from __future__ import annotations

import pytest

from gpt_oss_triton.telemetry import recent
from gpt_oss_triton.telemetry.figures import Figures
from gpt_oss_triton.telemetry.recent import MAX_REQUESTS, Recent


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def figures(seconds: float) -> Figures:
    return Figures(seconds, 2 * seconds, seconds / 10, None, None, None)


def test_percentiles_by_nearest_rank() -> None:
    window = Recent(Clock())
    for n in range(1, 101):
        window.add(figures(n), tokens=6)
    assert window.summary() == {
        "window_s": 60, "requests": 100, "ttft_p50_s": 50, "ttft_p95_s": 95, "e2e_p50_s": 100,
        "e2e_p95_s": 190, "tpot_p50_s": 5.0, "output_tokens_per_s": 10.0,
    }  # fmt: skip


def test_nothing_has_no_percentiles() -> None:
    summary = Recent(Clock()).summary()
    assert summary["requests"] == summary["output_tokens_per_s"] == 0
    assert summary["ttft_p50_s"] is summary["e2e_p95_s"] is None


def test_what_was_before_the_window_is_forgotten() -> None:
    clock = Clock()
    window = Recent(clock)
    window.add(figures(1), tokens=60)
    clock.now += 30
    window.add(figures(3), tokens=120)
    assert window.summary()["requests"] == 2
    clock.now += 31
    assert window.summary()["requests"] == 1
    assert window.summary()["ttft_p50_s"] == 3
    assert window.summary()["output_tokens_per_s"] == pytest.approx(2.0)
    clock.now += 600
    assert window.summary()["requests"] == 0
    assert window.summary()["ttft_p50_s"] is None


def test_throughput_counts_more_than_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    window = Recent(clock)
    for _ in range(MAX_REQUESTS + 1000):
        window.add(figures(1), tokens=1)
        clock.now += 0.005
    summary = window.summary()
    assert summary["requests"] == MAX_REQUESTS + 1000
    assert summary["output_tokens_per_s"] == pytest.approx((MAX_REQUESTS + 1000) / recent.WINDOW_S)
    assert len(window._requests) == MAX_REQUESTS
