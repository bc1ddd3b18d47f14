"""`POST /v1/completions`: the model goes on from a prompt as it stands, without harmony's frame."""

from __future__ import annotations

import contextlib
import hashlib
import time
import uuid
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from fastapi import APIRouter, Request, Response

from frontend import completion_answers
from frontend.chat_reply import DONE, fingerprint
from frontend.completion_answers import CompletionAnswers
from frontend.completion_reply import Choice, CompletionReply
from frontend.completion_request import Completion, own_param, read_completion
from frontend.request_body import apart_if_large, body_of
from frontend.request_schemas import body_schema
from frontend.run_context import accepted, streamed, under_load
from frontend.service import Service
from gpt_oss_triton.telemetry.record import RequestRecord

router = APIRouter()


@router.post("/v1/completions", openapi_extra=body_schema("CompletionRequest"))
async def completions(request: Request) -> Response:
    service: Service = request.app.state.service
    record: RequestRecord = request.state.record
    body = await body_of(request)
    completion, digest = await apart_if_large(body, _read, body, service.sampling)
    ensemble = service.resolve(completion.model)
    completion, headers = under_load(completion, service)
    completion_id = f"cmpl-{uuid.uuid4().hex}"
    record.model, record.completion_id, record.stream = completion.model, completion_id, completion.stream

    async with contextlib.AsyncExitStack() as stack:
        answers = await completion_answers.begin(request, completion, body, digest)
        await stack.enter_async_context(accepted(request, answers, own_param))
        reply = CompletionReply(
            completion_id=completion_id,
            created=int(time.time()),
            model=completion.model,
            system_fingerprint=fingerprint(service.load_of(ensemble, answers.records[0].target)),
        )
        headers |= service.admission.limit_headers(request.state.caller)
        if completion.stream:
            return streamed(request, _events(answers, reply, completion), stack, headers)
        choices = await _gather(answers, completion)
        return Response(reply.whole(choices, answers.usage()), media_type="application/json", headers=headers)


def _read(body: bytes, defaults: Mapping[str, Any]) -> tuple[Completion, bytes]:
    return read_completion(body, defaults), hashlib.blake2b(body, digest_size=16).digest()


async def _events(
    answers: CompletionAnswers, reply: CompletionReply, completion: Completion
) -> AsyncGenerator[bytes]:
    async for index, delta, text in answers:
        if not delta.text and text.finish_reason is None:
            continue
        choice = Choice(delta.text, delta.logprobs, text.finish_reason)
        if text.finish_reason is not None and completion.return_token_ids:
            choice.token_ids = text.token_ids
        yield reply.chunk(index, choice)
    if completion.include_usage:
        yield reply.usage(answers.usage())
    yield DONE


async def _gather(answers: CompletionAnswers, completion: Completion) -> list[Choice]:
    choices = [Choice() for _ in completion.choices]
    async for index, delta, text in answers:
        choices[index].add(delta)
        choices[index].finish_reason = text.finish_reason
        if completion.return_token_ids:
            choices[index].token_ids = text.token_ids
    return choices
