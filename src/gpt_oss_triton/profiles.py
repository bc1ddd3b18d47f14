"""Named presets: what a profile sets where nobody else has.

A profile is a choice between the wait of one caller and the throughput of all. Each line stands in for a
default of `config.py`; an argument, a variable or a file overrides it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

ProfileName = Literal["balanced", "latency_first", "quality_first"]

PROFILES: Mapping[ProfileName, Mapping[str, Any]] = {
    # The defaults are this profile.
    "balanced": {},
    # Short steps and few neighbours: a new request waits for little, a running one is seldom slowed.
    "latency_first": {
        "max_sequences": 16,
        "max_waiting": 32,
        "max_step_tokens": 256,
        "default_max_tokens": 1024,
        "request_timeout_s": 120.0,
        "max_queue": 64,
        "queue_wait_s": 2.0,
        "output_reserve_tokens": 512,
        "default_reasoning_effort": "low",
    },
    # Room for long prompts and long reasoning: few sequences, each of which may keep the engine for long.
    "quality_first": {
        "max_sequences": 8,
        "max_waiting": 64,
        "max_step_tokens": 2048,
        "request_timeout_s": 1800.0,
        "queue_wait_s": 30.0,
        "output_reserve_tokens": 4096,
        "default_reasoning_effort": "high",
    },
}
