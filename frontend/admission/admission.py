"""Every request passes here before it is placed on a target: it is let in, made to wait, or refused at once.

Refusals are decided without waiting for anything. Those who wait are woken by what makes room: a request that
ends, a report of an engine.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from frontend.admission.ask import Ask, Estimate
from frontend.admission.degradation import REFUSE_NORMAL
from frontend.admission.fair_queue import WEIGHTS, Waiter
from frontend.admission.key_limits import CallerLimits
from frontend.admission.lane import Lane
from frontend.admission.places import Placement, Places
from frontend.admission.refusal import Decision, Refusal
from frontend.caller import Caller
from gpt_oss_triton.config import FrontendSettings
from gpt_oss_triton.errors import EngineUnavailable, Overloaded
from gpt_oss_triton.telemetry.token_counts import TokenCounts
from gpt_oss_triton.wire import PromptRequest

if TYPE_CHECKING:
    from frontend.routing.router import Router
    from frontend.routing.target import Target

    # ensemble, its targets, the level before and now
    LevelObserver = Callable[[str, Iterable[Target], int, int], None]

__all__ = ["Admission", "Placement"]

log = logging.getLogger(__name__)

_DRAIN_RETRY_S = 5.0


class Admission:
    """Used by one event loop.

    Args:
        clock: seconds, monotonic; the event loop's.
        wall: Unix seconds, for records.

    Attributes:
        on_level: called when an ensemble's degradation level has changed; see `degradation.Relief`.
    """

    def __init__(
        self,
        router: Router,
        settings: FrontendSettings,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.on_level: LevelObserver = lambda ensemble, targets, before, level: None
        self._settings = settings
        self._places = Places(router, self.wake, clock, wall)
        self._lanes = {ensemble: Lane(settings, clock) for ensemble in settings.models.values()}
        self._limits = CallerLimits(clock)
        self._decisions: Counter[Decision] = Counter()
        self._draining = False

    def estimate(self, ensemble: str, prompt: PromptRequest, max_tokens: int | None) -> Estimate:
        """What a request will take; `max_tokens` is its own limit, if it has one."""
        return self._lanes[ensemble].estimator.estimate(prompt, max_tokens)

    async def enter(self, ask: Ask) -> Placement:
        """Wait for a place to run. Whoever gets one, or was refused, says `finished` at its end. Of a request's answers
        the first one comes first.

        Raises:
            RateLimited: the caller has used up what it may use.
            Overloaded: the request would wait too long, or its class is refused under pressure.
            EngineUnavailable: draining, or no engine can take requests.
            DeadlineExceeded: its time ran out in the queue.
        """
        ask.record.priority = ask.priority
        decided = ask.charge is not None  # before its engine was lost
        try:
            placement = await self._enter(ask, self._lanes[ask.ensemble])
        except Refusal as refusal:
            ask.refusal = refusal
            if not decided:
                self._decide(ask, refusal.reason)
            self.finished(ask)
            raise refusal.error from None
        except asyncio.CancelledError:
            if not decided:
                self._decide(ask, "cancelled")
            self.finished(ask)
            raise
        if not decided:
            self._decide(ask, "admitted")
        return placement

    def pass_by(self, ask: Ask) -> None:
        """For an answer that needs no engine: it counts as one of the caller's requests. Raises as `enter`."""
        ask.record.priority = ask.priority
        try:
            self._check_open()
            if ask.first is None:
                self._limits.check(ask)
        except Refusal as refusal:
            self._decide(ask, refusal.reason)
            raise refusal.error from None
        self._limits.charge(ask)
        self._limits.settle(ask, TokenCounts())
        self._decide(ask, "cached")

    def count(self, caller: Caller) -> None:
        """A request for something other than an answer is one of the caller's requests, and takes no tokens.

        Raises:
            RateLimited: the caller has no request left.
        """
        try:
            self._limits.count(caller)
        except Refusal as refusal:
            raise refusal.error from None

    async def _enter(self, ask: Ask, lane: Lane) -> Placement:
        self._check_open()
        if ask.charge is not None:  # it was let in before, and its engine was lost
            return self._places.place(ask, lane) or await self._places.wait(ask, lane, first=True)
        if ask.first is not None:
            return await self._follow(ask, ask.first, lane)
        self._limits.check(ask)
        turn_s = lane.bookings.wait_s(ask.booking)
        self._check_pressure(ask, lane, turn_s)
        placement = self._places.place_in_turn(ask, lane)
        if placement is None:
            self._check_wait(ask, lane, turn_s)
        self._limits.charge(ask)
        lane.bookings.take(ask.booking)
        return placement or await self._places.wait(ask, lane)

    async def _follow(self, ask: Ask, first: Ask, lane: Lane) -> Placement:
        """A further answer to a request that was let in with its first: it waits for as long as that takes."""
        if first.refusal is not None:
            raise first.refusal
        placement = self._places.place_in_turn(ask, lane)
        self._limits.charge(ask)
        return placement or await self._places.wait(ask, lane)

    def wake(self) -> None:
        """There may be more room than before: place those who fit."""
        for ensemble, lane in self._lanes.items():
            self._places.serve(lane)
            self._relieve(ensemble, lane)

    def finished(self, ask: Ask) -> None:
        """The request has ended, however: settle what its caller was charged. Only the first time counts."""
        if ask.charge is not None:
            self._limits.settle(ask, ask.record.counts)
            self._lanes[ask.ensemble].learn(ask)

    def drain(self) -> None:
        """Refuse all who come and all who wait, but for further answers of requests that were let in."""
        self._draining = True
        for waiter in self._waiters():
            if waiter.ask.first is None:
                waiter.fail(_draining())

    def end_waits(self) -> None:
        """Refuse all who wait."""
        for waiter in self._waiters():
            waiter.fail(_draining())

    def resume(self) -> None:
        """Take requests again."""
        self._draining = False

    def answer_limit(self, ensemble: str) -> int | None:
        """Tokens that answers may have under the highest pressure, where the operator has set such a cap. Whom
        it shortens is told so."""
        level = self._lanes[ensemble].ladder.level
        return self._settings.degrade_max_tokens if level >= REFUSE_NORMAL else None

    def limit_headers(self, caller: Caller) -> dict[str, str]:
        """OpenAI's `x-ratelimit-*`, for what the caller is limited in."""
        return self._limits.headers(caller)

    def stats(self) -> dict[str, Any]:
        lanes = self._lanes.values()
        return {
            "queued": sum(len(lane.queue) for lane in lanes),
            "queued_by_priority": {
                priority: sum(lane.queue.count_of_class(priority) for lane in lanes) for priority in WEIGHTS
            },
            "max_queue": self._settings.max_queue,
            "level": max(lane.ladder.level for lane in lanes),
            "queue_wait_limit_s": min(lane.wait_limit_s for lane in lanes),
            "service_rate": sum(lane.service_rate for lane in lanes),
            "decisions": dict(self._decisions),
            "callers": len(self._limits),
            "bookings": sum(len(lane.bookings) for lane in lanes),
        }

    # ---------------------------------------------------------------------- refusals

    def _waiters(self) -> list[Waiter]:
        return [waiter for lane in self._lanes.values() for waiter in lane.queue]

    def _check_open(self) -> None:
        if self._draining:
            raise _draining()

    def _check_pressure(self, ask: Ask, lane: Lane, turn_s: float | None) -> None:
        if lane.ladder.refuses(ask.priority) and turn_s != 0:
            message = f"Requests of {ask.priority} priority are not served under the present load."
            raise _overloaded("shed", message, turn_s or lane.book(ask))

    def _check_wait(self, ask: Ask, lane: Lane, turn_s: float | None) -> None:
        """`turn_s`: until the turn that the request was promised, if it was."""
        if turn_s:
            raise _overloaded("too_early", "The request was told to come later.", turn_s)
        reason = lane.refusal(ask, booked=turn_s is not None)
        if reason is not None:
            raise _overloaded(reason, "More requests are waiting than can be served soon.", lane.book(ask))

    def _decide(self, ask: Ask, reason: Decision) -> None:
        self._decisions[reason] += 1
        ask.record.admission = reason

    def _relieve(self, ensemble: str, lane: Lane) -> None:
        before, pressure = lane.ladder.level, lane.pressure
        if lane.ladder.update(pressure):
            level = lane.ladder.level
            log.debug("%s: degradation level %d -> %d, pressure %.2f", ensemble, before, level, pressure)
            self.on_level(ensemble, lane.targets.values(), before, level)


def _overloaded(reason: Decision, message: str, wait_s: float) -> Refusal:
    seconds = max(1, math.ceil(wait_s))
    return Refusal(reason, Overloaded(f"{message} Try again in {seconds} s.", retry_after_s=seconds))


def _draining() -> Refusal:
    return Refusal("draining", EngineUnavailable("The server is draining.", retry_after_s=_DRAIN_RETRY_S))
