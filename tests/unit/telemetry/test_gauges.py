"""The state of the server as gauges and as totals that its engines keep."""

from __future__ import annotations

import copy
from typing import Any

from prometheus_client import Metric

from gpt_oss_triton.telemetry.gauges import gauges
from tests.unit.telemetry.records import MODEL, SNAPSHOT


def values(snapshot: dict[str, Any] = SNAPSHOT) -> dict[str, dict[tuple[str, ...], float]]:
    return {
        family.name: {tuple(s.labels.values()): s.value for s in family.samples}
        for family in gauges(snapshot)
    }


def test_the_whole_server() -> None:
    found = values()
    assert found["llm_ready"] == {(): 1.0}
    assert found["llm_draining"] == {(): 0.0}
    assert found["llm_event_loop_lag_seconds"] == {(): 0.002}
    assert found["llm_in_flight"] == {(): 2.0}
    assert found["llm_queued"] == {("high",): 0, ("normal",): 2, ("low",): 1}
    assert found["llm_admission_level"] == {(): 1.0}
    assert found["llm_queue_wait_limit_seconds"] == {(): 2.5}
    assert found["sessions_active"] == {(): 4.0}
    assert found["sessions_ended"] == {("idle",): 3, ("pressure",): 2}


def test_each_engine() -> None:
    found = values()
    near, far = ("local", MODEL), ("far", MODEL)
    assert found["llm_engine_ready"] == {near: 1.0, far: 0.0}
    assert found["llm_breaker_open"] == {near: 0.0, far: 1.0}
    assert found["llm_engine_silence_seconds"] == {near: 0.1, far: 7.0}
    assert found["llm_running"] == {near: 2.0}  # the lost engine's figures are not shown as zeros
    assert found["llm_waiting"] == {near: 1.0}
    assert found["llm_kv_blocks_used"] == {near: 10.0}
    assert found["llm_kv_blocks_cached"] == {near: 5.0}
    assert found["llm_kv_blocks_capacity"] == {near: 64.0}
    assert found["kv_bytes_in_use"] == {near: 10240.0}
    assert found["kv_bytes_capacity"] == {near: 65536.0}
    assert found["llm_drafted_tokens"] == {near: 40}
    assert found["llm_accepted_tokens"] == {near: 30}


def test_each_gpu() -> None:
    found = values()
    assert found["gpu_utilization"] == {("0", "GPU A"): 0.5}  # the other one does not tell
    assert found["gpu_mem_used_bytes"] == {("0", "GPU A"): 100, ("1", "GPU B"): 50}


def test_a_name_does_not_vanish_with_what_it_is_about() -> None:
    bare = copy.deepcopy(SNAPSHOT) | {"engines": [], "gpus": []}
    families: list[Metric] = list(gauges(bare))
    assert {family.name for family in families} == set(values())
