"""Puts requests on targets: at once, or when it is their turn and there is room."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from frontend.admission.ask import Ask
from frontend.admission.capacity import Reservation
from frontend.admission.fair_queue import Waiter, flow_of
from frontend.admission.lane import Lane
from frontend.admission.refusal import Refusal
from gpt_oss_triton.errors import DeadlineExceeded, EngineUnavailable

if TYPE_CHECKING:
    from frontend.routing.router import Router
    from frontend.routing.target import Target


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a request runs, why there, and the room it was given, which its holder releases."""

    target: Target
    reason: str
    reservation: Reservation


class Places:
    """Args:
    clock: seconds, monotonic; the event loop's.
    wall: Unix seconds, for records.
    freed: called when a place has become free.
    """

    def __init__(
        self,
        router: Router,
        freed: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._router = router
        self._freed = freed
        self._clock = clock
        self._wall = wall

    def place(self, ask: Ask, lane: Lane) -> Placement | None:
        """A place on a target that has room, before all who wait; None when all targets are full.

        Raises:
            Refusal: there is no target.
        """
        try:
            choice = self._router.choose(ask)
        except EngineUnavailable as error:
            raise Refusal("unavailable", error) from None
        if choice is None:
            return None
        lane.queue.started(ask)
        reservation = choice.target.capacity.reserve(ask.estimate, partial(self._released, ask, lane))
        self._router.placed(ask, choice)
        lane.targets[choice.target.name] = choice.target
        record = ask.record
        if record.admitted is None:  # else it is a second try, of what was let in with the first
            record.admitted = self._wall()
        record.priced_tokens, record.priced_blocks = ask.estimate.tokens, reservation.blocks
        return Placement(choice.target, choice.reason, reservation)

    def place_in_turn(self, ask: Ask, lane: Lane) -> Placement | None:
        """As `place`, where nobody waits, or those who wait fit nowhere and may still be passed."""
        barred = lane.barred()
        waiting = lane.queue.candidates(barred)
        if flow_of(ask) == barred or not all(waiter.may_be_passed for waiter in waiting):
            return None
        placement = self.place(ask, lane)
        if placement is not None:
            _overtake(waiting)
        return placement

    def serve(self, lane: Lane) -> None:
        """Place all of those who wait and fit."""
        while self._serve_next(lane):
            pass

    async def wait(self, ask: Ask, lane: Lane, *, first: bool = False) -> Placement:
        """Queue until there is a place, `first` before all others.

        Raises:
            Refusal: there can be none, or not in time.
        """
        loop, now = asyncio.get_running_loop(), self._clock()
        waiter = Waiter(ask, now, loop.create_future())
        lane.queue.push(waiter, first=first)
        if ask.record.admitted is None:
            ask.record.queued = self._wall()
        timer = loop.call_later(max(0.0, ask.deadline - now), waiter.fail, _too_late())
        try:
            return await waiter.placed
        except asyncio.CancelledError:
            if waiter.placed.done() and not waiter.placed.cancelled() and not waiter.placed.exception():
                waiter.placed.result().reservation.release()  # the place came together with the cancellation
            raise
        finally:
            timer.cancel()
            lane.queue.remove(waiter)

    def _serve_next(self, lane: Lane) -> bool:
        """Place, or drop, one of those who wait; False when none of them fits."""
        candidates = lane.queue.candidates(lane.barred())
        for n, waiter in enumerate(candidates):
            if waiter.placed.done():  # its task has yet to notice
                lane.queue.remove(waiter)
                return True
            try:
                placement = self.place(waiter.ask, lane)
            except Refusal as refusal:
                lane.queue.remove(waiter)
                waiter.fail(refusal)
                return True
            if placement is not None:
                _overtake(candidates[:n])
                lane.queue.remove(waiter)
                waiter.placed.set_result(placement)
                return True
        return False

    def _released(self, ask: Ask, lane: Lane) -> None:
        lane.queue.ended(ask)
        self._freed()


def _overtake(waiters: list[Waiter]) -> None:
    for waiter in waiters:
        waiter.overtaken += 1


def _too_late() -> Refusal:
    return Refusal("deadline", DeadlineExceeded("The request's time ran out while it waited for its turn."))
