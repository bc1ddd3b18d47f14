"""Server-sent events over ASGI: one event per write, a comment when nothing was written for a while."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from frontend.boundary import as_service_error
from frontend.chat_reply import KEEP_ALIVE, event
from gpt_oss_triton.errors import DeadlineExceeded, ServiceError

KEEP_ALIVE_S = 15.0


def error_event(failure: ServiceError) -> bytes:
    """As chat and text completions tell of it."""
    return event(failure.envelope())


class EventStream(Response):
    """Sends `events`, each as one ASGI message; a failure after the first becomes an error event.

    Args:
        events: encoded events.
        resources: closed when the stream ends, however it ends.
        timeout_s: a reader so slow that the whole takes longer loses the connection.
        failed: makes the event that tells of a failure.
    """

    def __init__(
        self,
        events: AsyncGenerator[bytes],
        resources: contextlib.AsyncExitStack,
        timeout_s: float,
        headers: dict[str, str] | None = None,
        failed: Callable[[ServiceError], bytes] = error_event,
    ) -> None:
        super().__init__(media_type="text/event-stream", headers=headers)
        del self.headers["content-length"]
        self.headers["cache-control"] = "no-cache"
        self.headers["x-accel-buffering"] = "no"  # nginx would gather events
        self._events = events
        self._resources = resources
        self._timeout_s = timeout_s
        self._failed = failed
        self._written_at = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._resources:
            try:
                async with asyncio.timeout(self._timeout_s), contextlib.aclosing(self._events):
                    await self._send(scope, send)
            except TimeoutError:  # no error event: the client would not read that either
                scope["state"]["record"].error = DeadlineExceeded.code

    async def _send(self, scope: Scope, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        loop = asyncio.get_running_loop()
        keep_alive = asyncio.create_task(self._keep_alive(send))
        try:
            async for data in self._events:
                self._written_at = loop.time()
                await send({"type": "http.response.body", "body": data, "more_body": True})
        except Exception as error:  # the status is sent: this is the boundary for what comes after it
            failure = as_service_error(error)
            scope["state"]["record"].error = failure.code
            await send({"type": "http.response.body", "body": self._failed(failure), "more_body": True})
        finally:
            keep_alive.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _keep_alive(self, send: Send) -> None:
        loop = asyncio.get_running_loop()
        self._written_at = loop.time()
        while True:
            await asyncio.sleep(max(self._written_at + KEEP_ALIVE_S - loop.time(), 0.01))
            if loop.time() - self._written_at >= KEEP_ALIVE_S:
                self._written_at = loop.time()
                await send({"type": "http.response.body", "body": KEEP_ALIVE, "more_body": True})
