"""The server's state, made from one snapshot: what `/stats` shows, as Prometheus reads it. Gauges, and those counters
whose totals somebody else keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

_Rows = Iterator[tuple[tuple[str, ...], float]]


def gauges(snapshot: Mapping[str, Any]) -> Iterator[Metric]:
    """Every family each time, so that a name never vanishes with the last engine or GPU."""
    yield _gauge("llm_ready", "Whether new requests are answered.", snapshot["ready"])
    yield _gauge("llm_draining", "Whether the server is on its way out.", snapshot["draining"])
    yield _gauge("llm_event_loop_lag_seconds", "How late the shim's loop ran.", snapshot["event_loop_lag_s"])
    yield _gauge("llm_in_flight", "Requests for an answer in the shim.", snapshot["requests"]["in_flight"])
    yield from _admission(snapshot["admission"])
    yield from _engines(snapshot["engines"])
    yield from _sessions(snapshot["sessions"])
    yield from _gpus(snapshot["gpus"])


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, float(value))


def _by(name: str, text: str, labels: tuple[str, ...], rows: _Rows) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family


def _admission(admission: Mapping[str, Any]) -> Iterator[Metric]:
    queued = admission["queued_by_priority"].items()
    yield _by("llm_queued", "Requests that wait.", ("priority",), (((p,), n) for p, n in queued))
    yield _gauge("llm_max_queue", "Requests that may wait.", admission["max_queue"])
    yield _gauge("llm_admission_level", "Degradation: 0 none, 4 most.", admission["level"])
    wait_s = admission["queue_wait_limit_s"]
    yield _gauge("llm_queue_wait_limit_seconds", "The longest wait that is let in.", wait_s)


def _engines(engines: list[Mapping[str, Any]]) -> Iterator[Metric]:
    labels = ("target", "model")
    loads = [((e["target"], e["model"]), e["load"]) for e in engines if e["load"] is not None]

    def engine(name: str, text: str, field: str) -> Metric:
        return _by(name, text, labels, (((e["target"], e["model"]), float(e[field])) for e in engines))

    def load(name: str, text: str, *fields: str) -> Metric:
        """The product of the report's fields."""
        return _by(name, text, labels, ((key, _product(report, fields)) for key, report in loads))

    def total(name: str, text: str, field: str) -> Metric:
        """Since the engine's start; a new life of it counts anew."""
        family = CounterMetricFamily(name, text, labels=labels)
        for key, report in loads:
            family.add_metric(key, report[field])
        return family

    yield engine("llm_engine_ready", "Whether the engine reports and takes requests.", "ready")
    yield engine("llm_engine_silence_seconds", "Since the engine's last report.", "silence_s")
    yield engine("llm_engine_limit", "Sequences that may run there now.", "limit")
    yield _by(
        "llm_breaker_open", "Whether the target gets no requests.", labels,
        (((e["target"], e["model"]), float(e["breaker"] != "closed")) for e in engines),
    )  # fmt: skip
    yield load("llm_running", "Sequences that run.", "running")
    yield load("llm_waiting", "Sequences that wait in the engine.", "waiting")
    yield load("llm_kv_blocks_used", "KV blocks of running sequences.", "blocks_used")
    yield load("llm_kv_blocks_cached", "KV blocks that only hold a reusable prefix.", "blocks_cached")
    yield load("llm_kv_blocks_capacity", "All KV blocks.", "blocks_total")
    yield load("llm_kv_blocks_leased", "Cached blocks that sessions claim.", "blocks_leased")
    yield load("kv_bytes_in_use", "KV memory of running sequences.", "blocks_used", "block_bytes")
    yield load("kv_bytes_capacity", "All KV memory.", "blocks_total", "block_bytes")
    yield load("llm_engine_step_age_seconds", "Since the running step began.", "step_age_s")
    yield total("llm_drafted_tokens", "Tokens guessed by speculation.", "drafted_tokens")
    yield total("llm_accepted_tokens", "Those of them that were right.", "accepted_tokens")


def _product(report: Mapping[str, Any], fields: tuple[str, ...]) -> float:
    product = 1.0
    for field in fields:
        product *= report[field]
    return product


def _sessions(sessions: Mapping[str, Any]) -> Iterator[Metric]:
    yield _gauge("sessions_active", "Sessions known.", sessions["active"])
    yield CounterMetricFamily("sessions_created", "Sessions begun.", sessions["created_total"])
    ended = CounterMetricFamily("sessions_ended", "Sessions ended, and why.", labels=("reason",))
    for reason, count in sessions["ended_total"].items():
        ended.add_metric((reason,), count)
    yield ended


def _gpus(gpus: list[Mapping[str, Any]]) -> Iterator[Metric]:
    def gpu(name: str, text: str, field: str) -> Metric:
        known = [g for g in gpus if g[field] is not None]
        return _by(name, text, ("gpu", "name"), (((str(g["index"]), g["name"]), g[field]) for g in known))

    yield gpu("gpu_utilization", "Share of the time that the GPU was busy.", "utilization")
    yield gpu("gpu_mem_used_bytes", "GPU memory in use.", "memory_used_bytes")
    yield gpu("gpu_mem_capacity_bytes", "All GPU memory.", "memory_total_bytes")
