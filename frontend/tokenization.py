"""`POST /tokenize` and `/detokenize`, in the form that other open servers gave them."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Request, Response
from msgspec import Meta, Struct

from frontend import json_body
from frontend.chat_request import Chat, read_chat
from frontend.completion_request import TokenId, own_param
from frontend.field_policy import Field, honoured, ignored
from frontend.normalizing import Normalizing
from frontend.reasoning_memory import ReasoningMemory
from frontend.request_body import apart_if_large, apart_if_slow, body_of
from frontend.request_fields import read_fields
from frontend.request_schemas import body_schema
from frontend.run_context import counted, params_renamed
from frontend.service import Service
from gpt_oss_triton.harmony import tokens
from gpt_oss_triton.harmony.check import MAX_PROMPT_IDS
from gpt_oss_triton.wire import PromptRequest

router = APIRouter()

TOKENIZE_FIELDS: dict[str, Field] = {  # of a text; with `messages` the fields are those of a chat request
    "model": honoured("one of GET /v1/models; left out, the first of them"),
    "prompt": honoured("text; control tokens that are written out in it count as such"),
    "add_special_tokens": ignored(bool, "the vocabulary has none that a text begins with"),
}
DETOKENIZE_FIELDS: dict[str, Field] = {
    "model": honoured("one of GET /v1/models; left out, the first of them"),
    "tokens": honoured("ids of any part of the vocabulary; bytes that are no UTF-8 become U+FFFD"),
}


class TokenizeRequest(Struct):
    prompt: Annotated[str, Meta(max_length=MAX_PROMPT_IDS)]  # of usual text: twice the longest context
    model: str | None = None


class DetokenizeRequest(Struct):
    tokens: Annotated[list[TokenId], Meta(max_length=MAX_PROMPT_IDS)]
    model: str | None = None


@router.post("/tokenize", openapi_extra=body_schema("TokenizeRequest", "ChatRequest"))
async def tokenize(request: Request) -> Response:
    """The ids of a text, or of a whole chat request's prompt."""
    service: Service = request.app.state.service
    normalizing: Normalizing = request.app.state.normalizing
    body = await body_of(request)
    asked = await apart_if_slow(body, _read, body, service)
    ensemble = service.resolve(asked.model or _first(service))
    headers = counted(request)
    if isinstance(asked, TokenizeRequest):
        with params_renamed(own_param):
            ids, _ = await normalizing.render(ensemble, PromptRequest(text=asked.prompt))
    else:
        memory: ReasoningMemory = request.app.state.reasoning_memory
        ids, _ = await normalizing.render(ensemble, memory.recall(request.state.caller, asked).prompt)
    load = service.load_of(ensemble)
    reply = {
        "count": len(ids),
        "max_model_len": None if load is None else load.max_context,
        "tokens": ids,
    }
    encoded = await apart_if_large(body, msgspec.json.encode, reply)
    return Response(encoded, media_type="application/json", headers=headers)


@router.post("/detokenize", openapi_extra=body_schema("DetokenizeRequest"))
async def detokenize(request: Request) -> Response:
    """The text of ids, control tokens written out."""
    service: Service = request.app.state.service
    body = await body_of(request)
    asked = await apart_if_large(body, read_fields, body, DetokenizeRequest, DETOKENIZE_FIELDS)
    service.resolve(asked.model or _first(service))
    headers = counted(request)
    reply = await apart_if_large(body, _written_out, asked.tokens)
    return Response(reply, media_type="application/json", headers=headers)


def _read(body: bytes, service: Service) -> TokenizeRequest | Chat:
    if "messages" in json_body.read_object(body):
        return read_chat(body, service.sampling)
    return read_fields(body, TokenizeRequest, TOKENIZE_FIELDS)


def _written_out(ids: list[int]) -> bytes:
    return msgspec.json.encode({"prompt": tokens.decode(ids)})


def _first(service: Service) -> str:
    return next(iter(service.models))
