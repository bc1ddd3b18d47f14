"""Gives every request an id, a place in a trace and a record, and has the record read when it has ended."""

from __future__ import annotations

import re
import time
import uuid

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gpt_oss_triton.telemetry.genai import ROOT_SPANS
from gpt_oss_triton.telemetry.record import RequestRecord
from gpt_oss_triton.telemetry.telemetry import Telemetry
from gpt_oss_triton.telemetry.trace_context import TraceContext

_ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_MAX_PATH = 256  # characters that the record keeps


class Observed:
    """The outermost layer. Takes `X-Request-Id` in or makes one, and sends it back; handlers note what they
    know in `scope["state"]["record"]`, a `RequestRecord`.
    """

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        self.app = app
        self._telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        record = _record_of(scope)
        scope.setdefault("state", {})["record"] = record

        async def counting_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = record.request_id
            await send(message)
            if message["type"] == "http.response.body":
                record.bytes_sent += len(message.get("body", b""))

        trace_id = record.trace.trace_hex
        with structlog.contextvars.bound_contextvars(trace_id=trace_id, request_id=record.request_id):
            self._telemetry.begin(record)
            try:
                await self.app(scope, receive, counting_send)
            finally:
                record.finished = time.time()
                record.route = _route_of(scope)
                self._telemetry.finish(record)


def _record_of(scope: Scope) -> RequestRecord:
    headers = Headers(scope=scope)
    given = headers.get("x-request-id", "")
    return RequestRecord(
        request_id=given if _ACCEPTABLE_ID.fullmatch(given) else uuid.uuid4().hex,
        trace=TraceContext.of_header(headers.get("traceparent", "")),
        method=scope["method"],
        path=scope["path"][:_MAX_PATH],
    )


def _route_of(scope: Scope) -> str | None:
    """The template of the route; the path itself where it is one of ours and nobody came to route it."""
    route: str | None = getattr(scope.get("route"), "path", None)
    if route is None and scope["path"] in ROOT_SPANS:
        return str(scope["path"])
    return route
