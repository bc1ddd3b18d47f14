"""What the log says of requests: one event of each kind, made from the record when the request has ended.

At level `info` a request that went well is one line, `request_end`. The others come with `debug`, or when
they tell of something unusual.
"""

from __future__ import annotations

import logging
from typing import Any

import structlog

from gpt_oss_triton.telemetry.figures import Figures
from gpt_oss_triton.telemetry.record import RequestRecord

_logger = logging.getLogger(__name__)
_events: structlog.stdlib.BoundLogger = structlog.wrap_logger(
    _logger,
    processors=[structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
    wrapper_class=structlog.stdlib.BoundLogger,
    cache_logger_on_first_use=True,
)
_PROBES = frozenset(
    {"/livez", "/readyz", "/health", "/metrics", "/stats"}
)  # asked all the time: only at debug level


def request_start(record: RequestRecord) -> None:
    _emit(logging.DEBUG, "request_start", record, method=record.method)


def request_end(record: RequestRecord, figures: Figures, *, slow: bool) -> None:
    """All that there is to say of a request that has ended."""
    if record.attempts or record.admission is not None:
        _answer_events(record, figures, slow)
    if record.outcome == "cancelled":
        tokens = record.counts.completion
        _emit(logging.INFO, "request_cancel", record, phase=record.cancel_phase, completion_tokens=tokens)
    elif record.error is not None and (record.status >= 500 or record.status < 400):
        _emit(
            logging.ERROR if record.error == "internal_error" else logging.WARNING, "error", record,
            code=record.error, status=record.status, target=record.target,
            failed=[attempt.failed for attempt in record.attempts if attempt.failed is not None] or None,
        )  # fmt: skip
    _emit(
        logging.DEBUG if record.path in _PROBES else logging.INFO, "request_end", record,
        method=record.method, path=record.route or "unknown", status=record.status, outcome=record.outcome,
        error=record.error, duration_s=figures.e2e_s, ttft_s=figures.ttft_s, key=record.key,
        model=record.model, completion=record.completion_id, stream=record.stream or None,
        priority=record.priority, target=record.target, finish=record.finish_reason,
        prompt_tokens=record.counts.prompt or None, cached_tokens=record.counts.cached or None,
        completion_tokens=record.counts.completion or None, session=record.session, bytes=record.bytes_sent,
    )  # fmt: skip


def _answer_events(record: RequestRecord, figures: Figures, slow: bool) -> None:
    refused = record.admission not in (None, "admitted", "cached")
    _emit(
        logging.INFO if refused else logging.DEBUG, "admission", record,
        decision=record.admission, priority=record.priority, key=record.key, queue_s=figures.shim_queue_s,
        priced_tokens=record.priced_tokens, priced_blocks=record.priced_blocks,
    )  # fmt: skip
    if record.attempts:
        _emit(
            logging.INFO if len(record.attempts) > 1 else logging.DEBUG, "routing", record,
            target=record.target, reason=record.attempts[-1].reason, session_by=record.session_by,
            attempts=[[a.target, a.reason, a.failed] for a in record.attempts],
        )  # fmt: skip
    if record.accepted is None:
        return
    prompt = record.prompt
    _emit(
        logging.DEBUG, "cache", record,
        prompt_cache=None if prompt is None else prompt.cache,
        prompt_cache_reason=None if prompt is None else prompt.cache_reason or None,
        prompt_tokens=record.counts.prompt, cached_tokens=record.counts.cached,
        response_cache=record.response_cache,
    )  # fmt: skip
    _emit(
        logging.INFO if slow else logging.DEBUG, "performance", record,
        ttft_s=figures.ttft_s, e2e_s=figures.e2e_s, tpot_s=figures.tpot_s,
        shim_queue_s=figures.shim_queue_s, engine_queue_s=figures.engine_queue_s,
        output_tokens_per_s=figures.output_tokens_per_s, preemptions=record.preemptions,
        reserved_blocks=record.reserved_blocks, blocks=record.blocks,
    )  # fmt: skip


def memory_pressure(ensemble: str, before: int, level: int, kv_fraction: float) -> None:
    """Degradation of an ensemble has changed its level (0 none, 4 most). `kv_fraction`: of its fullest engine."""
    severity = logging.WARNING if level > before else logging.INFO
    _events.log(
        severity,
        "memory_pressure",
        ensemble=ensemble,
        degradation=level,
        before=before,
        kv_fraction=round(kv_fraction, 3),
    )


def _emit(level: int, kind: str, record: RequestRecord, **fields: Any) -> None:
    """Fields that are None are left out."""
    if not _logger.isEnabledFor(level):
        return
    known = {
        name: round(value, 6) if isinstance(value, float) else value
        for name, value in fields.items()
        if value is not None
    }
    _events.log(level, kind, trace_id=record.trace.trace_hex, request_id=record.request_id, **known)
