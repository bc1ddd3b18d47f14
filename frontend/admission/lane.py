"""One ensemble's admission: who waits for it, how fast it serves, and how long it may be waited for."""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING

from frontend.admission.ask import Ask
from frontend.admission.bookings import Bookings
from frontend.admission.degradation import Ladder
from frontend.admission.estimator import Estimator
from frontend.admission.fair_queue import WEIGHTS, FairQueue, FlowKey, flow_of
from frontend.admission.refusal import Decision
from gpt_oss_triton.config import FrontendSettings

if TYPE_CHECKING:
    from frontend.routing.target import Target

_FIRST_TOKEN_S = 1.0  # before it was seen
_FIRST_TOKEN_WEIGHT = 0.05  # of the newest request in the mean
# The wait before an engine takes a request may be this part of the time from there to its first token. While there
# are more requests than can be served, everyone who is let in waits for about as long as the bound allows, so a
# longer bound serves nobody more and everybody later.
_WAIT_SHARE = 0.25
_ROUNDING_S = 1e-6
_KEPT_FREE = 1 / 10  # of the slots, from a greedy caller


class Lane:
    """Attributes:
    targets: those that have run a request of this ensemble, by name.
    """

    def __init__(self, settings: FrontendSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self.queue = FairQueue()
        self.bookings = Bookings(clock)
        self.ladder = Ladder(clock)
        self.estimator = Estimator(settings.output_reserve_tokens)
        self.targets: dict[str, Target] = {}
        self._settings = settings
        self._clock = clock
        self._first_token_s = _FIRST_TOKEN_S

    @property
    def service_rate(self) -> float:
        """Requests per second that are served when all slots are taken; 0 before any was placed."""
        return sum(target.capacity.service_rate for target in self._live())

    @property
    def wait_limit_s(self) -> float:
        """The longest wait that is let in. The next in line is, unless just now nothing ends for a while."""
        fastest = max((target.capacity.service_rate for target in self._live()), default=math.inf)
        adaptive_s = max(_WAIT_SHARE * self._first_token_s, 1 / fastest)
        return min(self._settings.queue_wait_s, adaptive_s)

    @property
    def pressure(self) -> float:
        """1 where something is at its end; see `degradation`."""
        kv = min((t.capacity.kv_used for t in self._live()), default=0.0)
        # Further answers of a request wait for as long as that takes, and are nobody's need but its caller's.
        requests = sum(waiter.ask.first is None for waiter in self.queue)
        filled = requests / self._settings.max_queue if self._settings.max_queue else 0.0
        next_in_turn = self.queue.request_in_turn(self.queue.greedy())  # whose wait is not its own doing
        waited_s = self._clock() - next_in_turn.since if next_in_turn is not None else 0.0
        return max(kv, filled, waited_s / self._settings.queue_wait_s)

    def expected_waits_s(self, ask: Ask) -> list[float]:
        """Seconds until those before a newcomer would run, one after the other, and the newcomer last."""
        free_in_s = heapq.merge(*(target.capacity.free_in_s() for target in self._live()))
        return list(islice(free_in_s, self.queue.ahead_of(ask) + 1)) or [0.0]

    def barred(self) -> FlowKey | None:
        """The greedy flow, which must leave the last slots to others, while no more than those are free."""
        slots = sum(target.capacity.limit for target in self._live())
        taken = sum(target.capacity.in_flight for target in self._live())
        return self.queue.greedy() if slots - taken <= math.ceil(_KEPT_FREE * slots) else None

    def refusal(self, ask: Ask, *, booked: bool) -> Decision | None:
        """Why a request may not wait here, if so. One that is `booked` is bound by the hard limits only. When a
        greedy caller takes all there is, the others may wait longer, and the next in line for as long as it takes;
        while the queue is full of its requests, they have their share of it."""
        most, waiting = self._settings.max_queue, len(self.queue)
        callers = len(self.queue.flows() | {flow_of(ask)})
        if waiting >= most and (self.queue.count(flow_of(ask)) >= most // callers or waiting >= 2 * most):
            return "queue_full"
        waits_s = self.expected_waits_s(ask)
        wait_s = waits_s[-1]
        if wait_s > min(self._settings.queue_wait_s, ask.deadline - self._clock()):
            return "wait"
        limit_s = self.wait_limit_s
        if self.queue.greedy(flow_of(ask)) not in (None, flow_of(ask)):
            limit_s = max(limit_s, self._first_token_s, waits_s[0])
        return None if booked or wait_s <= limit_s + _ROUNDING_S else "wait"

    def book(self, ask: Ask) -> int:
        """Promise a refused request a turn: after how many seconds it should come back."""
        flow = flow_of(ask)
        earliest_s = max(0.0, self.expected_waits_s(ask)[-1] - self.wait_limit_s)
        active = self.queue.flows() | self.bookings.flows() | {flow}
        share = WEIGHTS[ask.priority] / sum(WEIGHTS[priority] for priority, _ in active)
        return self.bookings.book(ask.booking, flow, earliest_s=earliest_s, rate=share * self.service_rate)

    def learn(self, ask: Ask) -> None:
        """The request has ended, however; what is known of it by now tells what to expect of others."""
        record = ask.record
        if record.counts.prompt:
            self.estimator.learn(ask.estimate, record.counts.prompt)
        tried_once = len(record.attempts) < 2  # what a lost engine took says nothing
        if record.first_token is not None and record.admitted is not None and tried_once:
            took_s = record.first_token - record.admitted
            self._first_token_s += _FIRST_TOKEN_WEIGHT * (took_s - self._first_token_s)

    def _live(self) -> list[Target]:
        return [target for target in self.targets.values() if target.problem is None]
