"""Prometheus metrics of the requests. Each request is counted once, at its end.

Label sets are bounded: models by what is served, everything else by `Vocabulary`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Info,
    Metric,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from gpt_oss_triton import __version__
from gpt_oss_triton.config import FrontendSettings
from gpt_oss_triton.errors import Cancelled, DeadlineExceeded, EngineUnavailable, InternalError, Overloaded
from gpt_oss_triton.telemetry.counts import miss_reason
from gpt_oss_triton.telemetry.engine_series import EngineSeries
from gpt_oss_triton.telemetry.families import EngineFamilies, LegacyFamilies, RequestFamilies
from gpt_oss_triton.telemetry.figures import Figures
from gpt_oss_triton.telemetry.gauges import gauges
from gpt_oss_triton.telemetry.genai import ROOT_SPANS
from gpt_oss_triton.telemetry.labels import OTHER, UNKNOWN, EngineLabels, Vocabulary
from gpt_oss_triton.telemetry.record import RequestRecord

MAX_LABEL_SETS = 64  # of the engine's labels; a new one beyond it is counted as `other`
_EXPECTED = (
    ("ok", ""),
    ("cancelled", Cancelled.code),
    ("rejected", Overloaded.code),
    ("error", InternalError.code),
    ("error", EngineUnavailable.code),
    ("error", DeadlineExceeded.code),
)


class Metrics:
    """Used by one thread, read by any."""

    def __init__(self, settings: FrontendSettings) -> None:
        # Else each series has a second one for its beginning, which nobody asks for.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._models = frozenset(settings.models)
        self._profile = settings.profile
        self._registry = CollectorRegistry()
        self._families = RequestFamilies(self._registry)
        self._engine_families = EngineFamilies(self._registry)
        self._legacy = LegacyFamilies(self._registry) if settings.metrics_legacy_names else None
        self._series: dict[tuple[str, str, str, EngineLabels], EngineSeries] = {}
        self._decision, self._code, self._reason, self._target, self._http = (Vocabulary() for _ in range(5))
        self._begin_at_zero()
        ProcessCollector(registry=self._registry)
        Info("llm_build", "This server.", registry=self._registry).info({"version": __version__})

    def count_http(self, record: RequestRecord) -> None:
        """Any request, whatever it asked for."""
        route = self._http(record.route or UNKNOWN)
        self._families.http.labels(route, str(record.status)).inc()

    def count_trace(self, kind: str, result: str) -> None:
        self._families.traces.labels(kind, result).inc()

    def count(
        self, record: RequestRecord, figures: Figures, labels: EngineLabels, trace_id: str | None
    ) -> None:
        """A request for an answer. `trace_id`: of its trace, if that one is certain to be found."""
        families = self._families
        model = record.model if record.model in self._models else UNKNOWN
        route = record.route or UNKNOWN
        code = self._code(record.error) if record.error is not None else ""
        families.requests.labels(model, route, self._profile, record.outcome, code).inc()
        if record.admission is not None:
            decision = self._decision(record.admission)
            families.admission.labels(model, record.priority or UNKNOWN, decision).inc()
        for attempt in record.attempts:
            families.routing.labels(self._target(attempt.target), self._reason(attempt.reason)).inc()
        if (phase := record.cancel_phase) is not None:
            families.cancelled.labels(model, phase).inc()
        if record.stream and record.status == HTTPStatus.OK and record.bytes_sent:
            families.sse_bytes.labels(model, route).inc(record.bytes_sent)
        self._count_caches(record, model)
        if record.accepted is not None:
            exemplar = {"trace_id": trace_id} if trace_id is not None else None
            self._engine_series(record, model, route, labels).count(record, figures, exemplar)

    def _begin_at_zero(self) -> None:
        """A series that begins with its first failure would hide that one from every rate."""
        for model in self._models:
            for route in ROOT_SPANS:
                for outcome, code in _EXPECTED:
                    self._families.requests.labels(model, route, self._profile, outcome, code)

    def _count_caches(self, record: RequestRecord, model: str) -> None:
        families, prompt = self._families, record.prompt
        if prompt is not None:
            reason = "" if prompt.cache == "hit" else miss_reason(prompt.cache_reason)
            families.prompt_cache.labels(model, prompt.cache, reason).inc()
        if record.counts.cached and record.response_cache != "hit":
            families.prefix_hit.labels(model, record.session_by or "shared").inc()
        if record.response_cache is not None:
            families.response_cache.labels(model, record.response_cache).inc()

    def _engine_series(
        self, record: RequestRecord, model: str, route: str, engine: EngineLabels
    ) -> EngineSeries:
        version = record.prompt.prompt_version if record.prompt is not None else UNKNOWN
        key = (model, route, version, engine)
        found = self._series.get(key)
        if found is None:
            if len(self._series) >= MAX_LABEL_SETS:
                key = (OTHER, OTHER, OTHER, EngineLabels())
            found = EngineSeries(self._engine_families, self._legacy, _engine_labels(*key))
            self._series[key] = found
        return found

    def render(self, accept: str, snapshot: Mapping[str, Any]) -> tuple[bytes, str]:
        """The exposition that an `Accept` header asks for, and its content type. Any thread may call it."""
        try:
            encode, content_type = choose_encoder(accept)
            return encode(_Joined(self._registry, snapshot)), content_type
        except TypeError:  # a version that is no number
            encode, content_type = choose_encoder("")
            return encode(_Joined(self._registry, snapshot)), content_type


class _Joined(Collector):
    """The families of the requests, and the gauges of one snapshot."""

    def __init__(self, registry: CollectorRegistry, snapshot: Mapping[str, Any]) -> None:
        self._registry, self._snapshot = registry, snapshot

    def collect(self) -> Iterable[Metric]:
        yield from self._registry.collect()
        yield from gauges(self._snapshot)


def _engine_labels(model: str, route: str, version: str, of: EngineLabels) -> tuple[str, ...]:
    """In the order of `ENGINE_LABELS`."""
    return (model, of.model_size, of.dtype, route, of.tp, of.pp, of.gpu_mode, version, of.engine, of.profile)
