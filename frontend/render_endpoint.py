"""`POST /v1/chat/completions/render`: a chat request's prompt as the model would read it, and its names.

Two clients, or a client and a log, compare hashes to see whether their prompts are the same to the byte.
"""

from __future__ import annotations

import msgspec
from fastapi import APIRouter, Request, Response

from frontend.chat_request import read_chat
from frontend.normalizing import Normalizing
from frontend.reasoning_memory import ReasoningMemory
from frontend.request_body import apart_if_large, apart_if_slow, body_of
from frontend.request_schemas import body_schema
from frontend.run_context import counted
from frontend.service import Service
from gpt_oss_triton.harmony import tokens

router = APIRouter()


@router.post("/v1/chat/completions/render", openapi_extra=body_schema("ChatRequest"))
async def render_chat(request: Request) -> Response:
    """Takes the body of a chat request; nothing is generated. The prompt is the one that this caller would get now."""
    service: Service = request.app.state.service
    normalizing: Normalizing = request.app.state.normalizing
    body = await body_of(request)
    chat = await apart_if_slow(body, read_chat, body, service.sampling)
    ensemble = service.resolve(chat.model)
    headers = counted(request)
    memory: ReasoningMemory = request.app.state.reasoning_memory
    chat = memory.recall(request.state.caller, chat)
    ids, info = await normalizing.render(ensemble, chat.prompt)
    reply = {
        "object": "chat.completion.prompt",
        "model": chat.model,
        "text": await apart_if_large(body, tokens.decode, ids),
        "token_ids": ids,
        "prompt_hash": info.prompt_hash,
        "normalized_key": info.normalized_key,
        "prompt_version": info.prompt_version,
    }
    encoded = await apart_if_large(body, msgspec.json.encode, reply)
    return Response(encoded, media_type="application/json", headers=headers)
