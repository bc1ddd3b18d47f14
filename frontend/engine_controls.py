"""What degradation asks of the engines: sent in the background, because nobody waits for it."""

from __future__ import annotations

import logging
from collections.abc import Coroutine, Sequence
from typing import Any

from frontend.background import BackgroundTasks
from frontend.routing.sessions import Sessions
from frontend.routing.target import Target
from gpt_oss_triton.errors import ServiceError

log = logging.getLogger(__name__)

_TIMEOUT_S = 2.0
_MOST_SESSIONS = 1000  # ended at once on one target


class EngineControls:
    """Gives `admission.degradation.Relief` its hands."""

    def __init__(self, targets: Sequence[Target], sessions: Sessions, background: BackgroundTasks) -> None:
        self._targets = targets
        self._sessions = sessions
        self._background = background

    def tune(self, target: Target, max_step_tokens: int | None) -> None:
        """Give an engine another step size, None for the configured one."""
        watch = target.watch
        self._send(target, "tune", watch.triton.tune(watch.engine, max_step_tokens, _TIMEOUT_S))

    def end_idle_sessions(self, ensemble: str) -> None:
        """End the sessions that have no request, and their leases."""
        for target in self._targets:
            if target.ensemble == ensemble:
                idle = self._sessions.oldest_idle(_MOST_SESSIONS, target.name)
                self._sessions.end(idle, "pressure")
                watch = target.watch
                self._send(target, "end leases", watch.triton.end_leases(watch.engine, idle, _TIMEOUT_S))

    def _send(self, target: Target, what: str, control: Coroutine[Any, Any, Any]) -> None:
        self._background.start(self._report(target, what, control))

    async def _report(self, target: Target, what: str, control: Coroutine[Any, Any, Any]) -> None:
        try:
            await control
        except ServiceError as error:  # the next change of level tries again
            log.warning("%s: %s failed: %s", target.name, what, error.message)
