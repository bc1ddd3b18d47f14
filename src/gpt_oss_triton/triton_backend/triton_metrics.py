"""The engine's figures on Triton's own metrics port, for those who scrape Triton.

Each update is a round trip to the server process, so the ticker makes all of them in one go, and only where
a figure has changed. Triton 2.51 may crash, the whole server, when it refuses one (a counter that would go
down, a name that is taken by another kind): nothing is ever sent that it could refuse.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import triton_python_backend_utils as pb_utils

from gpt_oss_triton.errors import ServiceError
from gpt_oss_triton.triton_backend.failure_log import log_failure
from gpt_oss_triton.wire import Load, Timings

_INTERVAL_S = 1.0
_PREFIX = "gpt_oss_engine_"
_MAX_SAMPLES = 512  # of a histogram between two updates; beyond that the oldest are left out

# name: (what it is, where a Load has it)
_Figures = Mapping[str, tuple[str, Callable[[Load], float]]]
GAUGES: _Figures = {
    "running": ("Sequences that are computed.", lambda load: load.running),
    "waiting": ("Sequences that were accepted and wait to be computed.", lambda load: load.waiting),
    "longest_wait_seconds": ("Wait of the one that waits longest.", lambda load: load.queue_wait_s),
    "prefill_tokens_left": ("Accepted and not yet computed.", lambda load: load.prefill_tokens_left),
    "kv_blocks_total": ("Blocks of the KV cache.", lambda load: load.blocks_total),
    "kv_blocks_used": ("Those that sequences hold.", lambda load: load.blocks_used),
    "kv_blocks_cached": ("Those that nobody holds, with a reusable prefix.", lambda load: load.blocks_cached),
    "kv_blocks_leased": ("The cached ones that a session's lease keeps.", lambda load: load.blocks_leased),
    "leases": ("Sessions that have a lease.", lambda load: load.leases),
    "step_age_seconds": ("Since the running step began; 0 when idle.", lambda load: load.step_age_s),
    # An engine whose process was killed leaves its figures behind.
    "reported_timestamp_seconds": ("Unix time of these figures.", lambda load: time.time()),
}
COUNTERS: _Figures = {
    "prompt_tokens_total": ("Tokens of all prompts.", lambda load: load.prompt_tokens),
    "cached_tokens_total": ("Those of them that the prefix cache held.", lambda load: load.cached_tokens),
    "output_tokens_total": ("Tokens sampled.", lambda load: load.output_tokens),
    "drafted_tokens_total": ("Tokens guessed by speculation.", lambda load: load.drafted_tokens),
    "accepted_tokens_total": ("Those of them that were right.", lambda load: load.accepted_tokens),
    "preemptions_total": ("Sequences that gave up their blocks for others.", lambda load: load.preemptions),
    "steps_total": ("Steps computed.", lambda load: load.steps),
    "failed_steps_total": ("Steps that failed.", lambda load: load.failed_steps),
}
HISTOGRAMS = {
    "queue_seconds": "From a request's arrival in the engine to its first computed token.",
    "ttft_seconds": "From a request's arrival in the engine to its first output token.",
}
BUCKETS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0]  # seconds


@dataclass(slots=True)
class _Figure:
    metric: Any
    read: Callable[[Load], float]
    sent: float  # what Triton has of this engine's life


class TritonMetrics:
    """Attributes:
    enabled: Triton takes custom metrics, and took these.
    """

    def __init__(self, load: Callable[[], Load], labels: Mapping[str, str]) -> None:
        self._load = load
        self._labels = dict(labels)
        self._families: list[Any] = []
        self._gauges: list[_Figure] = []
        self._counters: list[_Figure] = []
        self._histograms: dict[str, Any] = {}
        self._samples: deque[tuple[str, float]] = deque(maxlen=len(HISTOGRAMS) * _MAX_SAMPLES)
        self.enabled = hasattr(pb_utils, "MetricFamily")
        try:
            if self.enabled:
                self._create(pb_utils.MetricFamily)
        except pb_utils.TritonModelException as error:
            log_failure("Triton takes no metrics of the engine", error)
            self.close()

    def note(self, timings: Timings) -> None:
        """A request has ended. Any thread; cheap."""
        if timings.scheduled is not None:
            self._samples.append(("queue_seconds", timings.scheduled - timings.arrived))
        if timings.first_token is not None:
            self._samples.append(("ttft_seconds", timings.first_token - timings.arrived))

    def update(self) -> float | None:
        """The ticker's task: send what has changed."""
        if not self.enabled:
            return None
        try:
            load = self._load()
        except ServiceError:  # the engine broke for good; its last figures stay
            return None
        for gauge in self._gauges:
            if (value := gauge.read(load)) != gauge.sent:
                gauge.metric.set(value)
                gauge.sent = value
        for counter in self._counters:
            if (value := counter.read(load)) > counter.sent:
                counter.metric.increment(value - counter.sent)
                counter.sent = value
        for _ in range(len(self._samples)):
            name, seconds = self._samples.popleft()
            if name in self._histograms:
                self._histograms[name].observe(max(0.0, seconds))
        return _INTERVAL_S

    def close(self) -> None:
        """Take the metrics off Triton's port. Call it when the ticker has ended."""
        self.enabled = False
        # Metrics before their families: Triton wants them to go in this order.
        self._gauges, self._counters, self._histograms = [], [], {}
        self._families = []

    def _create(self, kinds: Any) -> None:
        for name, (description, read) in GAUGES.items():
            self._gauges.append(_Figure(self._metric(name, description, kinds.GAUGE), read, math.nan))
        for name, (description, read) in COUNTERS.items():
            self._counters.append(_Figure(self._metric(name, description, kinds.COUNTER), read, 0.0))
        if hasattr(kinds, "HISTOGRAM"):  # older Tritons have none
            for name, description in HISTOGRAMS.items():
                self._histograms[name] = self._metric(name, description, kinds.HISTOGRAM, buckets=BUCKETS)

    def _metric(self, name: str, description: str, kind: Any, **options: Any) -> Any:
        family = pb_utils.MetricFamily(name=_PREFIX + name, description=description, kind=kind)
        self._families.append(family)
        return family.Metric(labels=self._labels, **options)
