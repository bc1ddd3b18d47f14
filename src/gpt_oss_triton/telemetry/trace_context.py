"""W3C trace context: which trace a request belongs to."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Self

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


@dataclass(frozen=True, slots=True)
class TraceContext:
    """One span's place in a trace.

    Attributes:
        parent_id: the caller's span, or None when the trace begins here.
    """

    trace_id: int  # 128 bits, not 0
    span_id: int  # 64 bits, not 0
    parent_id: int | None = None

    @classmethod
    def new(cls) -> Self:
        return cls(_random_id(128), _random_id(64))

    @classmethod
    def of_header(cls, traceparent: str) -> Self:
        """A span under the caller's; a new trace where the header is missing or wrong."""
        match = _TRACEPARENT.fullmatch(traceparent)
        if match is None or match[1] == "ff" or (match[1] == "00" and match[5]):
            return cls.new()
        trace_id, parent_id = int(match[2], 16), int(match[3], 16)
        if not trace_id or not parent_id:
            return cls.new()
        return cls(trace_id, _random_id(64), parent_id)

    @property
    def trace_hex(self) -> str:
        return f"{self.trace_id:032x}"

    def header(self, *, sampled: bool) -> str:
        """`traceparent` for what runs under this span."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{'01' if sampled else '00'}"


def _random_id(bits: int) -> int:
    return secrets.randbits(bits) or 1
