"""The state of the server at one moment: the one source of `/stats`, the gauges of `/metrics` and the bundle."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Any

import msgspec
import psutil

from gpt_oss_triton import __version__

if TYPE_CHECKING:
    from frontend.routing.target import Target
    from frontend.service import Service
    from gpt_oss_triton.wire import Load


def snapshot(service: Service) -> dict[str, Any]:
    """JSON-ready. Nothing in it is secret; settings are apart, in `settings_in_use`."""
    telemetry = service.telemetry
    why_not = service.problems()
    problems = [
        *why_not,
        *(f"{t.watch.engine} ({t.name}): {t.problem}" for t in service.targets if t.problem),
    ]
    return {
        "version": __version__,
        "time": time.time(),
        "uptime_s": time.monotonic() - service.started,
        "ready": not why_not,
        "problems": list(dict.fromkeys(problems)),
        "draining": service.draining,
        "pid": os.getpid(),
        "event_loop_lag_s": telemetry.loop_lag.worst_s,
        **telemetry.counts(),
        "latency": telemetry.recent(),
        "admission": service.admission.stats(),
        "routing": service.router.stats(),
        "sessions": service.sessions.stats(),
        "response_cache": service.response_cache.stats(),
        "engines": [_engine(target) for target in service.targets],
        "gpus": telemetry.gpus.figures(),
        "memory": _memory(service),
    }


def settings_in_use(service: Service) -> dict[str, dict[str, Any]]:
    """Every setting of the shim with its value and where that came from; secrets are masked."""
    settings = {
        name: {"value": value, "origin": origin}
        for name, (value, origin) in service.settings.explain().items()
    }
    if (level := log_level()) != service.settings.log_level:
        settings["log_level"] = {"value": level, "origin": "/admin/log-level"}
    return settings


def log_level() -> str:
    """What is logged now: `debug`, `info`, `warning` or `error`."""
    return logging.getLevelName(logging.getLogger().getEffectiveLevel()).lower()


def kv_map(service: Service) -> dict[str, dict[str, Any] | None]:
    """How each target's KV blocks are used; None for an engine that is lost."""
    return {
        target.name: None if target.load is None else _kv(target.load, target.capacity.blocks_reserved)
        for target in service.targets
    }


def _kv(load: Load, reserved: int) -> dict[str, Any]:
    blocks = {
        "total": load.blocks_total,
        "used": load.blocks_used,
        "cached": load.blocks_cached,
        "leased": load.blocks_leased,
        "free": load.blocks_total - load.blocks_used - load.blocks_cached,
        "reserved_by_shim": reserved,
    }
    return {
        "tokens_per_block": load.block_size,
        "window_tokens": load.block_window,
        "bytes_per_block": load.block_bytes,
        "blocks": blocks,
        "bytes": {name: count * load.block_bytes for name, count in blocks.items()},
        "sequences": {"running": load.running, "waiting": load.waiting, "preemptions": load.preemptions},
        "leases": {"now": load.leases, "ended": load.leases_ended},
    }


def _engine(target: Target) -> dict[str, Any]:
    return {
        "target": target.name,
        "model": target.ensemble,
        "ready": target.problem is None,
        "problem": target.problem,
        "breaker": target.breaker.state,
        "in_flight": target.watch.in_flight,
        "silence_s": target.watch.silence_s,
        "limit": target.capacity.limit,
        "blocks_reserved": target.capacity.blocks_reserved,
        "load": msgspec.to_builtins(target.load),
    }


def _memory(service: Service) -> dict[str, int]:
    system = psutil.virtual_memory()
    loads = [target.load for target in service.targets if target.load is not None]
    return {
        "rss_bytes": psutil.Process().memory_info().rss,
        "system_total_bytes": system.total,
        "system_available_bytes": system.available,
        "kv_bytes_in_use": sum(load.blocks_used * load.block_bytes for load in loads),
        "kv_bytes_total": sum(load.blocks_total * load.block_bytes for load in loads),
    }
