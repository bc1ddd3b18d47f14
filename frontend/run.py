"""One answer's way from admission to its end: out of an engine, or of the cache of answers.

What an endpoint makes of the answer is not known here, nor how many there are to a request.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from frontend.admission.ask import Ask
from frontend.dispatch import Dispatch
from frontend.routing.sessions import Turn
from frontend.run_request import RunRequest
from frontend.service import Service
from frontend.triton import Answer
from gpt_oss_triton.errors import ServiceError


class Run:
    """Use as `async with`, await `accepted`, then iterate. Whoever leaves early ends the request.

    Raises:
        ServiceError: from `accepted` and the iteration, as `Dispatch`.
    """

    def __init__(self, service: Service, request: RunRequest, ask: Ask, turn: Turn, request_id: str) -> None:
        self._service = service
        self._request = request
        self._ask = ask
        self._turn = turn
        self._request_id = request_id
        self._dispatch: Dispatch | None = None
        self._answers: AsyncIterator[Answer] | None = None
        self._stopped: ServiceError | None = None
        self._held = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._held.enter_context(self._turn)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._held.__aexit__(kind, error, trace)

    @property
    def waits(self) -> bool:
        """For its place."""
        return self._ask.record.queued is not None and self._ask.record.admitted is None

    async def accepted(self) -> None:
        """Wait until it is certain that there will be an answer: until here a failure can have its own status."""
        if self._stopped is not None:
            raise self._stopped
        service, record = self._service, self._ask.record
        cache = service.response_cache
        key = service.cache_key(self._ask.caller, self._ask.ensemble, self._request)
        self._answers = None if key is None else cache.replay(key)
        if self._answers is not None:
            record.response_cache = "hit"
            service.admission.pass_by(self._ask)
            return
        record.response_cache = None if key is None else "miss"
        dispatch = service.dispatch(self._ask, self._request, self._turn, self._request_id)
        self._dispatch = await self._held.enter_async_context(dispatch)
        await self._dispatch.accepted()
        self._answers = self._dispatch if key is None else cache.record(key, self._dispatch)

    async def __aiter__(self) -> AsyncIterator[Answer]:
        if self._answers is None:
            raise RuntimeError("iterated before it was accepted")
        async for answer in self._answers:
            self._ask.record.counts.came(len(answer.token_ids), answer.event)
            yield answer

    def stop(self, error: ServiceError) -> None:
        """End it now; its reader gets `error`."""
        self._stopped = self._stopped or error
        if self._dispatch is not None:
            self._dispatch.stop(error)
