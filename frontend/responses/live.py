"""Responses that are being made now, for those who ask for them or cancel them meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from frontend.caller import Caller
from frontend.responses.reply import Reply
from gpt_oss_triton.errors import Cancelled, ServiceError


class Live:
    """Attributes:
    reply: as far as it has come.
    cancelled: its caller wants no more of it.
    """

    def __init__(self, reply: Reply, stop: Callable[[ServiceError], None]) -> None:
        self.reply = reply
        self.cancelled = False
        self._stop = stop

    def cancel(self) -> None:
        self.cancelled = True
        self._stop(Cancelled("The response was cancelled."))


class LiveResponses:
    """Bounded by the requests that are let in."""

    def __init__(self) -> None:
        self._live: dict[tuple[str, str, str], Live] = {}

    @contextlib.contextmanager
    def during(self, caller: Caller, reply: Reply, stop: Callable[[ServiceError], None]) -> Iterator[Live]:
        """It is found inside."""
        key = (caller.name, caller.salt, reply.id)
        live = self._live[key] = Live(reply, stop)
        try:
            yield live
        finally:
            del self._live[key]

    def get(self, caller: Caller, response_id: str) -> Live | None:
        return self._live.get((caller.name, caller.salt, response_id))
