"""What an engine has done since it started."""

from __future__ import annotations

import time
from collections import deque

RATE_WINDOW_S = 5.0  # what `rate` looks back on


class Counters:
    """Totals. Used under the engine's lock."""

    def __init__(self) -> None:
        self.steps = 0
        self.failed_steps = 0
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.output_tokens = 0
        self._recent: deque[tuple[float, int]] = deque()  # (when, output tokens) of the last steps

    def count_step(self, output_tokens: int) -> None:
        self.steps += 1
        self.output_tokens += output_tokens
        self._recent.append((time.monotonic(), output_tokens))
        self._forget_old()

    def count_prompt(self, tokens: int, cached: int) -> None:
        self.prompt_tokens += tokens
        self.cached_tokens += cached

    def rate(self) -> float:
        """Output tokens per second over the last few seconds."""
        self._forget_old()
        return sum(tokens for _, tokens in self._recent) / RATE_WINDOW_S

    def _forget_old(self) -> None:
        while self._recent and self._recent[0][0] < time.monotonic() - RATE_WINDOW_S:
            self._recent.popleft()
