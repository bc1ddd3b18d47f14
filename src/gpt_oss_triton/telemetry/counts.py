"""Totals since the start, for `/stats`: plain numbers that need no metrics library to be read."""

from __future__ import annotations

from collections import Counter
from typing import Any, get_args

from gpt_oss_triton.harmony.rendered_cache import MissReason
from gpt_oss_triton.telemetry.record import RequestRecord

REASONS = frozenset(get_args(MissReason))


def miss_reason(reason: str) -> str:
    """One of `REASONS`, or `other`."""
    return reason if reason in REASONS else "other"


class Counts:
    """Of the requests for an answer, those that have ended and those that run.

    accepted = ok + error + cancelled + in flight, and every request is accepted or rejected.

    Attributes:
        in_flight: until the last byte of the answer is on its way.
    """

    def __init__(self) -> None:
        self._begun = 0
        self.in_flight = 0
        self._outcomes: Counter[str] = Counter()
        self._phases: Counter[str] = Counter()
        self._prompt_hits = 0
        self._prompt_misses: Counter[str] = Counter()
        self._prompt_tokens = 0
        self._cached_tokens = 0

    def begin(self) -> None:
        self._begun += 1
        self.in_flight += 1

    def finish(self, record: RequestRecord) -> None:
        self.in_flight -= 1
        self._outcomes[record.outcome] += 1
        if (phase := record.cancel_phase) is not None:
            self._phases[phase] += 1
        if record.prompt is not None and record.prompt.cache == "hit":
            self._prompt_hits += 1
        elif record.prompt is not None:
            self._prompt_misses[miss_reason(record.prompt.cache_reason)] += 1
        # The response cache has a counter of its own; a prompt that only waited was never computed.
        if record.response_cache != "hit" and record.first_token is not None:
            self._prompt_tokens += record.counts.prompt
            self._cached_tokens += record.counts.cached

    def summary(self) -> dict[str, Any]:
        """The snapshot's parts `requests`, `prompt_cache` and `prefix_cache`."""
        rejected = self._outcomes["rejected"]
        prompt, cached = self._prompt_tokens, self._cached_tokens
        return {
            "requests": {
                "accepted": self._begun - rejected,
                "ok": self._outcomes["ok"],
                "error": self._outcomes["error"],
                "cancelled": self._outcomes["cancelled"],
                "rejected": rejected,
                "in_flight": self.in_flight,
                "cancelled_by_phase": dict(self._phases),
            },
            "prompt_cache": {"hits": self._prompt_hits, "misses": dict(self._prompt_misses)},
            "prefix_cache": {
                "prompt_tokens": prompt,
                "cached_tokens": cached,
                "hit_ratio": cached / prompt if prompt else 0.0,
            },
        }
