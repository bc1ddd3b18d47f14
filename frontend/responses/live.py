"""Responses that are being made now, for those who ask for them, cancel them or delete them meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from frontend.caller import Caller
from frontend.responses.reply import Reply


@dataclass(frozen=True, slots=True)
class Live:
    """Attributes:
    reply: as far as it has come.
    cancel: its caller wants no more of it; nothing where it has ended.
    """

    reply: Reply
    cancel: Callable[[], None]


class LiveResponses:
    """Bounded by the requests that are let in."""

    def __init__(self) -> None:
        self._live: dict[tuple[str, str, str], Live] = {}

    @contextlib.contextmanager
    def during(self, caller: Caller, live: Live) -> Iterator[None]:
        """It is found inside, unless it is deleted."""
        key = _key(caller, live.reply.id)
        self._live[key] = live
        try:
            yield
        finally:
            self._live.pop(key, None)

    def get(self, caller: Caller, response_id: str) -> Live | None:
        return self._live.get(_key(caller, response_id))

    def delete(self, caller: Caller, response_id: str) -> bool:
        """It is found no more, though it is still made. Whether there was one."""
        return self._live.pop(_key(caller, response_id), None) is not None


def _key(caller: Caller, response_id: str) -> tuple[str, str, str]:
    return caller.name, caller.salt, response_id
