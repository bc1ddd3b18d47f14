"""The series of one combination of the engine's labels, looked up once: that costs more than counting."""

from __future__ import annotations

from prometheus_client import Histogram

from gpt_oss_triton.telemetry.families import EngineFamilies, LegacyFamilies
from gpt_oss_triton.telemetry.figures import Figures
from gpt_oss_triton.telemetry.record import RequestRecord

Exemplar = dict[str, str] | None


class EngineSeries:
    """Args:
    labels: values for `ENGINE_LABELS`, in their order.
    """

    def __init__(
        self, families: EngineFamilies, legacy: LegacyFamilies | None, labels: tuple[str, ...]
    ) -> None:
        self._ttft = families.ttft.labels(*labels)
        self._e2e = families.e2e.labels(*labels)
        self._tpot = families.tpot.labels(*labels)
        self._shim_queue = families.queue.labels(*labels, "shim")
        self._engine_queue = families.queue.labels(*labels, "engine")
        self._rate = families.rate.labels(*labels)
        self._prefill = families.prefill.labels(*labels)
        self._decode = families.decode.labels(*labels)
        self._cached = families.cached.labels(*labels)
        self._preemptions = families.preemptions.labels(*labels)
        self._legacy = _LegacySeries(legacy, labels) if legacy is not None else None

    def count(self, record: RequestRecord, figures: Figures, exemplar: Exemplar) -> None:
        """A request that an engine had accepted."""
        _observe(self._ttft, figures.ttft_s, exemplar)
        _observe(self._tpot, figures.tpot_s, exemplar)
        _observe(self._shim_queue, figures.shim_queue_s, exemplar)
        _observe(self._engine_queue, figures.engine_queue_s, exemplar)
        if record.finish_reason is not None:  # how long a broken answer took says nothing
            _observe(self._e2e, figures.e2e_s, exemplar)
            _observe(self._rate, figures.output_tokens_per_s, exemplar)
        if self._legacy is not None:
            self._legacy.count(record, figures, exemplar)
        counts = record.counts
        if record.first_token is not None:  # else its prompt may never have been computed
            self._prefill.inc(max(counts.prompt - counts.cached, 0))
            self._cached.inc(counts.cached)
        self._decode.inc(counts.completion)
        self._preemptions.inc(record.preemptions)


class _LegacySeries:
    def __init__(self, families: LegacyFamilies, labels: tuple[str, ...]) -> None:
        self._ttft = families.ttft.labels(*labels)
        self._e2e = families.e2e.labels(*labels)
        self._rate = families.rate.labels(*labels)

    def count(self, record: RequestRecord, figures: Figures, exemplar: Exemplar) -> None:
        _observe(self._ttft, figures.ttft_s, exemplar, 1e3)
        if record.finish_reason is not None:
            _observe(self._e2e, figures.e2e_s, exemplar, 1e3)
            _observe(self._rate, figures.output_tokens_per_s, exemplar)


def _observe(histogram: Histogram, value: float | None, exemplar: Exemplar, scale: float = 1.0) -> None:
    if value is not None:
        histogram.observe(value * scale, exemplar)
