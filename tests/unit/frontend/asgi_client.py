"""One request at the ASGI edge, where a test can leave in the middle and see each message as it was sent."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.types import ASGIApp, Message


class Exchange:
    """A request in progress. Use `start`, then `status`, `bodies`, `disconnect`, `finish`.

    Attributes:
        reads: cleared while the client takes nothing more.
    """

    def __init__(self, app: ASGIApp, path: str, body: bytes, headers: dict[str, str], method: str) -> None:
        self._app = app
        self._scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
            "method": method, "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"",
            "root_path": "", "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "state": {},
        }  # fmt: skip
        self._incoming: asyncio.Queue[Message] = asyncio.Queue()
        self._incoming.put_nowait({"type": "http.request", "body": body, "more_body": False})
        self.sent: list[Message] = []
        self._changed = asyncio.Event()
        self.reads = asyncio.Event()
        self.reads.set()
        self.task: asyncio.Task[None] | None = None

    @classmethod
    def post(cls, app: ASGIApp, path: str, record: Any, headers: dict[str, str] | None = None) -> Exchange:
        given = {"content-type": "application/json", **(headers or {})}
        exchange = cls(app, path, json.dumps(record).encode(), given, "POST")
        exchange.start()
        return exchange

    def start(self) -> None:
        self.task = asyncio.create_task(self._app(self._scope, self._receive, self._send))  # type: ignore[arg-type]

    async def _receive(self) -> Message:
        return await self._incoming.get()

    async def _send(self, message: Message) -> None:
        self.sent.append(message)
        self._changed.set()
        await self.reads.wait()

    def disconnect(self) -> None:
        self._incoming.put_nowait({"type": "http.disconnect"})

    async def wait_sent(self, count: int, deadline_s: float = 10.0) -> None:
        """Until at least `count` messages were sent."""
        async with asyncio.timeout(deadline_s):
            while len(self.sent) < count:
                self._changed.clear()
                await self._changed.wait()

    async def finish(self, deadline_s: float = 10.0) -> None:
        assert self.task is not None
        async with asyncio.timeout(deadline_s):
            await self.task

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {k.decode(): v.decode() for k, v in self.sent[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(m.get("body", b"") for m in self.sent[1:])

    def events(self) -> list[Any]:
        """The server-sent events so far: JSON records, and the string of what is not JSON."""
        lines = [line for line in self.body.decode().split("\n\n") if line]
        return [
            json.loads(line.removeprefix("data: ")) if line.startswith("data: {") else line for line in lines
        ]
