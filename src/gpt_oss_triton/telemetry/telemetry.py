"""All telemetry of one shim: a request is counted, traced and logged here, once, when it has ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from gpt_oss_triton.config import FrontendSettings
from gpt_oss_triton.telemetry import events, genai, otlp
from gpt_oss_triton.telemetry.counts import Counts
from gpt_oss_triton.telemetry.figures import Figures
from gpt_oss_triton.telemetry.gpus import Gpus
from gpt_oss_triton.telemetry.labels import EngineLabels, LabelsOf
from gpt_oss_triton.telemetry.loop_lag import LoopLag
from gpt_oss_triton.telemetry.metrics import Metrics
from gpt_oss_triton.telemetry.recent import Recent
from gpt_oss_triton.telemetry.record import RequestRecord
from gpt_oss_triton.telemetry.sampling import Sampler
from gpt_oss_triton.telemetry.trace_context import TraceContext

if TYPE_CHECKING:
    from gpt_oss_triton.telemetry.traces import Traces

log = logging.getLogger(__name__)


def _unknown_engine(record: RequestRecord) -> EngineLabels:
    return EngineLabels()


class Telemetry:
    """Belongs to the thread of the event loop.

    Args:
        labels_of: the labels of the engine that ran a request.

    Attributes:
        gpus: figures of this machine's GPUs, while `running`.
        loop_lag: of the event loop, while `running`.
    """

    def __init__(self, settings: FrontendSettings, labels_of: LabelsOf = _unknown_engine) -> None:
        self._labels_of = labels_of
        self._metrics = Metrics(settings) if settings.metrics else None
        self._sampler = Sampler.of(settings)
        self._traces = _traces(os.environ)
        self._recent = Recent()
        self._counts = Counts()
        self._rendering = asyncio.Lock()
        self.gpus = Gpus()
        self.loop_lag = LoopLag()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """What measures by itself; at the end, what waits is sent."""
        measuring = asyncio.create_task(self.loop_lag.run(), name="loop lag")
        self.gpus.start()
        try:
            yield
        finally:
            measuring.cancel()
            self.gpus.stop()
            await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Send the traces that wait; takes a few seconds at most."""
        if self._traces is not None:
            self._traces.close()

    def begin(self, record: RequestRecord) -> None:
        """A request has come; `finish` has to follow."""
        if _wants_answer(record):
            self._counts.begin()
        events.request_start(record)

    def finish(self, record: RequestRecord) -> None:
        """A request has ended, one way or another."""
        if record.finished is None:
            record.finished = time.time()
        figures = Figures.of(record)
        if _wants_answer(record):
            self._counts.finish(record)
            if record.finish_reason is not None:
                self._recent.add(figures, record.counts.completion)
            kept = self._trace(record, figures)
            if self._metrics is not None:
                trace_id = record.trace.trace_hex if kept else None
                self._metrics.count(record, figures, self._labels_of(record), trace_id)
        if self._metrics is not None:
            self._metrics.count_http(record)
        events.request_end(record, figures, slow=figures.e2e_s > self._sampler.slow_s)

    def keeps(self, trace: TraceContext) -> bool:
        """Whether the request's trace is kept however it ends, so that others may add their spans to it."""
        return self._traces is not None and self._sampler.surely_keeps(trace)

    def recent(self) -> dict[str, Any]:
        """The snapshot's part `latency`."""
        return self._recent.summary()

    @property
    def in_flight(self) -> int:
        """Requests for an answer that have not been answered whole."""
        return self._counts.in_flight

    def counts(self) -> dict[str, Any]:
        """The snapshot's parts `requests`, `prompt_cache` and `prefix_cache`."""
        return self._counts.summary()

    async def exposition(self, accept: str, snapshot: Mapping[str, Any]) -> tuple[bytes, str] | None:
        """The metrics in the form that an `Accept` header asks for, and its content type; None when they are
        switched off. Made in a thread, so that requests need not wait, and for one scraper at a time."""
        if self._metrics is None:
            return None
        async with self._rendering:
            return await asyncio.to_thread(self._metrics.render, accept, snapshot)

    def _trace(self, record: RequestRecord, figures: Figures) -> bool:
        """Whether the request's trace is sure to be found, as far as can be known."""
        if self._traces is None:
            return False
        kind = self._sampler.kind(record, figures.e2e_s)
        wanted = self._sampler.keeps(record.trace, kind)
        taken = wanted and self._traces.take(record)
        if self._metrics is not None:
            self._metrics.count_trace(kind, "kept" if taken else "dropped" if wanted else "left_out")
        return taken and self._traces.delivers


def _wants_answer(record: RequestRecord) -> bool:
    """By what was sent: a request that is refused before it is routed counts as well."""
    return record.method == "POST" and record.path in genai.ROOT_SPANS


def _traces(environment: Mapping[str, str]) -> Traces | None:
    url = otlp.traces_url(environment)
    if url is None:
        return None
    from gpt_oss_triton.telemetry.traces import Traces  # the library is large, and few servers have traces

    return Traces.to_collector(url, environment)
