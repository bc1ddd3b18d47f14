"""Streams that bring a shim the tokens of all its requests, one response for a step.

A response costs the same whether it carries one token or a hundred: a round trip from this process to the
server, a hop through the ensemble, a message on the wire. With each request's tokens on its own stream that
would be paid for every token.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Protocol

from gpt_oss_triton.errors import EngineUnavailable, InvalidRequest, Overloaded
from gpt_oss_triton.triton_backend.failure_log import log_failure
from gpt_oss_triton.triton_backend.responder import Responder
from gpt_oss_triton.wire import Batch, Delivery

MAX_STREAMS = 64  # each is a shim; more is a leak on the other side


class OnReady(Protocol):
    def __call__(self, stream: DeliveryStream, delay_s: float, /) -> None:
        """There is something to flush, which can wait for `delay_s`. Called on any thread."""


class DeliveryStream:
    """One shim's stream. `gone` once nothing can be written to it any more."""

    def __init__(self, responder: Responder, interval_s: float, on_ready: OnReady) -> None:
        """`interval_s`: between two responses, as long as nothing is urgent."""
        self.gone = False
        self._responder = responder
        self._interval_s = interval_s
        self._on_ready = on_ready
        self._lock = threading.Lock()
        self._flushed_at = 0.0  # guarded by _lock, as is what follows
        self._tickets: list[int] = []
        self._counts: list[int] = []
        self._token_ids: list[int] = []
        self._hurried = False  # the sender knows that this cannot wait

    def put(self, ticket: int, token_ids: list[int]) -> None:
        """Called by the engine. Neither blocks nor raises."""
        with self._lock:
            announce = not self._tickets
            self._tickets.append(ticket)
            self._counts.append(len(token_ids))
            self._token_ids += token_ids
            due = self._flushed_at + self._interval_s
        if announce:
            self._on_ready(self, max(0.0, due - time.monotonic()))

    def hurry(self) -> None:
        """What was put in must not wait: somebody's answer begins with it or ends."""
        with self._lock:
            announce = bool(self._tickets) and not self._hurried
            self._hurried = bool(self._tickets)
        if announce:
            self._on_ready(self, 0.0)

    def open(self) -> None:
        """Tell the client that it may name this stream."""
        self._responder.send(event=Batch([], []))

    def flush(self) -> None:
        """Write what has come since the last call. Called on the sender's thread."""
        with self._lock:
            batch, token_ids = Batch(self._tickets, self._counts), self._token_ids
            self._tickets, self._counts, self._token_ids = [], [], []
            self._hurried = False
            if batch.tickets:
                self._flushed_at = time.monotonic()
        if batch.tickets and not self.gone:
            self._responder.send(event=batch, token_ids=token_ids)

    def abandon(self) -> None:
        """It cannot be written to any more."""
        self.gone = True
        self._responder.abort(EngineUnavailable("The engine was stopped."))

    def end_if_cancelled(self) -> None:
        """Raises what Triton raises when it does not tell."""
        if self._responder.is_cancelled():
            self.gone = True
            self._responder.end()


@dataclass(frozen=True, slots=True)
class Outlet:
    """Where one request's tokens go; without a ticket none do."""

    stream: DeliveryStream
    ticket: int | None

    @property
    def closed(self) -> bool:
        return self.stream.gone

    def put(self, token_ids: list[int]) -> None:
        if self.ticket is not None:
            self.stream.put(self.ticket, token_ids)

    def hurry(self) -> None:
        self.stream.hurry()


class DeliveryStreams:
    """By id. Thread-safe."""

    def __init__(self, interval_s: float, on_ready: OnReady) -> None:
        self._interval_s = interval_s
        self._on_ready = on_ready
        self._lock = threading.Lock()
        self._streams: dict[str, DeliveryStream] = {}  # guarded by _lock

    def open(self, stream_id: str, responder: Responder) -> None:
        """Raises:
        InvalidRequest: a stream of this id is open.
        Overloaded: MAX_STREAMS are open.
        """
        stream = DeliveryStream(responder, self._interval_s, self._on_ready)
        with self._lock:
            if stream_id in self._streams:
                raise InvalidRequest("A delivery stream of this id is open.", param="id")
            if len(self._streams) >= MAX_STREAMS:
                raise Overloaded(
                    f"{MAX_STREAMS} delivery streams are open, which is the limit.", retry_after_s=1
                )
            self._streams[stream_id] = stream
        try:
            stream.open()
        except BaseException:
            stream.gone = True
            self._discard_gone()
            raise

    def outlet(self, delivery: Delivery) -> Outlet:
        """Raises:
        EngineUnavailable: it is not open (any more).
        """
        with self._lock:
            stream = self._streams.get(delivery.stream)
        if stream is None or stream.gone:
            raise EngineUnavailable("The stream for the answer's tokens is closed.", retry_after_s=1)
        return Outlet(stream, delivery.ticket)

    def sweep(self) -> None:
        """Forget the streams whose clients have gone."""
        for stream in self._all():
            try:
                stream.end_if_cancelled()
            except Exception as error:  # of one stream: the others' clients are still to be watched
                log_failure("a cancellation could not be polled", error)
        self._discard_gone()

    def close(self) -> None:
        """End all streams. Call it when nothing is sent any more."""
        for stream in self._all():
            stream.abandon()

    def _all(self) -> list[DeliveryStream]:
        with self._lock:
            return list(self._streams.values())

    def _discard_gone(self) -> None:
        with self._lock:
            self._streams = {name: stream for name, stream in self._streams.items() if not stream.gone}
