"""What can become of a request at admission: the fixed set of reasons that is counted, logged and measured."""

from __future__ import annotations

from typing import Literal

from gpt_oss_triton.errors import ServiceError

Decision = Literal[
    "admitted",
    "cached",  # answered without an engine
    "draining",
    "rate_requests",  # the caller's limits
    "rate_tokens",
    "rate_concurrency",
    "too_early",  # it came back before its turn
    "shed",  # its class is refused under pressure
    "queue_full",
    "wait",  # it would have waited too long
    "deadline",
    "unavailable",  # no engine can take requests
    "cancelled",
]


class Refusal(Exception):
    """Stays inside of admission, whose callers get the `error`."""

    def __init__(self, reason: Decision, error: ServiceError) -> None:
        super().__init__(reason)
        self.reason = reason
        self.error = error
