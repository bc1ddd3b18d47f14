"""Records of requests as the shim leaves them."""

from __future__ import annotations

from typing import Any

from gpt_oss_triton.telemetry.record import Attempt, RequestRecord
from gpt_oss_triton.telemetry.token_counts import TokenCounts
from gpt_oss_triton.telemetry.trace_context import TraceContext
from gpt_oss_triton.wire import PromptInfo, Timings

MODEL = "gpt-oss-20b"
ROUTE = "/v1/chat/completions"
BEGAN = 1_000_000.0


def answered(**changes: Any) -> RequestRecord:
    """A streamed answer that went well: 0.1 s in the shim's queue, 0.2 s in the engine's, first token
    after 1 s, 11 tokens in 2 s."""
    t = BEGAN
    fields: dict[str, Any] = {
        "request_id": "request-1", "trace": TraceContext.new(), "method": "POST", "path": ROUTE, "started": t,
        "route": ROUTE, "key": "default", "model": MODEL, "completion_id": "chatcmpl-1", "stream": True,
        "session": "session-1", "session_by": "header", "priority": "normal", "admission": "admitted",
        "queued": t + 0.1, "admitted": t + 0.2, "priced_tokens": 100, "priced_blocks": 7,
        "attempts": [Attempt("local", "affinity", began=t + 0.2)], "accepted": t + 0.4,
        "prompt": PromptInfo("aa", "bb", "v1", "miss", "new", started=t + 0.25, finished=t + 0.3),
        "counts": TokenCounts(prompt=50, cached=32, completion=11, reasoning=4), "blocks": 4,
        "first_token": t + 1.0, "last_token": t + 1.9,
        "timings": Timings(t + 0.35, t + 0.55, t + 0.95, t + 1.85),
        "finish_reason": "stop", "status": 200, "bytes_sent": 1000, "finished": t + 2.0,
    }  # fmt: skip
    return RequestRecord(**{**fields, **changes})


def refused(**changes: Any) -> RequestRecord:
    """A request that admission did not let in."""
    fields: dict[str, Any] = {
        "request_id": "request-2", "trace": TraceContext.new(), "method": "POST", "path": ROUTE,
        "started": BEGAN, "route": ROUTE, "model": MODEL, "priority": "low", "admission": "queue_full",
        "status": 429, "error": "overloaded", "finished": BEGAN + 0.01,
    }  # fmt: skip
    return RequestRecord(**{**fields, **changes})


SNAPSHOT: dict[str, Any] = {
    "version": "0.1.0", "time": BEGAN, "uptime_s": 5.0, "ready": True, "problems": [], "draining": False,
    "pid": 1, "event_loop_lag_s": 0.002,
    "requests": {"accepted": 3, "ok": 1, "error": 0, "cancelled": 0, "rejected": 0, "in_flight": 2, "cancelled_by_phase": {}},
    "latency": {},
    "admission": {
        "queued": 3, "queued_by_priority": {"high": 0, "normal": 2, "low": 1}, "max_queue": 256, "level": 1,
        "queue_wait_limit_s": 2.5, "service_rate": 1.0, "decisions": {"admitted": 1}, "bookings": 0,
    },
    "routing": {
        "policy": "affinity", "decisions": {"local": {"only": 1}}, "route4_gpu_requests": 1,
        "route4_percentage": 25.0, "route4_triggers": {"large_prompt": 1, "large_kv": 0, "memory_pressure": 0},
        "gpu_balance": {"local": 1.0},
    },
    "sessions": {"active": 4, "created_total": 9, "ended_total": {"idle": 3, "pressure": 2}, "returned_total": 6},
    "prompt_cache": {"hits": 0, "misses": {}},
    "prefix_cache": {"prompt_tokens": 0, "cached_tokens": 0, "hit_ratio": 0.0},
    "response_cache": {"entries": 0, "hits": 0, "misses": 0},
    "engines": [
        {
            "target": "local", "model": MODEL, "ready": True, "problem": None, "breaker": "closed",
            "in_flight": 2, "silence_s": 0.1, "limit": 8, "blocks_reserved": 10,
            "load": {
                "running": 2, "waiting": 1, "blocks_used": 10, "blocks_cached": 5, "blocks_total": 64,
                "blocks_leased": 2, "block_bytes": 1024, "step_age_s": 0.01,
                "drafted_tokens": 40, "accepted_tokens": 30,
            },
        },
        {
            "target": "far", "model": MODEL, "ready": False, "problem": "silent", "breaker": "open",
            "in_flight": 0, "silence_s": 7.0, "limit": 8, "blocks_reserved": 0, "load": None,
        },
    ],
    "gpus": [
        {"index": 0, "name": "GPU A", "utilization": 0.5, "memory_used_bytes": 100, "memory_total_bytes": 400},
        {"index": 1, "name": "GPU B", "utilization": None, "memory_used_bytes": 50, "memory_total_bytes": 400},
    ],
    "memory": {
        "rss_bytes": 1, "system_total_bytes": 2, "system_available_bytes": 1, "kv_bytes_in_use": 10240,
        "kv_bytes_total": 65536,
    },
}  # fmt: skip
