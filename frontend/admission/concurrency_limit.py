"""How many requests one engine runs best at once: no more than its throughput gains by (see `throughput`), and of those
by additive increase and multiplicative decrease what it takes without a wait. Of a burst it takes all the same.

The signal is how long requests wait inside the engine, which says that there are too many, and never how
long they take, which says only that their answers are long. A wait of a few steps is normal: who arrives
waits for the running step, and then for the prompts that came before. A burst waits longer, and then no more: only
longer waits that do not end for two seconds are a sign (so CoDel tells a good queue from a bad one, RFC 8289).
"""

from __future__ import annotations

import math

from frontend.admission.throughput import Throughput
from gpt_oss_triton.wire import Load

_PATIENCE_STEPS = 5.0  # a longer wait is a sign of too many,
_STANDING_S = 2.0  # when there have been such waits for so long
_LEAST_PATIENCE_S = 0.1  # for engines whose steps are too short to count between two reports
_DECREASE = 0.9
_INCREASE_PER_S = 1.0
_RETREAT_PER_S = 4.0  # while more run than are worth it
_STEP_MEMORY_S = 5.0  # the step's length is the mean over about so long


class ConcurrencyLimit:
    """For one life of an engine. Starts with all the engine takes, which itself knows a limit.

    Args:
        most: the engine's `max_sequences`.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(most)
        self._cut_at = -math.inf
        self._late_since = math.inf  # somebody has waited longer than is normal all the time
        self._throughput = Throughput()
        self._busy_s = 0.0  # how long the engine was busy, fading,
        self._busy_steps = 0.0  # and its steps in that time

    @property
    def value(self) -> int:
        return int(self._limit)

    @property
    def patience_s(self) -> float:
        """The longest wait in the engine that is taken as normal."""
        step_s = self._busy_s / self._busy_steps if self._busy_steps else 0.0
        return max(_LEAST_PATIENCE_S, _PATIENCE_STEPS * step_s)

    def report(self, before: Load, load: Load, interval_s: float, now: float) -> None:
        """Take in two successive reports."""
        if before.running and load.running:
            fade = max(0.0, 1 - interval_s / _STEP_MEMORY_S)
            self._busy_s = self._busy_s * fade + interval_s
            self._busy_steps = self._busy_steps * fade + load.steps - before.steps
            tokens = load.output_tokens - before.output_tokens
            if tokens > 0:
                self._throughput.note((before.running + load.running) / 2, tokens, interval_s)
        if load.queue_wait_s > self.patience_s:
            self._waits(now - load.queue_wait_s, now)
            return
        self._late_since = math.inf
        if (enough := self._throughput.enough) is not None and load.running >= enough:
            self._limit = max(min(self._limit, enough), self._limit - _RETREAT_PER_S * interval_s)
        elif load.queue_wait_s <= self.patience_s / 2:
            self._limit = min(self._most, self._limit + _INCREASE_PER_S * interval_s)

    def _waits(self, since: float, now: float) -> None:
        """A request that was sent at `since` still waits in the engine."""
        self._late_since = min(self._late_since, since + self.patience_s)
        # A request that was sent before the last cut tells of the time before it.
        if now - self._late_since >= _STANDING_S and since >= self._cut_at:
            self._cut_at = now
            self._limit = max(1.0, _DECREASE * self._limit)
