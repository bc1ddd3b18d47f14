"""HTTP/1.1 over bare asyncio streams, for load generators that must not take the server's cores.

It speaks what our own server and its like answer: a body with a length, one in chunks, or all until the end. It keeps connections
and knows nothing of redirects or compression.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlsplit

_LONGEST_LINE = 1 << 20


@dataclass(frozen=True, slots=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class Reply:
    """Status and headers of an answer, whose body is read by iteration, once.

    Attributes:
        headers: names in lower case.
    """

    def __init__(
        self, client: PlainHttp, connection: _Connection, status: int, headers: dict[str, str]
    ) -> None:
        self.status = status
        self.headers = headers
        self._client = client
        self._connection = connection

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The body's pieces as they arrive. Who stops reading before the end closes the connection.

        Raises:
            OSError, EOFError: the connection breaks, or brings no HTTP.
        """
        whole = False
        try:
            async for data in self._body(self._connection.reader):
                yield data
            whole = "content-length" in self.headers or self._is_chunked
        except (ValueError, asyncio.LimitOverrunError) as error:
            raise ConnectionError(f"this is no HTTP: {error}") from None
        finally:
            if whole and self.headers.get("connection", "").lower() != "close":
                self._client.keep(self._connection)
            else:
                self._connection.writer.close()

    async def events(self) -> AsyncIterator[bytes]:
        """Server-sent events, without the blank line behind each. Raises like iteration."""
        pending = b""
        async for data in self:
            *events, pending = (pending + data).split(b"\n\n")
            for event in events:
                yield event

    @property
    def _is_chunked(self) -> bool:
        return self.headers.get("transfer-encoding", "").lower() == "chunked"

    async def _body(self, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
        if self._is_chunked:
            while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
                yield (await reader.readexactly(size + 2))[:-2]
            while await reader.readuntil(b"\r\n") != b"\r\n":  # trailers
                pass
        elif length := self.headers.get("content-length"):
            yield await reader.readexactly(int(length))
        else:
            while data := await reader.read(_LONGEST_LINE):
                yield data


class PlainHttp:
    """Use as `async with`.

    Args:
        url: what paths are put behind, such as `http://127.0.0.1:8000/v1`.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._tls = parts.scheme == "https"
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or (443 if self._tls else 80)
        self._path = parts.path.rstrip("/")
        self._idle: list[_Connection] = []

    async def __aenter__(self) -> PlainHttp:
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self._idle:
            connection.writer.close()

    async def post(self, path: str, body: bytes, key: str | None = None) -> Reply:
        """Send JSON and wait for the headers of the answer. Raises OSError or EOFError when there is none."""
        bearer = f"authorization: Bearer {key}\r\n" if key else ""
        head = (
            f"POST {self._path}{path} HTTP/1.1\r\nhost: {self._host}:{self._port}\r\n{bearer}"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        while self._idle:
            with contextlib.suppress(OSError, EOFError):  # the server had closed it
                return await self._exchange(self._idle.pop(), head.encode() + body)
        streams = await asyncio.open_connection(
            self._host, self._port, limit=_LONGEST_LINE, ssl=self._tls or None
        )
        connection = _Connection(*streams)
        return await self._exchange(connection, head.encode() + body)

    def keep(self, connection: _Connection) -> None:
        """An answer was read to its end: its connection serves the next request."""
        self._idle.append(connection)

    async def _exchange(self, connection: _Connection, request: bytes) -> Reply:
        with contextlib.ExitStack() as failed:  # or cancelled
            failed.callback(connection.writer.close)
            connection.writer.write(request)
            try:
                lines = (await connection.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                status = int(lines[0].split()[1])
            except (ValueError, IndexError, asyncio.LimitOverrunError) as error:
                raise ConnectionError(f"this is no HTTP: {error}") from None
            failed.pop_all()
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        return Reply(self, connection, status, headers)
