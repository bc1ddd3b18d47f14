"""What surrounds the runs of a request, whichever endpoint it came to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Protocol, TypeVar

import msgspec
from fastapi import Request

from frontend.caller import Caller
from frontend.chat_request import Chat
from frontend.completion_request import Completion
from frontend.event_stream import EventStream, error_event
from frontend.runs import Runs
from frontend.service import Service
from gpt_oss_triton.errors import Cancelled, InvalidRequest, RateLimited, ServiceError

SESSION_HEADER = "x-session-id"
ANSWER_LIMIT_HEADER = "x-answer-limit"  # tokens, where load has lowered it
_SLOW_READER_GRACE_S = 10.0  # beyond the deadline, for a client that reads slowly

Asked = TypeVar("Asked", Chat, Completion)


class Answers(Protocol):
    """Of one request, whatever the endpoint makes of them."""

    @property
    def runs(self) -> Runs:
        """Not entered yet."""

    def join_records(self) -> None:
        """At the end, however it came."""


@contextlib.asynccontextmanager
async def accepted(
    request: Request, answers: Answers, own_param: Callable[[str], str]
) -> AsyncIterator[None]:
    """Inside, the answers are certain to come. They end with it, and as soon as the client has gone.

    Args:
        own_param: what the caller calls a field that is refused.

    Raises:
        ServiceError: until here every failure has a status of its own.
    """
    with limits_told(request.app.state.service, request.state.caller), contextlib.ExitStack() as at_the_end:
        at_the_end.callback(answers.join_records)
        async with answers.runs:
            with stop_on_disconnect(request, answers.runs.stop):
                with params_renamed(own_param):
                    await answers.runs.accepted()
                yield


def streamed(
    request: Request,
    events: AsyncGenerator[bytes],
    resources: contextlib.AsyncExitStack,
    headers: dict[str, str],
    failed: Callable[[ServiceError], bytes] = error_event,
) -> EventStream:
    """The answer as `EventStream`, which takes the resources over."""
    service: Service = request.app.state.service
    timeout_s = service.settings.request_timeout_s + _SLOW_READER_GRACE_S
    return EventStream(events, resources.pop_all(), timeout_s, headers, failed)


@contextlib.contextmanager
def limits_told(service: Service, caller: Caller) -> Iterator[None]:
    """Who has reached a limit of the key learns how much of each is left."""
    try:
        yield
    except RateLimited as error:
        error.headers |= service.admission.limit_headers(caller)
        raise


def counted(request: Request) -> dict[str, str]:
    """Headers for a request that needs no engine, once it has been counted as one of its caller's.

    Raises:
        RateLimited: the caller has none left.
    """
    service: Service = request.app.state.service
    caller: Caller = request.state.caller
    with limits_told(service, caller):
        service.admission.count(caller)
    return service.admission.limit_headers(caller)


def under_load(asked: Asked, service: Service) -> tuple[Asked, dict[str, str]]:
    """The request with the limit that load puts on answers, and the header that says so."""
    limit = service.admission.answer_limit(service.resolve(asked.model))
    options = asked.options
    if limit is None or (options.max_tokens is not None and options.max_tokens <= limit):
        return asked, {}
    options = msgspec.structs.replace(options, most_tokens=limit)
    return msgspec.structs.replace(asked, options=options), {ANSWER_LIMIT_HEADER: str(limit)}


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
