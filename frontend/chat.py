"""`POST /v1/chat/completions`."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import AsyncGenerator

from fastapi import APIRouter, Request, Response

from frontend import chat_answers
from frontend.chat_answers import ChatAnswers
from frontend.chat_reply import DONE, ChatReply, fingerprint
from frontend.chat_request import Chat, read_chat
from frontend.fold import Completion
from frontend.request_body import apart_if_slow, body_of
from frontend.request_schemas import body_schema
from frontend.run_context import accepted, streamed, under_load
from frontend.service import Service
from gpt_oss_triton.telemetry.record import RequestRecord

router = APIRouter()

_REASONING_NAMES = {
    "reasoning": ("reasoning",),
    "reasoning_content": ("reasoning_content",),
    "both": ("reasoning", "reasoning_content"),
}


@router.post("/v1/chat/completions", openapi_extra=body_schema("ChatRequest"))
async def chat_completions(request: Request) -> Response:
    service: Service = request.app.state.service
    record: RequestRecord = request.state.record
    body = await body_of(request)
    guided = service.settings.guided_calls
    chat = await apart_if_slow(body, read_chat, body, service.sampling, guided=guided)
    ensemble = service.resolve(chat.model)
    chat, headers = under_load(chat, service)
    completion_id = f"chatcmpl-{uuid.uuid4().hex}"  # the engine's too: a caller's id need not be unique
    record.model, record.completion_id, record.stream = chat.model, completion_id, chat.stream

    async with contextlib.AsyncExitStack() as stack:
        answers = await chat_answers.begin(request, chat, body)
        await stack.enter_async_context(accepted(request, answers, chat.own_param))
        reply = ChatReply(
            completion_id=completion_id,
            created=int(time.time()),
            model=chat.model,
            system_fingerprint=fingerprint(service.load_of(ensemble, answers.records[0].target)),
            include_usage=chat.include_usage,
            reasoning_names=_REASONING_NAMES[service.settings.reasoning_field],
        )
        headers |= service.admission.limit_headers(request.state.caller)
        if chat.stream:
            return streamed(request, _events(answers, reply, chat), stack, headers)
        completions = await _gather(answers, chat)
        logprobs = chat.options.logprobs is not None
        whole = reply.completion(completions, answers.usage(), logprobs=logprobs)
        return Response(whole, media_type="application/json", headers=headers)


async def _events(answers: ChatAnswers, reply: ChatReply, chat: Chat) -> AsyncGenerator[bytes]:
    choices = [reply.choice(index) for index in range(chat.n)]
    async for index, part in answers:
        for event in choices[index].events(part):
            yield event
    if chat.include_usage:
        yield reply.usage(answers.usage())
    yield DONE


async def _gather(answers: ChatAnswers, chat: Chat) -> list[Completion]:
    completions = [Completion() for _ in range(chat.n)]
    async for index, part in answers:
        completions[index].add(part)
    return completions
