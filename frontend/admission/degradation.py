"""What gives way under pressure, and in which order.

Pressure is 1 where something is at its end: the KV cache full, the queue full, or requests waiting as long as
they may. Each level adds to the ones below it:

1. the engines compute smaller chunks of prompts a step, so that answers that run are not held up;
2. sessions lose the blocks kept for their next turn;
3. requests of low priority are refused;
4. those of normal priority too, and answers are shorter if the operator allows that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from gpt_oss_triton.config import Priority

if TYPE_CHECKING:
    from frontend.routing.target import Target

_ENTER = (0.80, 0.87, 0.93, 0.97)  # pressure at which each level begins
_LEAVE_BELOW = 0.10  # its beginning
_RISE_S = 3.0  # between two steps up: what a level does takes time to show
_CALM_S = 2.0  # of less pressure before a step down
SMALLER_CHUNKS, END_LEASES, REFUSE_LOW, REFUSE_NORMAL = 1, 2, 3, 4


class Ladder:
    """The level of one ensemble, one step at a time.

    Attributes:
        level: 0 (none) … 4.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.level = 0
        self._clock = clock
        self._moved_at = float("-inf")
        self._pressed_at = float("-inf")  # last time the pressure was too high for a step down

    def update(self, pressure: float) -> bool:
        """Take in the pressure of now; whether the level has changed."""
        now = self._clock()
        if self.level and pressure >= _ENTER[self.level - 1] - _LEAVE_BELOW:
            self._pressed_at = now
        if self.level < len(_ENTER) and pressure >= _ENTER[self.level]:
            return now - self._moved_at >= _RISE_S and self._move(+1, now)
        if self.level and now - max(self._pressed_at, self._moved_at) >= _CALM_S:
            return self._move(-1, now)
        return False

    def refuses(self, priority: Priority) -> bool:
        return self.level >= {"low": REFUSE_LOW, "normal": REFUSE_NORMAL, "high": len(_ENTER) + 1}[priority]

    def _move(self, step: int, now: float) -> bool:
        self.level += step
        self._moved_at = now
        return True


class Relief:
    """Does what the first two levels ask of the engines.

    Args:
        tune: gives a target's engine another `max_step_tokens`, None for the configured one.
        end_idle_sessions: gives up the KV leases of an ensemble's sessions that have no request.
    """

    def __init__(
        self, tune: Callable[[Target, int | None], None], end_idle_sessions: Callable[[str], None]
    ) -> None:
        self._tune = tune
        self._end_idle_sessions = end_idle_sessions

    def level_changed(self, ensemble: str, targets: Iterable[Target], before: int, level: int) -> None:
        """An observer of `Admission`."""
        if before < SMALLER_CHUNKS <= level:
            for target in targets:
                if target.load is not None:
                    self._tune(target, max(1, target.load.configured_step_tokens // 2))
        elif level < SMALLER_CHUNKS <= before:
            for target in targets:
                self._tune(target, None)
        if before < END_LEASES <= level:
            self._end_idle_sessions(ensemble)
