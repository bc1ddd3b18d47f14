"""Turns promised to refused requests: "come back in so many seconds, and you will be let in".

A booking is a place in a line that nobody stands in. Turns are handed out at the rate at which requests are
served, over the share of those that came back of late: who does not come back wastes nothing, because fresh
requests are let in where a turn is not taken. When too many turns are taken, the promise could not be kept, so
beyond a minute none is given.
"""

from __future__ import annotations

import heapq
import math
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from frontend.admission.fair_queue import FlowKey

MOST_S = 60  # the longest wait that is told
_MOST_BOOKINGS = 10_000
_GRACE_S = 5.0  # how much later than told a request may come
_HEADROOM = 0.7  # of the service rate: what is given away again cannot be a moment late
_LEAST_SHOW_UP = 0.05
_SHOW_UP_MEMORY = 200  # turns whose mean `show_up` is


@dataclass(slots=True, order=True)
class _Turn:
    """Seconds on the clock: `at` it may come, and was told to come no later than `lost_at`."""

    at: float
    lost_at: float
    booking: bytes
    flow: FlowKey
    taken: bool = False


class Bookings:
    """One ensemble's. Bounded by `_MOST_BOOKINGS`, each of which lives for little more than a minute.

    Attributes:
        show_up: share of the turns that were taken, of late.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.show_up = 1.0  # until clients prove otherwise, so that no promise is broken
        self._judged = 0  # turns that are over
        self._clock = clock
        self._turns: dict[bytes, _Turn] = {}
        self._coming: list[_Turn] = []  # a heap of those whose time has not come
        self._due: deque[_Turn] = deque()  # the others, also some that were taken
        self._ahead: Counter[FlowKey] = Counter()  # of `_coming`, by flow

    def __len__(self) -> int:
        return len(self._turns)

    def flows(self) -> set[FlowKey]:
        """Those that have turns to come."""
        self._pass_time()
        return set(self._ahead)

    def wait_s(self, booking: bytes) -> float | None:
        """Seconds until a request's turn, 0 when it has come; None when it has none."""
        self._pass_time()
        turn = self._turns.get(booking)
        return max(0.0, turn.at - self._clock()) if turn is not None else None

    def take(self, booking: bytes) -> None:
        """The request came back and was let in."""
        turn = self._turns.pop(booking, None)
        if turn is not None:
            turn.taken = True

    def book(self, booking: bytes, flow: FlowKey, *, earliest_s: float, rate: float) -> int:
        """Promise a turn, if one is left.

        Args:
            earliest_s: from now; before that nobody can be let in.
            rate: requests per second of this flow that will be served.

        Returns:
            After how many seconds the request should come, 1 … 60.
        """
        self.take(booking)  # one that came and was refused again
        self._pass_time()
        gap_s = max(self.show_up, _LEAST_SHOW_UP) / (_HEADROOM * rate) if rate else math.inf
        wait_s = earliest_s + gap_s * (self._ahead[flow] + 1)
        if wait_s > MOST_S or len(self._turns) >= _MOST_BOOKINGS:
            return MOST_S
        told_s = max(1, math.ceil(wait_s))
        now = self._clock()
        turn = _Turn(now + wait_s, now + told_s + _GRACE_S, booking, flow)
        self._turns[booking] = turn
        self._ahead[flow] += 1
        heapq.heappush(self._coming, turn)
        return told_s

    def _pass_time(self) -> None:
        now = self._clock()
        while self._coming and self._coming[0].at <= now:
            turn = heapq.heappop(self._coming)
            self._due.append(turn)
            self._ahead[turn.flow] -= 1
            if not self._ahead[turn.flow]:
                del self._ahead[turn.flow]
        while (
            self._due and self._due[0].lost_at <= now
        ):  # only now, or those who come would count before the others
            turn = self._due.popleft()
            if not turn.taken:
                del self._turns[turn.booking]
            self._judged += 1
            weight = 1 / min(self._judged + _SHOW_UP_MEMORY / 10, _SHOW_UP_MEMORY)
            self.show_up += weight * (turn.taken - self.show_up)
