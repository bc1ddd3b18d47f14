"""Gives every request an id and one line in the log. Never logs headers, keys or text."""

from __future__ import annotations

import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

_ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_PROBES = frozenset({"/livez", "/readyz", "/health"})  # asked several times a second: only at debug level


class RequestLog:
    """Takes `X-Request-Id` in or makes one, sends it back, and logs the request when it has ended.

    Handlers add what they know to `scope["state"]["log"]`, a dict of short values.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _ACCEPTABLE_ID.fullmatch(given) else uuid.uuid4().hex
        notes: dict[str, object] = {}
        scope.setdefault("state", {}).update(request_id=request_id, log=notes)
        status = 0
        started_at = time.monotonic()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        finally:
            log.log(
                logging.DEBUG if scope["path"] in _PROBES else logging.INFO,
                "%s %s %d %.3fs id=%s%s",
                scope["method"],
                scope["path"][:256].encode("unicode_escape").decode(),  # no line breaks in the log
                status,
                time.monotonic() - started_at,
                request_id,
                "".join(f" {key}={value}" for key, value in notes.items()),
            )
