"""Sends the traces that are kept to an OTLP/HTTP collector, in the background and within bounds.

There are no live spans: a request's spans are made when it has ended and its trace is wanted. So a trace
that is not wanted costs nothing, and none is ever kept in part. Import this module only where
`otlp.traces_url` names a collector: it brings the whole of OpenTelemetry's SDK.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Self

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from gpt_oss_triton import __version__
from gpt_oss_triton.telemetry import otlp
from gpt_oss_triton.telemetry.record import RequestRecord
from gpt_oss_triton.telemetry.spans import SpanTree

log = logging.getLogger(__name__)

MAX_SPANS = 8192  # that wait to be sent; a whole trace that does not fit is dropped
_CLOSE_S = 3.0


class Traces:
    """Takes whole traces or none.

    Args:
        exporter: sends spans; called by a worker thread.
        resource: what made the spans.

    Attributes:
        delivers: the last export has arrived, as far as there was one.
    """

    def __init__(self, exporter: SpanExporter, resource: Resource, max_spans: int = MAX_SPANS) -> None:
        self._resource = resource
        self._max_spans = max_spans
        self._waiting = 0  # spans; the processor itself would drop the oldest ones, of any trace
        self._lock = threading.Lock()
        self.delivers = True
        self._processor = BatchSpanProcessor(_Reporting(exporter, self._sent), max_queue_size=max_spans)

    @classmethod
    def to_collector(cls, url: str, environment: Mapping[str, str]) -> Self:
        """To the collector that takes spans at `url`; all else as OpenTelemetry's variables say."""
        otlp.warn_of_protocol(environment)
        resource = Resource.create({SERVICE_VERSION: __version__})
        if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: otlp.DEFAULT_SERVICE}))
        return cls(OTLPSpanExporter(endpoint=url), resource)

    def take(self, record: RequestRecord) -> bool:
        """Send the trace of a request that has ended; False when there is no room for it."""
        spans = SpanTree(record, self._resource).spans()
        with self._lock:
            if self._waiting + len(spans) > self._max_spans:
                return False
            self._waiting += len(spans)
        for span in spans:
            self._processor.on_end(span)
        return True

    def flush(self) -> None:
        """Send all that waits; returns when it was sent or has failed."""
        self._processor.force_flush()

    def close(self) -> None:
        """Send what waits, unless that takes longer than a few seconds."""
        ending = threading.Thread(target=self._processor.shutdown, name="traces-end", daemon=True)
        ending.start()
        ending.join(_CLOSE_S)
        if ending.is_alive():
            log.warning("some traces were not sent: the collector is slow or does not answer")

    def _sent(self, count: int, arrived: bool) -> None:
        self.delivers = arrived
        with self._lock:
            self._waiting -= count


class _Reporting(SpanExporter):
    """Tells how many spans have left the queue, and whether they arrived."""

    def __init__(self, exporter: SpanExporter, on_sent: Callable[[int, bool], None]) -> None:
        self._exporter, self._on_sent = exporter, on_sent

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            self._on_sent(len(spans), result is SpanExportResult.SUCCESS)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()
