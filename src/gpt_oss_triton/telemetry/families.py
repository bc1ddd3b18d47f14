"""The metrics that requests make, by name. Base units; buckets that reach minutes.

Those of `EngineFamilies` carry the labels of the engine that ran a request; those of `RequestFamilies` also
count what no engine has seen.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

ENGINE_LABELS = (
    "model_id", "model_size", "dtype", "route", "tp", "pp", "gpu_mode", "prompt_version", "engine", "profile",
)  # fmt: skip
_FIRST_TOKEN_S = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300,
)  # fmt: skip
_END_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800)
_TOKEN_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5)
_QUEUE_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_RATE = (0.5, 1, 2.5, 5, 10, 15, 20, 30, 50, 75, 100, 150, 200, 300, 500)


class EngineFamilies:
    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str) -> Counter:
            return Counter(name, text, ENGINE_LABELS, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(name, text, (*ENGINE_LABELS, *labels), buckets=buckets, registry=registry)

        self.ttft = histogram("llm_ttft_seconds", "From the request to its first token.", _FIRST_TOKEN_S)
        self.e2e = histogram("llm_e2e_seconds", "From the request to the end of its answer.", _END_S)
        self.tpot = histogram("llm_tpot_seconds", "Time per output token after the first.", _TOKEN_S)
        self.queue = histogram("llm_queue_seconds", "Waiting in the shim, in the engine.", _QUEUE_S, "stage")
        self.rate = histogram("llm_output_tokens_per_second", "Of an answer over its whole time.", _RATE)
        self.prefill = counter("llm_prefill_tokens_total", "Prompt tokens computed.")
        self.decode = counter("llm_decode_tokens_total", "Tokens generated.")
        self.cached = counter("llm_cached_tokens_total", "Prompt tokens from the KV cache.")
        self.preemptions = counter("llm_preemptions_total", "Sequences set back for want of KV.")


class LegacyFamilies:
    """The server before counted in milliseconds: its names, for dashboards that still ask for them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, text, ENGINE_LABELS, buckets=buckets, registry=registry)

        def ms(seconds: tuple[float, ...]) -> tuple[float, ...]:
            return tuple(1e3 * bound for bound in seconds)

        self.ttft = histogram("llm_ttft_ms", "llm_ttft_seconds, in ms.", ms(_FIRST_TOKEN_S))
        self.e2e = histogram("llm_e2e_ms", "llm_e2e_seconds, in ms.", ms(_END_S))
        self.rate = histogram("llm_tokens_per_sec", "llm_output_tokens_per_second.", _RATE)


class RequestFamilies:
    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, labels: str) -> Counter:
            return Counter(name, text, labels.split(), registry=registry)

        self.requests = counter(
            "llm_requests_total", "Requests that have ended.", "model_id route profile outcome code"
        )
        self.admission = counter(
            "llm_admission_total", "Decisions on requests.", "model_id priority decision"
        )
        self.routing = counter("llm_routing_total", "Attempts, by target and why it.", "target reason")
        self.cancelled = counter("llm_cancelled_total", "How far they had come.", "model_id phase")
        self.prefix_hit = counter(
            "llm_prefix_cache_hit_total", "Who found KV, by how the session was known.", "model_id reason"
        )
        self.prompt_cache = counter(
            "llm_prompt_cache_total", "Look-ups of rendered prompts.", "model_id result reason"
        )
        self.response_cache = counter(
            "llm_response_cache_total", "Look-ups of whole answers.", "model_id result"
        )
        self.sse_bytes = counter("llm_sse_bytes_total", "Bytes of event streams sent.", "model_id route")
        self.traces = counter("llm_traces_total", "Traces, by what became of them.", "kind result")
        self.http = counter("llm_http_requests_total", "All HTTP requests, whatever for.", "route status")
