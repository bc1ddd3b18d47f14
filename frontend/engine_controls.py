"""What degradation asks of the engines: sent in the background, because nobody waits for it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from frontend.background import BackgroundTasks
from frontend.routing.prefix_index import Life
from frontend.routing.sessions import Sessions
from frontend.routing.target import Target
from gpt_oss_triton.errors import ServiceError, UnsupportedParameter

log = logging.getLogger(__name__)

_TIMEOUT_S = 2.0
_AGAIN_S = 10.0  # after a failure
_MOST_SESSIONS = 1000  # ended at once on one target


class EngineControls:
    """Gives `admission.degradation.Relief` its hands.

    A step size lasts as long as the engine lives, and longer than this shim: so each engine that reports is
    told the present one once, also when it is the configured one.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        sessions: Sessions,
        background: BackgroundTasks,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._targets = targets
        self._sessions = sessions
        self._background = background
        self._clock = clock
        self._wanted: dict[str, int] = {}  # by target's name; missing: as configured
        self._told: dict[str, tuple[Life, int | None]] = {}
        self._not_before: dict[str, float] = {}

    def tune(self, target: Target, max_step_tokens: int | None) -> None:
        """Give an engine another step size, None for the configured one."""
        if max_step_tokens is None:
            self._wanted.pop(target.name, None)
        else:
            self._wanted[target.name] = max_step_tokens
        self.reconcile(target)

    def reconcile(self, target: Target) -> None:
        """Tell the engine its step size unless this life of it knows. Called with every report."""
        if target.life is None or self._clock() < self._not_before.get(target.name, 0.0):
            return
        due = (target.life, self._wanted.get(target.name))
        if self._told.get(target.name) != due:
            self._told[target.name] = due
            self._background.start(self._tell(target, due[1]))

    def end_idle_sessions(self, ensemble: str) -> None:
        """End the sessions that have no request, and their leases."""
        for target in self._targets:
            if target.ensemble == ensemble:
                idle = self._sessions.oldest_idle(_MOST_SESSIONS, target.name)
                self._sessions.end(idle, "pressure")
                self._background.start(self._end_leases(target, idle))

    async def _tell(self, target: Target, max_step_tokens: int | None) -> None:
        try:
            await target.watch.triton.tune(target.watch.engine, max_step_tokens, _TIMEOUT_S)
        except UnsupportedParameter as error:  # of this engine; it stays as it is
            log.info("%s: %s", target.name, error.message)
        except ServiceError as error:
            log.warning("%s: its step size could not be set: %s", target.name, error.message)
            self._told.pop(target.name, None)
            self._not_before[target.name] = self._clock() + _AGAIN_S

    async def _end_leases(self, target: Target, sessions: list[str]) -> None:
        try:
            await target.watch.triton.end_leases(target.watch.engine, sessions, _TIMEOUT_S)
        except ServiceError as error:  # they end by themselves when they are idle for long
            log.warning("%s: leases could not be ended: %s", target.name, error.message)
