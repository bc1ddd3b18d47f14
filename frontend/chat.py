"""`POST /v1/chat/completions`."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import ParamSpec, TypeVar

import msgspec
from fastapi import APIRouter, Request, Response

from frontend.caller import Caller
from frontend.chat_reply import DONE, ChatReply, fingerprint
from frontend.chat_request import Chat, read_chat
from frontend.chat_schema import OPENAPI
from frontend.dispatch import Dispatch
from frontend.event_stream import EventStream
from frontend.fold import Ending, fold, gather
from frontend.routing.sessions import Turn
from frontend.service import Service
from frontend.triton import Answer
from gpt_oss_triton.errors import Cancelled, InvalidRequest, RateLimited, UnsupportedMediaType
from gpt_oss_triton.harmony.answer import AnswerDelta, AnswerText
from gpt_oss_triton.telemetry.record import RequestRecord

router = APIRouter()
P = ParamSpec("P")
T = TypeVar("T")

SESSION_HEADER = "x-session-id"
ANSWER_LIMIT_HEADER = "x-answer-limit"  # tokens, where load has lowered it
_LARGE_BYTES = 256 * 1024
_SLOW_READER_GRACE_S = 10.0  # beyond the deadline, for a client that reads slowly


@router.post("/v1/chat/completions", openapi_extra=OPENAPI)
async def chat_completions(request: Request) -> Response:
    service: Service = request.app.state.service
    caller: Caller = request.state.caller
    record: RequestRecord = request.state.record
    body = await _json_body(request)
    chat = await _apart_if_large(body, read_chat, body, service.sampling)
    ensemble = service.resolve(chat.model)
    chat, headers = _under_load(chat, service, ensemble)
    completion_id = f"chatcmpl-{uuid.uuid4().hex}"  # the engine's too: a caller's id need not be unique
    record.model, record.completion_id, record.stream = chat.model, completion_id, chat.stream

    async with contextlib.AsyncExitStack() as stack:
        turn = stack.enter_context(
            service.sessions.turn(
                caller, ensemble, chat.prompt, request.headers.get(SESSION_HEADER), chat.prompt_cache_key
            )
        )
        record.session, record.session_by = turn.session, turn.by
        ask = await _apart_if_large(body, service.ask, chat, body, caller, turn, record)
        stack.enter_context(_limits_told(service, caller))
        key = service.cache_key(caller, ensemble, chat)
        answers = None if key is None else service.response_cache.replay(key)
        if answers is not None:
            record.response_cache = "hit"
            service.admission.pass_by(ask)
        else:
            record.response_cache = None if key is None else "miss"
            dispatch = await stack.enter_async_context(service.dispatch(ask, chat, turn, completion_id))
            stack.enter_context(_stop_on_disconnect(request, dispatch))
            with _params_named_by(chat):
                await dispatch.accepted()  # until here every failure has a status of its own
            answers = dispatch if key is None else service.response_cache.record(key, dispatch)

        parts = _noted(_fold(answers, chat), record, turn)
        reply = ChatReply(
            completion_id=completion_id,
            created=int(time.time()),
            model=chat.model,
            system_fingerprint=fingerprint(service.load_of(ensemble, record.target)),
            include_usage=chat.include_usage,
        )
        headers |= service.admission.limit_headers(caller)
        if chat.stream:
            timeout_s = service.settings.request_timeout_s + _SLOW_READER_GRACE_S
            return EventStream(_events(parts, reply, chat), stack.pop_all(), timeout_s, headers)
        answer = reply.completion(*await gather(parts))
        return Response(answer, media_type="application/json", headers=headers)


async def _apart_if_large(body: bytes, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What takes long for a body of megabytes is done in a thread: it would hold up all other requests."""
    if len(body) < _LARGE_BYTES:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)


@contextlib.contextmanager
def _limits_told(service: Service, caller: Caller) -> Iterator[None]:
    """Who has reached a limit of the key learns how much of each is left."""
    try:
        yield
    except RateLimited as error:
        error.headers |= service.admission.limit_headers(caller)
        raise


def _under_load(chat: Chat, service: Service, ensemble: str) -> tuple[Chat, dict[str, str]]:
    """The request with the limit that load puts on its answer, and the header that says so."""
    limit = service.admission.answer_limit(ensemble)
    asked = chat.options.max_tokens
    if limit is None or (asked is not None and asked <= limit):
        return chat, {}
    options = msgspec.structs.replace(chat.options, max_tokens=limit)
    return msgspec.structs.replace(chat, options=options), {ANSWER_LIMIT_HEADER: str(limit)}


def _fold(answers: AsyncIterator[Answer], chat: Chat) -> AsyncIterator[AnswerDelta | Ending]:
    return fold(
        answers,
        AnswerText(chat.options.stop),
        include_reasoning=chat.include_reasoning,
        return_token_ids=chat.return_token_ids,
    )


@contextlib.contextmanager
def _params_named_by(chat: Chat) -> Iterator[None]:
    """The engine's refusals, with the caller's name of the field at fault."""
    try:
        yield
    except InvalidRequest as error:
        if error.param == "max_tokens":
            error.param = chat.limit_field
        raise


async def _events(
    parts: AsyncIterator[AnswerDelta | Ending], reply: ChatReply, chat: Chat
) -> AsyncGenerator[bytes]:
    begun = False
    async for part in parts:
        if not begun:  # with the first text and not before it, so that clients measure the true first token
            yield reply.role()
            begun = True
        if isinstance(part, AnswerDelta):
            yield reply.delta(part)
            continue
        yield reply.end(part)
        if chat.include_usage:
            yield reply.usage(part)
        yield DONE


async def _noted(
    parts: AsyncIterator[AnswerDelta | Ending], record: RequestRecord, turn: Turn
) -> AsyncIterator[AnswerDelta | Ending]:
    """The same parts; the ending leaves its figures in the record, and the whole answer in its session."""
    content: list[str] = []
    async for part in parts:
        if isinstance(part, Ending):
            record.finish_reason = part.finish_reason
            record.prompt_tokens, record.cached_tokens = part.usage.prompt_tokens, part.usage.cached_tokens
            record.completion_tokens = part.usage.completion_tokens
            record.reasoning_tokens = part.usage.reasoning_tokens
            turn.answered("".join(content))
        elif part.kind == "content":
            content.append(part.text)
        yield part


async def _json_body(request: Request) -> bytes:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise UnsupportedMediaType(f"The body must be application/json, not {media_type[:64] or 'untyped'}.")
    return await request.body()


@contextlib.contextmanager
def _stop_on_disconnect(request: Request, dispatch: Dispatch) -> Iterator[None]:
    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        dispatch.stop(Cancelled("The client closed the connection."))

    watcher = asyncio.create_task(watch())
    try:
        yield
    finally:
        watcher.cancel()
