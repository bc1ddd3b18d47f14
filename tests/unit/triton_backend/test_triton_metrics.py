from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from gpt_oss_triton.errors import EngineUnavailable
from gpt_oss_triton.triton_backend import triton_metrics
from gpt_oss_triton.triton_backend.triton_metrics import COUNTERS, GAUGES, HISTOGRAMS, TritonMetrics
from gpt_oss_triton.wire import Load, Timings

LABELS = {"model": "gpt_oss_20b_engine", "version": "1"}
LOAD = Load(
    pid=1, started=0.0, sequence=0, running=2, waiting=3, blocks_total=100, blocks_used=40, blocks_cached=30,
    block_size=16, max_context=1024, max_sequences=4, max_waiting=8, steps=7, step_age_s=0.5, prompt_tokens=50,
    cached_tokens=16, output_tokens=9, preemptions=1, failed_steps=0, output_tokens_per_s=3.0, dtype="float32",
    device="cpu", checkpoint="tiny", blocks_leased=11, leases=2, drafted_tokens=8, accepted_tokens=6,
)  # fmt: skip


class Engine:
    """Its load, as the test sets it."""

    def __init__(self) -> None:
        self.now: Load | None = LOAD

    def load(self) -> Load:
        if self.now is None:
            raise EngineUnavailable("The device failed.")
        return self.now

    def change(self, **fields: Any) -> None:
        assert self.now is not None
        self.now = msgspec.structs.replace(self.now, **fields)


@pytest.fixture
def engine() -> Engine:
    return Engine()


def values(custom_metrics: Any) -> dict[str, Any]:
    return {name.removeprefix("gpt_oss_engine_"): m.value for name, m in custom_metrics.live.items()}


def test_figures_are_created_once_with_labels(engine: Engine, custom_metrics: Any) -> None:
    metrics = TritonMetrics(engine.load, LABELS)
    assert metrics.enabled
    assert {m.labels == LABELS for m in custom_metrics.live.values()} == {True}
    assert len(custom_metrics.live) == len(GAUGES) + len(COUNTERS) + len(HISTOGRAMS)
    assert all(re.fullmatch(r"gpt_oss_engine_[a-z_]+", name) for name in custom_metrics.live)


def test_an_update_sends_everything_once_and_then_what_has_changed(
    engine: Engine, custom_metrics: Any
) -> None:
    metrics = TritonMetrics(engine.load, LABELS)
    assert metrics.update() == 1.0
    sent = values(custom_metrics)
    assert (sent["running"], sent["waiting"], sent["kv_blocks_leased"]) == (2, 3, 11)
    assert (sent["prompt_tokens_total"], sent["output_tokens_total"]) == (50, 9)
    assert (sent["drafted_tokens_total"], sent["accepted_tokens_total"]) == (8, 6)

    custom_metrics.calls.clear()
    engine.change(running=0, output_tokens=12)
    metrics.update()
    changed = [call for call in custom_metrics.calls if "timestamp" not in call[0]]
    assert changed == [
        ("gpt_oss_engine_running", "set", 0),
        ("gpt_oss_engine_output_tokens_total", "increment", 3),
    ]


def test_a_gauge_is_sent_even_when_it_is_zero_at_first(engine: Engine, custom_metrics: Any) -> None:
    """Triton may still show what an engine left that was killed."""
    engine.change(running=0)
    TritonMetrics(engine.load, LABELS).update()
    assert ("gpt_oss_engine_running", "set", 0) in custom_metrics.calls


def test_a_counter_never_goes_down(engine: Engine, custom_metrics: Any) -> None:
    metrics = TritonMetrics(engine.load, LABELS)
    metrics.update()
    engine.change(steps=3)
    metrics.update()
    assert values(custom_metrics)["steps_total"] == 7


def test_times_are_observed_between_updates(engine: Engine, custom_metrics: Any) -> None:
    metrics = TritonMetrics(engine.load, LABELS)
    metrics.note(Timings(arrived=10.0, scheduled=10.5, first_token=12.0, finished=13.0))
    metrics.note(Timings(arrived=10.0, scheduled=11.0, finished=13.0))  # cancelled before its first token
    metrics.note(Timings(arrived=10.0, scheduled=9.0, first_token=9.5, finished=13.0))  # the clock was set
    metrics.note(Timings(arrived=10.0, finished=13.0))  # cancelled in the queue
    assert values(custom_metrics)["ttft_seconds"] == []
    metrics.update()
    metrics.update()
    assert values(custom_metrics)["queue_seconds"] == [0.5, 1.0, 0.0]
    assert values(custom_metrics)["ttft_seconds"] == [2.0, 0.0]


def test_times_that_wait_are_bounded(engine: Engine, custom_metrics: Any) -> None:
    metrics = TritonMetrics(engine.load, LABELS)
    for n in range(5000):
        metrics.note(Timings(arrived=0.0, scheduled=float(n), first_token=float(n), finished=0.0))
    metrics.update()
    assert values(custom_metrics)["ttft_seconds"] == [float(n) for n in range(5000 - 512, 5000)]


def test_a_broken_engine_ends_the_updates(engine: Engine, custom_metrics: Any) -> None:
    metrics = TritonMetrics(engine.load, LABELS)
    engine.now = None
    assert metrics.update() is None


def test_a_triton_without_custom_metrics_costs_nothing(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(triton_metrics.pb_utils, "MetricFamily", raising=False)
    metrics = TritonMetrics(engine.load, LABELS)
    metrics.note(Timings(arrived=0.0, first_token=1.0))
    assert not metrics.enabled
    assert metrics.update() is None
    metrics.close()


def test_a_triton_without_histograms_gets_the_rest(
    engine: Engine, custom_metrics: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(custom_metrics, "HISTOGRAM")
    metrics = TritonMetrics(engine.load, LABELS)
    metrics.note(Timings(arrived=0.0, scheduled=0.5, first_token=1.0))
    assert metrics.update() == 1.0
    assert len(custom_metrics.live) == len(GAUGES) + len(COUNTERS)


def test_a_triton_that_refuses_is_logged_and_let_alone(
    engine: Engine, custom_metrics: Any, logged: list[str]
) -> None:
    custom_metrics.refused.add("gpt_oss_engine_leases")
    metrics = TritonMetrics(engine.load, LABELS)
    assert not metrics.enabled
    assert metrics.update() is None
    assert len(logged) == 1
    assert custom_metrics.live == {}


def test_closing_takes_metrics_away_before_their_families(engine: Engine, custom_metrics: Any) -> None:
    metrics = TritonMetrics(engine.load, LABELS)
    metrics.update()
    metrics.close()
    assert custom_metrics.live == {}
    kinds = [kind for kind, _ in custom_metrics.deleted]
    assert kinds == sorted(kinds, key=["metric", "family"].index)
    assert kinds.count("family") == len(GAUGES) + len(COUNTERS) + len(HISTOGRAMS)
