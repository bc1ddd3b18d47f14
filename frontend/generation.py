"""One request on its way through Triton, from open to its end, however it ends.

Whatever ends it early (the client's disconnect, a deadline, the drain, a dead engine, a failure here)
comes through `stop`, which makes sure that the engine forgets the request and then fails the reader.
It knows nothing of HTTP and nothing of text.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from types import TracebackType
from typing import Protocol, Self

import msgspec

from frontend.background import BackgroundTasks
from frontend.deliveries import Answers, DeliveredAnswers, Deliveries
from frontend.triton import Answer, Triton
from gpt_oss_triton.errors import (
    Cancelled,
    DeadlineExceeded,
    EngineUnavailable,
    InternalError,
    InvalidRequest,
    NotAccepted,
    Overloaded,
    ServiceError,
)
from gpt_oss_triton.wire import Accepted, Finished, GenerationOptions, PromptRequest

log = logging.getLogger(__name__)

_CANCEL_RETRY_S = (0.1, 0.3, 1.0, 3.0, 9.0)  # when the engine model could not be reached
_CANCEL_TIMEOUT_S = 2.0
_END_S = 1.0  # from the engine's last word to the end of the stream


class Seat(Protocol):
    """Where a request runs: an ensemble, and the engine model behind it."""

    ensemble: str
    engine: str
    deliveries: Deliveries

    def check_ready(self) -> None:
        """Raises EngineUnavailable when requests cannot run now."""

    def attach(self, generation: Generation) -> None: ...

    def detach(self, generation: Generation) -> None: ...


class Generation:
    """Use as `async with`, await `accepted`, then iterate over the answers up to the one with `Finished`.

    Args:
        request_id: unique among all live requests of the engine.
        accept_timeout_s: how long Triton may take to accept or refuse.
        deadline_s: how long the whole request may take.
        traceparent: the trace that Triton's own spans belong to, if it should make some.

    Raises:
        EngineUnavailable: on entering, when the target is not ready.
        ServiceError: from `accepted` and the iteration: why the request failed or was stopped.
    """

    def __init__(
        self,
        triton: Triton,
        seat: Seat,
        background: BackgroundTasks,
        *,
        request_id: str,
        prompt: PromptRequest,
        options: GenerationOptions,
        accept_timeout_s: float,
        deadline_s: float,
        traceparent: str | None = None,
    ) -> None:
        self.request_id = request_id
        self._triton = triton
        self._seat = seat
        self._background = background
        self._prompt = prompt
        self._options = options
        self._accept_timeout_s = accept_timeout_s
        self._deadline_s = deadline_s
        self._traceparent = traceparent
        self._stopped: ServiceError | None = None
        self._over = False  # the engine has ended it, or never had it
        self._left = asyncio.Event()  # nobody reads any more

    async def __aenter__(self) -> Self:
        self._seat.check_ready()
        loop = asyncio.get_running_loop()
        self._stream = self._open()
        self._seat.attach(self)
        self._accept_timer = loop.call_later(
            self._accept_timeout_s,
            self.stop,
            NotAccepted("The engine did not accept the request in time.", retry_after_s=1.0),
        )
        self._deadline_timer = loop.call_later(
            self._deadline_s,
            self.stop,
            DeadlineExceeded("The request's time ran out."),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._accept_timer.cancel()
        self._deadline_timer.cancel()
        self.stop(Cancelled("The answer was abandoned."))
        self._seat.detach(self)
        self._left.set()
        if self._over:
            self._background.start(self._stream.end(_END_S))

    async def accepted(self) -> Accepted:
        """Wait until the engine has taken the request."""
        answer = await self._read()
        self._accept_timer.cancel()
        if not isinstance(answer.event, Accepted):
            raise InternalError("The engine answered without accepting the request.")
        return answer.event

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Answer:
        if self._over:
            raise StopAsyncIteration
        return await self._read()

    def stop(self, error: ServiceError, *, engine_lost: bool = False) -> None:
        """End the request now; the reader gets `error`. Does nothing to a request that is over."""
        if self._over or self._stopped is not None:
            return
        self._stopped = error
        if engine_lost:  # nobody is left to tell
            self._stream.cancel()
        else:
            self._background.start(self._withdraw())

    def _open(self) -> Answers:
        options, deliveries = self._options, self._seat.deliveries
        # Batches carry token ids alone.
        ticket = deliveries.ticket() if options.logprobs is None else None
        delivery = deliveries.lifeline() if ticket is None else ticket.delivery
        options = msgspec.structs.replace(options, delivery=delivery)
        stream = self._triton.generate(
            self._seat.ensemble, self.request_id, self._prompt, options, self._traceparent
        )
        return stream if ticket is None else DeliveredAnswers(stream, ticket)

    async def _read(self) -> Answer:
        if self._stopped is not None:
            raise self._stopped
        try:
            answer = await self._stream.read()
        except ServiceError as error:
            if self._stopped is not None:
                raise self._stopped from None
            if not isinstance(
                error, InvalidRequest | Overloaded
            ):  # no verdict of the engine's: it may still run
                self.stop(error)
            self._over = True
            raise
        if self._stopped is not None:
            raise self._stopped
        if answer is None:
            self._over = True
            raise EngineUnavailable("The engine ended the answer too early.", retry_after_s=1.0)
        if isinstance(answer.event, Finished):
            self._over = True
            if answer.event.finish_reason == "cancelled":
                raise EngineUnavailable(
                    "The engine ended the answer; send the request again.", retry_after_s=1.0
                )
        return answer

    async def _withdraw(self) -> None:
        """Cancel by id, until the engine model has heard it: an ensemble does not pass a stream's
        cancellation on to a step that is running. A request that is still on its way to the engine is
        refused when it gets there, because the engine model remembers the id."""
        for delay_s in (*_CANCEL_RETRY_S, None):
            try:
                await self._triton.cancel(self._seat.engine, self.request_id, _CANCEL_TIMEOUT_S)
                break
            except ServiceError as error:
                log.debug("cancel %s: %s", self.request_id, error.message)
            self._stream.cancel()  # the reader need not wait for the rest
            if delay_s is not None:
                await asyncio.sleep(delay_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_S):
                await self._left.wait()
                await self._stream.end(_END_S)
        self._stream.cancel()
