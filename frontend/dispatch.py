"""One request from admission to its last token: on one target or, when that one lost it early, on a second.

A request whose engine is lost is tried once more elsewhere while no token of it has come: until then the
second try is as good as the first. What happens on the way is noted in the request's record.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from frontend.admission.admission import Admission, Placement
from frontend.admission.ask import Ask
from frontend.generation import Generation
from frontend.triton import Answer
from gpt_oss_triton.errors import EngineUnavailable, InternalError, Overloaded, ServiceError
from gpt_oss_triton.telemetry.record import Attempt
from gpt_oss_triton.wire import Accepted, Finished

_MOST_ATTEMPTS = 2


class Dispatch:
    """Use as `async with`, await `accepted`, then iterate over the answers up to the one with `Finished`.

    Args:
        generate: makes a generation on a placement's target.

    Raises:
        ServiceError: from `accepted` and the iteration: admission's refusal, why the request failed, or
            why it was stopped.
    """

    def __init__(self, admission: Admission, ask: Ask, generate: Callable[[Placement], Generation]) -> None:
        self._admission = admission
        self._ask = ask
        self._record = ask.record
        self._generate = generate
        self._placement: Placement | None = None
        self._generation: Generation | None = None
        self._entering: asyncio.Task[Placement] | None = None
        self._stopped: ServiceError | None = None
        self._failure: ServiceError | None = None  # what the reader was told, who may not pass it on

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave(error or self._failure)
        self._admission.finished(self._ask)

    async def accepted(self) -> Accepted:
        """Wait until an engine has taken the request."""
        try:
            return await self._try()
        except ServiceError as error:
            return await self._try_elsewhere(error)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Answer:
        while True:
            if self._generation is None:
                raise RuntimeError("iterated before it was accepted")
            try:
                answer = await anext(self._generation)
            except ServiceError as error:
                self._failure = error
                try:
                    await self._try_elsewhere(error)
                except ServiceError as last:
                    self._failure = last
                    raise
                self._failure = None
            else:
                self._note(answer)
                return answer

    def stop(self, error: ServiceError) -> None:
        """End the request now, wherever it is; the reader gets `error`."""
        self._stopped = self._stopped or error
        if self._entering is not None:
            self._entering.cancel()
        if self._placement is not None and (load := self._placement.target.load) is not None:
            self._record.computing = load.waiting == 0  # a stopped request brings no timings
        if self._generation is not None:
            self._generation.stop(error)

    async def _try(self) -> Accepted:
        placement = self._placement = await self._enter()
        if self._stopped is not None:  # in the moment in which the place came
            raise self._stopped
        self._record.attempts.append(Attempt(placement.target.name, placement.reason))
        self._generation = await self._generate(placement).__aenter__()
        accepted = await self._generation.accepted()
        placement.reservation.accepted(accepted.prompt_tokens, accepted.cached_tokens)
        record = self._record
        record.accepted = time.time()
        record.reserved_blocks = placement.reservation.blocks_held
        record.prompt = accepted.prompt
        record.counts.accepted(accepted.prompt_tokens, accepted.cached_tokens)
        return accepted

    async def _try_elsewhere(self, error: ServiceError) -> Accepted:
        """The second try; raises `error` where there is none."""
        failed = self._placement
        if failed is None or self._stopped is not None or not self._may_repeat(error):
            raise error
        await self._leave(error)
        self._ask.excluded.add(failed.target.name)
        try:
            return await self._try()
        except EngineUnavailable as second:
            await self._leave(second)
            raise error from None  # nobody else serves the model: the first failure says more

    def _may_repeat(self, error: ServiceError) -> bool:
        return (
            isinstance(error, EngineUnavailable | InternalError | Overloaded)
            and self._record.first_token is None
            and len(self._record.attempts) < _MOST_ATTEMPTS
        )

    async def _enter(self) -> Placement:
        """Wait for a place, in a task of its own so that `stop` can end the wait."""
        if self._stopped is not None:
            raise self._stopped
        entering = self._entering = asyncio.create_task(self._admission.enter(self._ask))
        try:
            return await entering
        except asyncio.CancelledError:
            entering.add_done_callback(_release_unused)
            if self._stopped is None:
                raise
            raise self._stopped from None
        finally:
            self._entering = None

    async def _leave(self, error: BaseException | None) -> None:
        """Let go of the target, and tell its breaker how it was."""
        attempts = self._record.attempts
        if isinstance(error, ServiceError) and attempts and attempts[-1].failed is None:
            attempts[-1].failed = error.code
        generation, self._generation = self._generation, None
        placement, self._placement = self._placement, None
        if generation is not None:
            await generation.__aexit__(None, None, None)
        if placement is not None:
            placement.target.breaker.record(error, answered=self._record.accepted is not None)
            placement.reservation.release()

    def _note(self, answer: Answer) -> None:
        record = self._record
        if answer.token_ids:
            record.last_token = time.time()
            record.first_token = record.first_token or record.last_token
        if isinstance(answer.event, Finished):
            record.preemptions, record.blocks = answer.event.preemptions, answer.event.blocks
            record.timings = answer.event.timings


def _release_unused(entering: asyncio.Task[Placement]) -> None:
    """A place that was given in the moment in which nobody waited for it any more."""
    if not entering.cancelled() and entering.exception() is None:
        entering.result().reservation.release()
