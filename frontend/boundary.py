"""The one place where an exception becomes an HTTP answer: OpenAI's error envelope, whatever happened."""

from __future__ import annotations

import logging
import math
import traceback

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gpt_oss_triton import errors
from gpt_oss_triton.errors import ServiceError

log = logging.getLogger(__name__)


def as_service_error(error: Exception) -> ServiceError:
    """Our own errors as they are, the router's by their status, all others as a bare InternalError."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, HTTPException):
        match error.status_code:
            case 404:
                return errors.NotFound("There is no such path.")
            case 405:
                return errors.MethodNotAllowed("The path does not answer this method.")
            case _:
                return errors.InvalidRequest(str(error.detail))
    if isinstance(error, ClientDisconnect):
        return errors.Cancelled("The client closed the connection.")
    # Kind and place, not the message, which may quote what the caller wrote.
    place = "".join(traceback.format_tb(error.__traceback__))
    log.error("unexpected %s\n%s", type(error).__name__, place)
    return errors.InternalError("The server failed to handle the request.")


class ErrorBoundary:
    """Answers with the envelope when the application raises before its answer has begun."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def watched_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, watched_send)
        except Exception as error:  # the process boundary of one request: nothing may leave as a stack trace
            failure = as_service_error(error)
            scope["state"]["record"].error = failure.code
            if not started:
                await _answer(failure, error, send)
            # A half-written answer is left so: the HTTP server closes its connection.


async def _answer(failure: ServiceError, error: Exception, send: Send) -> None:
    body = msgspec.json.encode(failure.envelope())
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if failure.retry_after_s is not None:
        headers.append((b"retry-after", str(math.ceil(failure.retry_after_s)).encode()))
    if isinstance(failure, errors.RequestTimeout):  # the rest of its body would keep the connection busy
        headers.append((b"connection", b"close"))
    if isinstance(failure, errors.Unauthenticated):
        headers.append((b"www-authenticate", b"Bearer"))
    headers += [(name.encode(), value.encode()) for name, value in failure.headers.items()]
    if isinstance(error, HTTPException):  # Allow, with a 405
        headers += [(k.lower().encode(), v.encode()) for k, v in (error.headers or {}).items()]
    await send({"type": "http.response.start", "status": failure.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def pass_on(request: Request, error: Exception) -> Response:
    """An exception handler for FastAPI that leaves the exception to the boundary."""
    raise error
