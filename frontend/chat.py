"""`POST /v1/chat/completions`."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator

from fastapi import APIRouter, Request, Response

from frontend.chat_reply import DONE, ChatReply, fingerprint
from frontend.chat_request import Chat, read_chat
from frontend.chat_schema import OPENAPI
from frontend.event_stream import EventStream
from frontend.fold import Ending, fold, gather
from frontend.generation import Generation
from frontend.service import Service
from gpt_oss_triton.errors import Cancelled, InvalidRequest, UnsupportedMediaType
from gpt_oss_triton.harmony.answer import AnswerDelta, AnswerText

router = APIRouter()

_SLOW_READER_GRACE_S = 10.0  # beyond the deadline, for a client that reads slowly


@router.post("/v1/chat/completions", openapi_extra=OPENAPI)
async def chat_completions(request: Request) -> Response:
    service: Service = request.app.state.service
    chat = read_chat(await _json_body(request))
    target = service.resolve(chat.model)
    completion_id = f"chatcmpl-{uuid.uuid4().hex}"  # the engine's too: a caller's id need not be unique
    notes = request.state.log
    notes |= {"model": chat.model, "completion": completion_id}

    async with contextlib.AsyncExitStack() as stack:
        generation = await stack.enter_async_context(service.generation(target, completion_id, chat))
        stack.enter_context(_stop_on_disconnect(request, generation))
        with _params_named_by(chat):
            await generation.accepted()  # until here every failure has a status of its own

        text = AnswerText(chat.options.stop)
        parts = fold(
            generation,
            text,
            include_reasoning=chat.include_reasoning,
            return_token_ids=chat.return_token_ids,
        )
        parts = _noted(parts, notes)
        reply = ChatReply(
            completion_id=completion_id,
            created=int(time.time()),
            model=chat.model,
            system_fingerprint=fingerprint(target.load),
            include_usage=chat.include_usage,
        )
        if chat.stream:
            timeout_s = service.settings.request_timeout_s + _SLOW_READER_GRACE_S
            return EventStream(_events(parts, reply, chat), stack.pop_all(), timeout_s)
        return Response(reply.completion(*await gather(parts)), media_type="application/json")


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
    parts: AsyncIterator[AnswerDelta | Ending], notes: dict[str, object]
) -> AsyncIterator[AnswerDelta | Ending]:
    """The same parts; the ending leaves its figures in the request's log line."""
    async for part in parts:
        if isinstance(part, Ending):
            notes |= {
                "finish": part.finish_reason,
                "prompt_tokens": part.usage.prompt_tokens,
                "cached_tokens": part.usage.cached_tokens,
                "completion_tokens": part.usage.completion_tokens,
            }
        yield part


async def _json_body(request: Request) -> bytes:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise UnsupportedMediaType(f"The body must be application/json, not {media_type[:64] or 'untyped'}.")
    return await request.body()


@contextlib.contextmanager
def _stop_on_disconnect(request: Request, generation: Generation) -> Iterator[None]:
    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        generation.stop(Cancelled("The client closed the connection."))

    watcher = asyncio.create_task(watch())
    try:
        yield
    finally:
        watcher.cancel()
