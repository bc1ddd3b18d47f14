"""Caps on what a request may make the server hold in memory."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gpt_oss_triton.errors import HeadersTooLarge, RequestTooLarge


class SizeLimits:
    """Refuses large headers at once, and a large body at its Content-Length or as soon as it grows too long.

    Raises:
        RequestTooLarge, HeadersTooLarge: to the error boundary around it.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int, max_header_bytes: int) -> None:
        self.app = app
        self._max_body_bytes = max_body_bytes
        self._max_header_bytes = max_header_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        target = len(scope.get("raw_path") or b"") + len(scope["query_string"])
        if target + sum(len(name) + len(value) for name, value in scope["headers"]) > self._max_header_bytes:
            raise HeadersTooLarge(f"The headers are longer than {self._max_header_bytes} bytes.")
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdecimal() and int(declared) > self._max_body_bytes:
            raise self._too_large()
        received = 0

        async def counted_receive() -> Message:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > self._max_body_bytes:
                    raise self._too_large()
            return message

        await self.app(scope, counted_receive, send)

    def _too_large(self) -> RequestTooLarge:
        return RequestTooLarge(f"The body is longer than {self._max_body_bytes} bytes.")
