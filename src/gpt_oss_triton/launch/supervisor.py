"""Starts the services in order, starts again what ends, and stops them in reverse order.

One thread. It knows neither Triton nor HTTP: only services, signals and time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from gpt_oss_triton.launch.backoff import Backoff
from gpt_oss_triton.launch.service import Service
from gpt_oss_triton.launch.signals import Signals

_TICK_S = 0.5
_START_TICK_S = 0.1
_HEARTBEAT_S = 10.0


class GaveUp(Exception):
    """A service does not start, or keeps ending. The message holds its evidence."""


class Supervisor:
    """`start`, then `watch`, then `stop`; each returns early when a signal asks to stop."""

    def __init__(self, services: Sequence[Service], signals: Signals, say: Callable[[str], None]) -> None:
        self._signals = signals
        self._say = say
        self._timeout_s = math.inf
        self._lives = [_Life(service, say) for service in services]
        signals.on_more = self._hurry

    def start(self, timeout_s: float) -> bool:
        """Start each service when the one before is ready; False when a signal came first.

        Raises:
            GaveUp: a service ended before it was ready, or took longer than `timeout_s`; or one before it ends again
                and again.
        """
        self._timeout_s = timeout_s
        for index, life in enumerate(self._lives):
            if self._signals.stopping:
                return False
            life.start()
            while not life.service.ready():
                life.report()
                if self._signals.stopping:
                    return False
                for earlier in self._lives[:index]:  # without them this one would be waited for in vain
                    earlier.keep(timeout_s)
                if not life.service.alive():
                    raise GaveUp(f"{life.service.name} {life.service.ended()}\n  {life.service.log_place()}")
                if why := life.hopeless(timeout_s):
                    raise _gave_up(life.service, why)
                self._signals.wait(_START_TICK_S)
            life.was_ready = True
        return True

    def watch(self) -> None:
        """Keep the services running until a signal asks to stop.

        Raises:
            GaveUp: one of them ends again and again.
        """
        while not self._signals.stopping:
            for life in self._lives:
                life.keep(self._timeout_s)
            self._signals.wait(_TICK_S)

    def stop(self) -> None:
        """Last started, first stopped: the shim drains while there is a Triton to drain into."""
        for life in reversed(self._lives):
            life.service.stop(fast=self._signals.forced)

    def _hurry(self) -> None:
        for life in self._lives:
            life.service.hurry()


class _Life:
    """One service and its present life."""

    def __init__(self, service: Service, say: Callable[[str], None]) -> None:
        self.service = service
        self.started = 0.0
        self.was_ready = False
        self._say = say
        self._backoff = Backoff()
        self._start_at: float | None = None  # None: it should be running
        self._spoke = 0.0

    def start(self) -> None:
        self.started, self._start_at, self.was_ready = time.monotonic(), None, False
        self._spoke = self.started
        self.service.start()

    def report(self) -> None:
        """Tell what is new, and now and then that nothing is: loading a model takes minutes."""
        lines = self.service.progress()
        if not lines and time.monotonic() - self._spoke > _HEARTBEAT_S:
            lines = [f"still waiting for {self.service.name}: {self.service.awaits()}"]
        for line in lines:
            self._say(line)
            self._spoke = time.monotonic()

    def hopeless(self, timeout_s: float) -> str | None:
        """Why it is waited for no longer, although it lives."""
        if why := self.service.stuck():
            return why
        late = time.monotonic() - self.started > timeout_s
        return f"is not ready after {timeout_s:.0f} s" if late else None

    def keep(self, timeout_s: float) -> None:
        if self._start_at is not None:
            if time.monotonic() >= self._start_at:
                self.start()
        elif not self.service.alive():
            self._bury(self.service.ended())
        else:
            self.service.tick()
            if not self.was_ready:
                self._look_for_readiness(timeout_s)

    def _look_for_readiness(self, timeout_s: float) -> None:
        if self.service.ready():
            self.was_ready = True
            self._say(f"{self.service.name} is back ({time.monotonic() - self.started:.1f} s)")
        elif why := self.hopeless(timeout_s):
            self.service.abort()
            self._bury(why)
        else:
            self.report()

    def _bury(self, why: str) -> None:
        wait_s = self._backoff.after(time.monotonic() - self.started, served=self.was_ready)
        if wait_s is None:
            raise _gave_up(self.service, f"{why}, {self._backoff.failures} times in a row")
        self._say(f"{self.service.name} {why}; starting it again in {wait_s:.1f} s")
        self._start_at = time.monotonic() + wait_s


def _gave_up(service: Service, what: str) -> GaveUp:
    lines = [f"{service.name} {what}", *service.log_tail(), service.log_place()]
    return GaveUp("\n  ".join(lines))
