"""uvicorn's HTTP/1.1 protocol with bounds that it lacks, on bytes that lead nowhere and on how long a head takes.

The parser gathers a head, and a trailer, until it ends, however long it grows; and a connection that sends
half a head is kept for ever. Limits behind the parser come too late for both.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_TOO_LARGE = b"431 Request Header Fields Too Large"
_TOO_SLOW = b"408 Request Timeout"


def bounded_protocol(max_header_bytes: int, head_timeout_s: float) -> type[HttpToolsProtocol]:
    """A protocol class for uvicorn's `http` setting.

    Args:
        max_header_bytes: of one head. It is exceeded by at most what one read takes in.
        head_timeout_s: from a request's first byte, or the connection's beginning, to the end of its head.
    """
    return type("BoundedProtocol", (_Bounded,), {"max_fruitless": max_header_bytes, "head_s": head_timeout_s})


class _Bounded(HttpToolsProtocol):
    max_fruitless: int
    head_s: float

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._fruitless = 0  # bytes of reads since the parser last came to something
        self._progress = False
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._progress = False
        super().data_received(data)
        self._fruitless = 0 if self._progress else self._fruitless + len(data)
        if self._fruitless > self.max_fruitless:
            self._refuse(_TOO_LARGE)

    def on_message_begin(self) -> None:
        self._await_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._progress = True
        self._head_came()
        super().on_headers_complete()

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
        if self.scope is not None and (self.cycle is None or self.cycle.response_complete):
            self.transport.write(
                b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
        self.transport.close()
