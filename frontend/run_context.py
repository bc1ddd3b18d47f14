"""What surrounds the runs of a request, whichever endpoint it came to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

import msgspec
from fastapi import Request

from frontend.caller import Caller
from frontend.service import Service
from gpt_oss_triton.errors import Cancelled, InvalidRequest, RateLimited, ServiceError
from gpt_oss_triton.wire import GenerationOptions

SESSION_HEADER = "x-session-id"
ANSWER_LIMIT_HEADER = "x-answer-limit"  # tokens, where load has lowered it
SLOW_READER_GRACE_S = 10.0  # beyond the deadline, for a client that reads slowly


@contextlib.contextmanager
def limits_told(service: Service, caller: Caller) -> Iterator[None]:
    """Who has reached a limit of the key learns how much of each is left."""
    try:
        yield
    except RateLimited as error:
        error.headers |= service.admission.limit_headers(caller)
        raise


def under_load(
    options: GenerationOptions, service: Service, ensemble: str
) -> tuple[GenerationOptions, dict[str, str]]:
    """The options with the limit that load puts on answers, and the header that says so."""
    limit = service.admission.answer_limit(ensemble)
    if limit is None or (options.max_tokens is not None and options.max_tokens <= limit):
        return options, {}
    return msgspec.structs.replace(options, max_tokens=limit), {ANSWER_LIMIT_HEADER: str(limit)}


@contextlib.contextmanager
def params_renamed(rename: Callable[[str], str]) -> Iterator[None]:
    """Refusals of Triton's models, with the caller's name of the field at fault."""
    try:
        yield
    except InvalidRequest as error:
        if error.param is not None:
            error.param = rename(error.param)
        raise


@contextlib.contextmanager
def stop_on_disconnect(request: Request, stop: Callable[[ServiceError], None]) -> Iterator[None]:
    """Call `stop` as soon as the client has gone. The body has been read."""

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        stop(Cancelled("The client closed the connection."))

    watcher = asyncio.create_task(watch())
    try:
        yield
    finally:
        watcher.cancel()
