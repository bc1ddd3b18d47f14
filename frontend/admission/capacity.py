"""How much more may run on one target: what was promised to requests in flight, and what the engine reports.

The promises are known at once, the report is a fraction of a second old but knows of everybody else's
requests and of answers that got longer than was reserved. A target has room when both say so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain, repeat

from frontend.admission.ask import Estimate
from frontend.admission.concurrency_limit import ConcurrencyLimit
from gpt_oss_triton.wire import Load

_UNKNOWN_LIMIT = 64  # requests at once, before the first report
_STALE_S = 3.0  # an older report says nothing about now
_FULL_KV = 0.8  # of the blocks, in reality: answers that run still grow
_RESIDENCE_WEIGHT = 0.05  # of the newest answer in the mean
_FIRST_RESIDENCE_S = 1.0  # before any answer has ended
_LEAST_RESIDENCE_S = 0.001


class Capacity:
    """One target's room. Used by one event loop.

    With no report, or a stale one, only the promises count: whether a silent engine is dead is not decided
    here.

    Attributes:
        blocks_reserved: KV blocks promised to the requests in flight.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.blocks_reserved = 0
        self._clock = clock
        self._reservations: dict[Reservation, None] = {}
        self._began_sum = 0.0  # over the reservations
        self._residence_s = _FIRST_RESIDENCE_S  # mean of the answers that have ended
        self._ended = 0
        self._load: Load | None = None
        self._reported_at = 0.0
        self._most_in_flight = 0  # since the last report
        self._foreign = 0  # requests in the engine that are not ours
        self._limit = ConcurrencyLimit(_UNKNOWN_LIMIT)

    @property
    def in_flight(self) -> int:
        return len(self._reservations)

    @property
    def limit(self) -> int:
        """Requests at once, adaptive; at most the engine's `max_sequences`."""
        return self._limit.value

    @property
    def kv_used(self) -> float:
        """Share of the engine's blocks that sequences hold; 0 when no report says."""
        load = self._fresh_load()
        return load.blocks_used / load.blocks_total if load is not None and load.blocks_total else 0.0

    @property
    def kv_fraction(self) -> float:
        """Share of the engine's blocks that are held or promised, whichever is more."""
        total = self._load.blocks_total if self._load is not None else 0
        return max(self.kv_used, self.blocks_reserved / total) if total else 0.0

    @property
    def service_rate(self) -> float:
        """Requests per second that end here, by Little's law: those in flight over the time each takes. While
        answers take longer than they used to, the age of those that run says so before their end does."""
        running = max(1, self.in_flight)
        age_s = self._clock() - self._began_sum / running if self._reservations else 0.0
        return running / max(self._residence_s, age_s)

    def free_in_s(self) -> Iterator[float]:
        """Seconds until there is room for the first, second, third … of those who wait: as the service rate has
        it, and no sooner than the requests in flight have run for as long as is usual. After a burst all of
        them are young, and then nothing ends for a while."""
        gap_s, now = 1 / self.service_rate, self._clock()
        usual_s = self._residence_s if self._ended else 0.0
        ends = (reservation.began + usual_s - now for reservation in self._reservations)
        for n, end_s in enumerate(chain(ends, repeat(0.0)), start=1):
            yield max(n * gap_s, end_s)

    def report(self, load: Load) -> None:
        """Take in the engine's newest report."""
        now, before = self._clock(), self._load
        if before is None or (before.pid, before.started) != (load.pid, load.started):
            self._limit = ConcurrencyLimit(load.max_sequences)
        else:
            self._limit.report(before, load, now - self._reported_at, now)
        self._load, self._reported_at = load, now
        # A request of ours that has just ended may still be in the report, so the most that there were count.
        self._foreign = max(0, load.running + load.waiting - self._most_in_flight)
        self._most_in_flight = self.in_flight
        if before is None or before.block_shape != load.block_shape:
            for reservation in self._reservations:
                self.reprice(reservation)

    def fits(self, estimate: Estimate) -> bool:
        """Whether the request may run here now."""
        load = self._fresh_load()
        foreign = self._foreign if load is not None else 0
        if self.in_flight + foreign == 0:
            return True  # also when it is larger than the cache: alone it runs or fails, but never waits for ever
        if self.in_flight + foreign >= self.limit:
            return False
        if not self._promise_holds(estimate):
            return False
        return load is None or load.blocks_used < _FULL_KV * load.blocks_total

    def reserve(self, estimate: Estimate, on_release: Callable[[], None] = lambda: None) -> Reservation:
        """Promise room, whether it `fits` or not. `on_release` is called when it is free again."""
        reservation = Reservation(self, estimate, self._clock(), on_release)
        self._reservations[reservation] = None
        self._began_sum += reservation.began
        self._most_in_flight = max(self._most_in_flight, self.in_flight)
        self.reprice(reservation)
        return reservation

    def blocks_for(self, estimate: Estimate, cached_tokens: int = 0) -> int:
        """KV blocks to be filled, beside those that hold `cached_tokens`; 0 when no report has told their size."""
        if self._load is None:
            return 0
        room = max(0, self._load.max_context - estimate.prompt_tokens)
        if estimate.output_tokens > room:  # it cannot get that long
            estimate = replace(estimate, output_tokens=room)
        return estimate.blocks(self._load.block_shape, cached_tokens)

    def reprice(self, reservation: Reservation) -> None:
        """Its estimate, or what is known of the engine, has changed."""
        if reservation not in self._reservations:
            return
        self.blocks_reserved -= reservation.blocks
        reservation.blocks = self.blocks_for(reservation.estimate, reservation.cached_tokens)
        self.blocks_reserved += reservation.blocks

    def remove(self, reservation: Reservation) -> bool:
        """See `Reservation.release`. False when it was removed before."""
        if reservation not in self._reservations:
            return False
        del self._reservations[reservation]
        self._began_sum = self._began_sum - reservation.began if self._reservations else 0.0
        self.blocks_reserved -= reservation.blocks
        if reservation.counted:  # the others were refused, and that takes no time
            self._ended += 1
            took_s = max(_LEAST_RESIDENCE_S, self._clock() - reservation.began)
            self._residence_s += max(_RESIDENCE_WEIGHT, 1 / self._ended) * (took_s - self._residence_s)
        return True

    def _fresh_load(self) -> Load | None:
        return self._load if self._clock() - self._reported_at <= _STALE_S else None

    def _promise_holds(self, estimate: Estimate) -> bool:
        """Whether the blocks suffice for all promises and this one. The engine keeps one spare block of each kind for
        each running sequence when it lets another one in."""
        if self._load is None:
            return True
        spare = self._load.block_shape.kinds * self.in_flight
        wanted = self.blocks_reserved + self.blocks_for(estimate) + spare
        return wanted <= self._load.blocks_total


class Reservation:
    """One request's promise; made by `Capacity.reserve`, given back with `release`.

    Attributes:
        estimate: corrected once the engine has counted.
        counted: it has.
        blocks: KV blocks promised, beside those that hold `cached_tokens` already.
        began: seconds on the capacity's clock.
    """

    def __init__(
        self, capacity: Capacity, estimate: Estimate, began: float, on_release: Callable[[], None]
    ) -> None:
        self.estimate = estimate
        self.counted = False
        self.cached_tokens = 0
        self.blocks = 0
        self.began = began
        self._capacity = capacity
        self._on_release = on_release

    @property
    def blocks_held(self) -> int:
        """KV blocks that the sequence will hold at its end, the cached ones included."""
        return self._capacity.blocks_for(self.estimate)

    def accepted(self, prompt_tokens: int, cached_tokens: int) -> None:
        """The engine has counted the prompt."""
        self.counted = True
        self.estimate = replace(self.estimate, prompt_tokens=prompt_tokens)
        self.cached_tokens = cached_tokens
        self._capacity.reprice(self)

    def release(self) -> None:
        """Give the room back; only the first time counts."""
        if self._capacity.remove(self):
            self._on_release()
