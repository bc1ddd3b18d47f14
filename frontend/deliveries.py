"""Where an engine's tokens arrive: one stream for all requests of this shim, which sorts them by ticket.

A response for each token of each request would cost more than the rest of a request's way together, so the
engine sends what a step produced in one. A request's own stream still says how it begins and ends. While no
delivery stream is open, requests take their tokens from their own streams.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import uuid
from collections import deque
from typing import Protocol

from frontend.triton import Answer, AnswerStream, Triton
from gpt_oss_triton.errors import Cancelled, EngineUnavailable, ServiceError
from gpt_oss_triton.wire import Batch, Delivery, Finished

log = logging.getLogger(__name__)

_REOPEN_S = 1.0


class Answers(Protocol):
    """The responses to one request: `triton.AnswerStream`, or one whose tokens come from elsewhere."""

    async def read(self) -> Answer | None: ...

    async def end(self, grace_s: float) -> None: ...

    def cancel(self) -> None: ...


class Deliveries:
    """One engine model's delivery stream."""

    def __init__(self, triton: Triton, engine: str) -> None:
        self._triton = triton
        self._engine = engine
        self._engine_lives = asyncio.Event()
        self._stream: AnswerStream | None = None
        self._stream_id: str | None = None  # of the stream once the engine has opened it
        self._tickets: dict[int, Ticket] = {}
        self._numbers = itertools.count()

    def ticket(self) -> Ticket | None:
        """For one request, which closes it; None while its tokens have to come on its own stream."""
        if self._stream_id is None:
            return None
        number = next(self._numbers)
        ticket = self._tickets[number] = Ticket(self, number, Delivery(self._stream_id, number))
        return ticket

    def lifeline(self) -> Delivery | None:
        """For a request whose tokens come on its own stream: it ends with this shim."""
        return None if self._stream_id is None else Delivery(self._stream_id, None)

    def forget(self, ticket: Ticket) -> None:
        self._tickets.pop(ticket.number, None)

    def engine_lives(self) -> None:
        """It reports: a stream can be opened."""
        self._engine_lives.set()

    def engine_lost(self) -> None:
        """Its life is over, and the stream with it, whether or not Triton says so."""
        self._engine_lives.clear()
        self._stream_id = None
        if self._stream is not None:
            self._stream.cancel()

    async def run(self) -> None:
        """Keep a stream open while the engine lives, until cancelled."""
        while True:
            await self._engine_lives.wait()
            try:
                await self._follow()
            except ServiceError as error:
                log.debug("%s: the delivery stream ended: %s", self._engine, error.message)
            except Exception:  # the task's boundary: requests go on without it
                log.exception("%s: the delivery stream failed", self._engine)
            await asyncio.sleep(_REOPEN_S)

    async def _follow(self) -> None:
        stream_id = uuid.uuid4().hex
        stream = self._stream = self._triton.deliver(self._engine, stream_id)
        try:
            while (answer := await stream.read()) is not None:
                if isinstance(answer.event, Batch):
                    self._stream_id = stream_id
                    self._sort(answer.event, answer.token_ids)
        finally:
            stream.cancel()
            self._stream = self._stream_id = None
            self._fail_open()

    def _sort(self, batch: Batch, token_ids: list[int]) -> None:
        begin = 0
        for number, count in zip(batch.tickets, batch.counts, strict=True):
            if (ticket := self._tickets.get(number)) is not None:
                ticket.put(token_ids[begin : begin + count])
            begin += count

    def _fail_open(self) -> None:
        """Tokens may have been lost with the stream."""
        for ticket in list(self._tickets.values()):
            ticket.fail(
                EngineUnavailable(
                    "The connection to the engine broke; send the request again.", retry_after_s=1
                )
            )


class Ticket:
    """One request's share of the deliveries.

    Attributes:
        number: its own among all of them.
        delivery: names it to the engine.
    """

    def __init__(self, deliveries: Deliveries, number: int, delivery: Delivery) -> None:
        self.number = number
        self.delivery = delivery
        self._deliveries = deliveries
        self._token_ids: list[int] = []
        self._came = 0
        self._begun = False  # the first answer, which no token may precede, was read
        self._answers: deque[Answer | ServiceError | None] = deque()  # of the request's own stream
        self._waiter: asyncio.Future[None] | None = None

    def put(self, token_ids: list[int]) -> None:
        self._token_ids += token_ids
        self._came += len(token_ids)
        self._wake()

    def note(self, answer: Answer | ServiceError | None) -> None:
        """What came on the request's own stream; None at its end."""
        self._answers.append(answer)
        self._wake()

    def fail(self, error: ServiceError) -> None:
        self._answers.appendleft(error)
        self._wake()

    def close(self) -> None:
        self._deliveries.forget(self)

    async def read(self) -> Answer | None:
        """What comes next, tokens and the own stream's answers merged. Raises the request's failure."""
        while (answer := self._next()) is _NOTHING_YET:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return answer

    def _next(self) -> Answer | None:
        if self._begun and self._token_ids:
            return Answer(self._take(), None)
        if not self._answers:
            return _NOTHING_YET
        answer = self._answers[0]
        finished = answer.event if isinstance(answer, Answer) else None
        if isinstance(finished, Finished) and self._came < finished.completion_tokens:
            return _NOTHING_YET  # the last tokens are still on their way
        self._begun = True
        self._answers.popleft()
        if isinstance(answer, ServiceError):
            raise answer
        return answer

    def _take(self) -> list[int]:
        token_ids, self._token_ids = self._token_ids, []
        return token_ids

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


_NOTHING_YET = Answer([], None)


class DeliveredAnswers:
    """A request's own stream and its ticket, read as one. As `triton.AnswerStream`."""

    def __init__(self, stream: Answers, ticket: Ticket) -> None:
        self._stream = stream
        self._ticket = ticket
        self._pump = asyncio.create_task(self._follow())

    async def read(self) -> Answer | None:
        return await self._ticket.read()

    async def end(self, grace_s: float) -> None:
        self._ticket.close()
        await asyncio.wait((self._pump,), timeout=grace_s)
        self.cancel()

    def cancel(self) -> None:
        self._ticket.close()
        self._ticket.fail(Cancelled("The request was cancelled."))  # to a reader of tokens that come no more
        if not self._pump.done():
            self._stream.cancel()

    async def _follow(self) -> None:
        try:
            while (answer := await self._stream.read()) is not None:
                self._ticket.note(answer)
            self._ticket.note(None)
        except ServiceError as error:
            self._ticket.note(error)
