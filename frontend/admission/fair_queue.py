"""The requests that wait for one ensemble, and whose turn it is.

Whoever holds least comes first: of the three classes the one with the fewest tokens in flight for its weight,
and in it the caller with the fewest. So the weights decide what a class gets and none starves, and nobody gets
more by asking more often. (Deficit round robin, which shares among those that wait at the moment, was tried
first. It let a flood have every second turn, because nobody else has always one waiting.)

The order is only a rule: who does not fit may be overtaken by who does, but not for ever.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING

from frontend.admission.ask import Ask
from frontend.admission.refusal import Refusal
from gpt_oss_triton.config import Priority

if TYPE_CHECKING:
    from frontend.admission.places import Placement

WEIGHTS: Mapping[Priority, int] = {"high": 8, "normal": 4, "low": 1}
_GREED = 1 / 8  # of all that is held, for its weight
_LOOK_AHEAD = 8  # requests that are tried when the first one does not fit
_MOST_OVERTAKEN = 16  # by requests that fit where this one did not; then all wait for it

FlowKey = tuple[Priority, str]  # class and caller


def flow_of(ask: Ask) -> FlowKey:
    return ask.priority, ask.caller.name


@dataclass(slots=True, eq=False)
class Waiter:
    """One request in the queue. `since` is on the monotonic clock; `overtaken` counts those let past it."""

    ask: Ask
    since: float
    placed: asyncio.Future[Placement]
    overtaken: int = 0

    @property
    def may_be_passed(self) -> bool:
        return self.overtaken < _MOST_OVERTAKEN

    def fail(self, refusal: Refusal) -> None:
        """End the wait, unless it has ended."""
        if not self.placed.done():
            self.placed.set_exception(refusal)


class FairQueue:
    """Knows nothing of capacity. Bounded by those who put requests into it.

    Attributes:
        held: tokens in flight, by flow; flows that hold none are not in it.
    """

    def __init__(self) -> None:
        self.held: Counter[FlowKey] = Counter()
        self._held_by_class: Counter[Priority] = Counter()
        self._flows: dict[FlowKey, deque[Waiter]] = {}  # none is empty
        self._returned: deque[Waiter] = deque()

    def __len__(self) -> int:
        return len(self._returned) + sum(len(waiters) for waiters in self._flows.values())

    def __iter__(self) -> Iterator[Waiter]:
        return chain(self._returned, *self._flows.values())

    def count(self, flow: FlowKey) -> int:
        """How many requests of one flow wait."""
        return len(self._flows.get(flow, ()))

    def count_of_class(self, priority: Priority) -> int:
        return sum(waiter.ask.priority == priority for waiter in self)

    def flows(self) -> set[FlowKey]:
        """Those that have requests waiting or in flight."""
        return self._flows.keys() | self.held.keys()

    # ---------------------------------------------------------------------- what is in flight

    def started(self, ask: Ask) -> None:
        self.held[flow_of(ask)] += ask.estimate.tokens
        self._held_by_class[ask.priority] += ask.estimate.tokens

    def ended(self, ask: Ask) -> None:
        flow = flow_of(ask)
        self._held_by_class[ask.priority] -= ask.estimate.tokens
        self.held[flow] -= ask.estimate.tokens
        if not self.held[flow]:
            del self.held[flow]

    def greedy(self, newcomer: FlowKey | None = None) -> FlowKey | None:
        """The flow that holds most for its weight, if that is a good part of the whole and it is not alone. A
        `newcomer` is company."""
        company = self.flows() | ({newcomer} if newcomer is not None else set())
        if not self.held or len(company) < 2:
            return None
        weighted = {flow: held / WEIGHTS[flow[0]] for flow, held in self.held.items()}
        most = max(weighted, key=lambda flow: weighted[flow])
        return most if weighted[most] >= _GREED * sum(weighted.values()) else None

    # ---------------------------------------------------------------------- whose turn it is

    def ahead_of(self, ask: Ask) -> int:
        """About how many of those who wait would be served before a newcomer, if all asked for as much."""
        (priority, _), tokens = (flow := flow_of(ask)), ask.estimate.tokens
        own = self.held[flow] + self.count(flow) * tokens
        in_class = self.count(flow)
        for other, waiters in self._flows.items():
            if other != flow and other[0] == priority:
                in_class += _turns(own - self.held[other], tokens, len(waiters))
        in_others = 0
        own_class = (self._held_by_class[priority] + in_class * tokens) / WEIGHTS[priority]
        for other_class, weight in WEIGHTS.items():
            if other_class != priority:
                waiting = sum(
                    len(waiters) for other, waiters in self._flows.items() if other[0] == other_class
                )
                in_others += _turns(own_class * weight - self._held_by_class[other_class], tokens, waiting)
        return len(self._returned) + in_class + in_others

    def candidates(self, barred: FlowKey | None = None) -> list[Waiter]:
        """Who may be served next: whose turn it is, then those that may go before it if it does not fit. Nobody
        of the `barred` flow is among them."""
        flows = self._in_turn(barred)
        first = chain(self._returned, (self._flows[flow][0] for flow in flows))
        later = (waiter for flow in flows for waiter in islice(self._flows[flow], 1, None))
        order = list(islice(chain(first, later), _LOOK_AHEAD))
        for n, waiter in enumerate(order):
            if not waiter.may_be_passed:
                return order[: n + 1]
        return order

    def request_in_turn(self, barred: FlowKey | None = None) -> Waiter | None:
        """The first in turn, of those that are no further answers of a request that was let in before."""
        in_turn = chain(self._returned, *(self._flows[flow] for flow in self._in_turn(barred)))
        return next((waiter for waiter in in_turn if waiter.ask.first is None), None)

    def _in_turn(self, barred: FlowKey | None) -> list[FlowKey]:
        return sorted((flow for flow in self._flows if flow != barred), key=self._turn)

    def _turn(self, flow: FlowKey) -> tuple[float, int, float]:
        priority, _ = flow
        class_share = self._held_by_class[priority] / WEIGHTS[priority]
        return class_share, self.held[flow], self._flows[flow][0].since

    # ---------------------------------------------------------------------- coming and going

    def push(self, waiter: Waiter, *, first: bool = False) -> None:
        """`first`: it was served before and lost by its engine, and goes before all who were not."""
        queue = self._returned if first else self._flows.setdefault(flow_of(waiter.ask), deque())
        queue.append(waiter)

    def remove(self, waiter: Waiter) -> None:
        """Take a waiter out, if it is here."""
        if waiter in self._returned:
            self._returned.remove(waiter)
            return
        flow = flow_of(waiter.ask)
        if waiter in (waiters := self._flows.get(flow, deque())):
            waiters.remove(waiter)
            if not waiters:
                del self._flows[flow]


def _turns(lead: float, tokens: int, waiting: int) -> int:
    """How many of its waiting requests a flow may start before it holds as much as one that holds `lead` more."""
    return max(0, min(waiting, int(lead // tokens) + 1))
