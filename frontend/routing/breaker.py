"""Keeps requests away from a target that fails them, although its engine reports that all is well."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from gpt_oss_triton.errors import (
    Cancelled,
    DeadlineExceeded,
    EngineUnavailable,
    NotAccepted,
    Overloaded,
    ServiceError,
)

State = Literal["closed", "open", "half_open"]


class Breaker:
    """Opens after `failures` in a row. After `open_s` seconds one request may try; its outcome decides.

    What the caller has caused (4xx) shows a working target. What load, a loss or the caller's leaving has
    caused shows nothing: the first two have their own remedies, admission and the watch.
    """

    def __init__(self, failures: int, open_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._failures = failures
        self._open_s = open_s
        self._clock = clock
        self._failed = 0  # in a row
        self._opened: float | None = None
        self._tried: float | None = None  # when the request that may close it was sent

    @property
    def state(self) -> State:
        if self._opened is None:
            return "closed"
        return "open" if self._clock() - self._opened < self._open_s else "half_open"

    @property
    def allows(self) -> bool:
        """Whether a request may be sent now. A try that never came to an end blocks the next one for no
        longer than the target has been blocked before."""
        if self.state != "half_open":
            return self.state == "closed"
        return self._tried is None or self._clock() - self._tried >= self._open_s

    def begin(self) -> None:
        """A request is sent; to be called only while `allows`."""
        if self._opened is not None:
            self._tried = self._clock()

    def record(self, error: BaseException | None, *, answered: bool = False) -> None:
        """How a request ended: None when all was well.

        Args:
            answered: it had been taken, so that a deadline says how long an answer is and not how the target does.
        """
        if isinstance(error, NotAccepted):
            self._fail()
        elif isinstance(error, Overloaded | EngineUnavailable | Cancelled) or (
            answered and isinstance(error, DeadlineExceeded)
        ):
            self._tried = None
        elif error is None or (isinstance(error, ServiceError) and error.status < 500):
            self._succeed()
        elif isinstance(error, ServiceError):
            self._fail()
        else:  # our own bug, or our own end
            self._tried = None

    def _succeed(self) -> None:
        if self.state != "open":  # a request from before says nothing of a target that has failed since
            self._failed, self._opened, self._tried = 0, None, None

    def _fail(self) -> None:
        if self.state == "open":
            return
        self._failed += 1
        if self._failed >= self._failures:
            self._opened, self._tried = self._clock(), None
