"""What is known of one request: filled in on its way, read once at its end.

Spans, metrics and the log all come from this record, so they cannot disagree, and the request's way pays
for none of them. It knows nothing of HTTP frameworks, Triton or exporters. All times are Unix seconds;
None: not reached.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

from gpt_oss_triton.telemetry.token_counts import TokenCounts
from gpt_oss_triton.telemetry.trace_context import TraceContext
from gpt_oss_triton.wire import PromptInfo, Timings

CancelPhase = Literal["admission", "queue", "prefill", "decode"]


@dataclass(slots=True)
class Attempt:
    """One try on one target.

    Attributes:
        reason: why the router chose it.
        failed: code of the error that ended it, if one did.
    """

    target: str
    reason: str
    began: float = field(default_factory=time.time)
    failed: str | None = None


@dataclass(slots=True)
class RequestRecord:
    """Attributes:
    route: the path's template, such as `/v1/models/{model}`; None when no route matched.
    key: name of the API key, never the key.
    model: one that is served; None before it was resolved.
    completion_id: the request's id in the engine.
    session: opaque name of the session, and what it was known by.
    admission: what became of it there: "admitted", or why not.
    priced_tokens, priced_blocks: what admission reckoned with.
    reserved_blocks: KV blocks reserved after the engine has counted the prompt, the cached ones included,
    blocks: and those that the sequence held at its end.
    first_token: when the shim had the first token.
    last_token: and the last one.
    answers: of a request for several, those that have tokens,
    decoding_s: and the sum of their times from the first token to the last; None for a single one.
    status: of the HTTP answer; 0 when none was begun.
    error: `ServiceError.code` of what went wrong, also after the headers.
    """

    request_id: str
    trace: TraceContext
    method: str
    path: str
    started: float = field(default_factory=time.time)
    route: str | None = None
    key: str | None = None
    # what was asked
    model: str | None = None
    completion_id: str | None = None
    stream: bool = False
    session: str | None = None
    session_by: Literal["header", "prompt_cache_key", "prefix"] | None = None
    # admission
    priority: str | None = None
    admission: str | None = None
    queued: float | None = None  # entered the queue
    admitted: float | None = None
    priced_tokens: int = 0
    priced_blocks: int = 0
    # routing and engine
    attempts: list[Attempt] = field(default_factory=list)
    accepted: float | None = None
    computing: bool = False  # no sequence waited in the engine when this one was stopped
    prompt: PromptInfo | None = None
    counts: TokenCounts = field(default_factory=TokenCounts)
    preemptions: int = 0
    reserved_blocks: int = 0
    blocks: int = 0
    first_token: float | None = None
    last_token: float | None = None
    answers: int = 1
    decoding_s: float | None = None
    timings: Timings | None = None
    finish_reason: str | None = None
    response_cache: Literal["hit", "miss"] | None = None
    # the end
    status: int = 0
    error: str | None = None
    bytes_sent: int = 0
    finished: float | None = None

    @property
    def target(self) -> str | None:
        """Name of the target that ran it, or was last to try."""
        return self.attempts[-1].target if self.attempts else None

    @property
    def outcome(self) -> Literal["ok", "error", "cancelled", "rejected"]:
        """Every request ends as exactly one of these."""
        if self.error == "cancelled":
            return "cancelled"
        if self.error in ("overloaded", "rate_limit_exceeded"):
            return "rejected"
        return "error" if self.error is not None or self.status >= 400 or self.status == 0 else "ok"

    @property
    def cancel_phase(self) -> CancelPhase | None:
        """How far a cancelled request had come."""
        if self.outcome != "cancelled":
            return None
        if self.first_token is not None:
            return "decode"
        if self.accepted is None:
            return "admission"
        return "prefill" if self.computing else "queue"
