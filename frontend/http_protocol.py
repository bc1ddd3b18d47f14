"""uvicorn's HTTP/1.1 protocol with bounds that it lacks: on bytes that lead nowhere, and on how long a head
and a close take. And whichever request is being answered hears that its client has gone.

The parser gathers a head, and a trailer, until it ends, however long it grows; and a connection that sends
half a head is kept for ever. Limits behind the parser come too late for both. A close waits until the client
has read what was written, for ever as well. Of requests that were sent without waiting for answers, uvicorn
tells the last alone that the client has gone, and that one is not running yet.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

_TOO_LARGE = b"431 Request Header Fields Too Large"
_TOO_SLOW = b"408 Request Timeout"
_MAX_WAITING = 8  # requests behind the one that is answered, for which more is read


def bounded_protocol(
    max_header_bytes: int, head_timeout_s: float, close_timeout_s: float = 30.0
) -> type[HttpToolsProtocol]:
    """A protocol class for uvicorn's `http` setting.

    Args:
        max_header_bytes: of one head. It is exceeded by at most what one read takes in.
        head_timeout_s: from a request's first byte, or the connection's beginning, to the end of its head; and from bytes
            that follow an answer without beginning a request.
        close_timeout_s: from a connection's close to its end. What the client has not read then is lost.
    """
    bounds = {"max_fruitless": max_header_bytes, "head_s": head_timeout_s, "close_s": close_timeout_s}
    return type("BoundedProtocol", (_Bounded,), bounds)


class _Closing:
    """A transport whose close ends in time, whoever calls it."""

    def __init__(self, transport: asyncio.Transport, close_s: float) -> None:
        self._transport = transport
        self._close_s = close_s
        self._timer: asyncio.TimerHandle | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def close(self) -> None:
        if not self._transport.is_closing():
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._close_s, self._transport.abort)
        self._transport.close()

    def ended(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


class _Bounded(HttpToolsProtocol):
    max_fruitless: int
    head_s: float
    close_s: float

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._fruitless = 0  # bytes of reads since the parser last came to something
        self._progress = False
        self._in_head = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._unanswered: deque[RequestResponseCycle] = deque()  # the first is being answered
        self._closing: _Closing

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._closing = _Closing(transport, self.close_s)
        super().connection_made(cast(asyncio.Transport, self._closing))
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        for cycle in self._unanswered:
            if not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self._unanswered.clear()
        self.pipeline.clear()
        super().connection_lost(exc)
        self._closing.ended()

    def eof_received(self) -> None:
        self.transport.close()  # as the loop would, which does not know that a close has its time

    def data_received(self, data: bytes) -> None:
        self._progress = False
        super().data_received(data)
        self._fruitless = 0 if self._progress else self._fruitless + len(data)
        if self._fruitless > self.max_fruitless:
            self._refuse(_TOO_LARGE)
        elif self._head_timer is None and self.cycle is not None and self.cycle.response_complete:
            self._await_head()  # these bytes ended uvicorn's wait for the next request, and were none

    def on_message_begin(self) -> None:
        self._in_head = True
        self._await_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._progress = True
        self._in_head = False
        self._head_came()
        super().on_headers_complete()
        self._unanswered.append(self.cycle)
        while self._unanswered[0].response_complete:
            self._unanswered.popleft()
        if len(self._unanswered) <= 1 + _MAX_WAITING:
            # uvicorn reads no more while a request waits, and would not notice that the client goes
            self.flow.resume_reading()

    def on_body(self, body: bytes) -> None:
        self._progress = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._progress = True
        super().on_message_complete()

    def _await_head(self) -> None:
        self._head_came()
        self._head_timer = self.loop.call_later(self.head_s, self._refuse, _TOO_SLOW)

    def _head_came(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, status: bytes) -> None:
        """End the connection; say why, unless no request has begun or an answer is being written."""
        self._head_came()
        if self.transport.is_closing():
            return
        if self._in_head and (self.cycle is None or self.cycle.response_complete):
            self.transport.write(
                b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
        self.transport.close()
