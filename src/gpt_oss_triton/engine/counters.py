"""What an engine has done since it started."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable

RATE_WINDOW_S = 5.0  # what the rates look back on


class Counters:
    """Totals and rates. Used under the engine's lock.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.steps = 0
        self.failed_steps = 0
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.output_tokens = 0
        self.drafted_tokens = 0
        self.accepted_tokens = 0
        self._clock = clock
        self._recent: deque[tuple[float, int]] = deque()  # (when, output tokens) of the last steps
        # (when, prompt tokens, seconds) of the last steps that had prompt tokens
        self._prefills: deque[tuple[float, int, float]] = deque()

    def count_step(self, *, output_tokens: int, prompt_tokens: int, seconds: float) -> None:
        """A step that took `seconds`, sampled `output_tokens` and computed `prompt_tokens`."""
        now = self._clock()
        self.steps += 1
        self.output_tokens += output_tokens
        self._recent.append((now, output_tokens))
        self._forget_old()
        if prompt_tokens:
            self._prefills.append((now, prompt_tokens, seconds))
            while self._prefills[0][0] < now - RATE_WINDOW_S:
                self._prefills.popleft()

    def count_prompt(self, tokens: int, cached: int) -> None:
        self.prompt_tokens += tokens
        self.cached_tokens += cached

    def count_draft(self, drafted: int, accepted: int) -> None:
        self.drafted_tokens += drafted
        self.accepted_tokens += accepted

    def rate(self) -> float:
        """Output tokens per second over the last few seconds."""
        self._forget_old()
        return sum(tokens for _, tokens in self._recent) / RATE_WINDOW_S

    def prefill_rate(self) -> float:
        """Prompt tokens per second of the steps that computed any, over the last few seconds that had such;
        0 before the first. What a prompt that comes now can expect, however long the engine was idle."""
        seconds = sum(seconds for _, _, seconds in self._prefills)
        return sum(tokens for _, tokens, _ in self._prefills) / seconds if seconds else 0.0

    def _forget_old(self) -> None:
        while self._recent and self._recent[0][0] < self._clock() - RATE_WINDOW_S:
            self._recent.popleft()


def longest_wait(arrivals: Iterable[float]) -> float:
    """Seconds since the first of the waiting requests came; 0 where none waits.

    Args:
        arrivals: Unix seconds.
    """
    return max(0.0, time.time() - min(arrivals, default=time.time()))
