"""Caps on what a request may make the server hold in memory, and on how long it may take to come in."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gpt_oss_triton.errors import HeadersTooLarge, Overloaded, RequestTimeout, RequestTooLarge

_HELD_BYTES = 256 * 1024 * 1024  # of all bodies together,
_HELD_BODIES = 8  # or so many of the largest size
_RETRY_AFTER_S = 1.0


class SizeLimits:
    """Refuses large headers at once, and a large body at its Content-Length or as soon as it grows too long.

    Bodies of all requests that are being answered share one more limit, far above what prompts need.

    Raises:
        RequestTooLarge, HeadersTooLarge, Overloaded: to the error boundary around it.
    """

    def __init__(
        self, app: ASGIApp, max_body_bytes: int, max_header_bytes: int, max_held_bytes: int | None = None
    ) -> None:
        self.app = app
        self._max_body_bytes = max_body_bytes
        self._max_header_bytes = max_header_bytes
        self._max_held_bytes = max_held_bytes or max(_HELD_BYTES, _HELD_BODIES * max_body_bytes)
        self._held = 0

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
                size = len(message.get("body", b""))
                received += size
                self._held += size
                if received > self._max_body_bytes:
                    raise self._too_large()
                if self._held > self._max_held_bytes:
                    raise Overloaded("Too much is being sent at once.", retry_after_s=_RETRY_AFTER_S)
            return message

        try:
            await self.app(scope, counted_receive, send)
        finally:
            self._held -= received

    def _too_large(self) -> RequestTooLarge:
        return RequestTooLarge(f"The body is longer than {self._max_body_bytes} bytes.")


class BodyTimeout:
    """Refuses a body that has not come in after `timeout_s` seconds, however steadily it trickles.

    Raises:
        RequestTimeout: to the error boundary around it.
    """

    def __init__(self, app: ASGIApp, timeout_s: float) -> None:
        self.app = app
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        complete = False

        async def timed_receive() -> Message:
            nonlocal complete
            if complete:  # what comes now is the client's leaving, which may take for ever
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise RequestTimeout(
                    f"The body did not come in within {self._timeout_s:g} seconds."
                ) from None
            complete = not message.get("more_body", False)
            return message

        await self.app(scope, timed_receive, send)
