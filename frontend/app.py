"""The ASGI application, put together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from fastapi.middleware import Middleware
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from frontend import (
    admin,
    chat,
    chat_fields,
    completion_fields,
    completions,
    health,
    metrics,
    models,
    page,
    render_endpoint,
    responses,
    tokenization,
)
from frontend.auth import KeyAuth, Keys, open_paths
from frontend.boundary import ErrorBoundary, pass_on
from frontend.bundle import Bundles
from frontend.chat_request import ChatRequest
from frontend.completion_request import CompletionRequest
from frontend.field_policy import Field
from frontend.limits import BodyTimeout, SizeLimits
from frontend.normalizing import Normalizing
from frontend.observed import Observed
from frontend.reasoning_memory import ReasoningMemory
from frontend.request_schemas import add_schemas
from frontend.responses import fields as response_fields
from frontend.responses.live import LiveResponses
from frontend.responses.request import CreateResponse
from frontend.responses.store import ResponseStore
from frontend.run_context import ANSWER_LIMIT_HEADER
from frontend.service import Service, check_models
from frontend.tokenization import DetokenizeRequest, TokenizeRequest
from gpt_oss_triton import __version__
from gpt_oss_triton.config import FrontendSettings
from gpt_oss_triton.errors import ServiceError
from gpt_oss_triton.harmony import tokens
from gpt_oss_triton.telemetry.labels import EngineLabels
from gpt_oss_triton.telemetry.record import RequestRecord
from gpt_oss_triton.telemetry.telemetry import Telemetry

_REQUESTS: dict[type, dict[str, Field]] = {
    ChatRequest: chat_fields.FIELDS,
    CompletionRequest: completion_fields.FIELDS,
    CreateResponse: response_fields.FIELDS,
    TokenizeRequest: tokenization.TOKENIZE_FIELDS,
    DetokenizeRequest: tokenization.DETOKENIZE_FIELDS,
}
_EXPOSED_HEADERS = [
    "x-request-id",
    "retry-after",
    ANSWER_LIMIT_HEADER,
    *(
        f"x-ratelimit-{what}-{of}"
        for what in ("limit", "remaining", "reset")
        for of in ("requests", "tokens")
    ),
]


class Shim(FastAPI):
    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        add_schemas(document, _REQUESTS)
        return document


def create_app(settings: FrontendSettings) -> FastAPI:
    """The shim. `app.state.service` exists while its lifespan runs.

    Raises:
        ConfigurationError: the settings cannot work.
    """
    check_models(settings)
    keys = Keys.of(settings)

    def labels(record: RequestRecord) -> EngineLabels:
        return app.state.service.labels(record)  # type: ignore[no-any-return]  # state is untyped

    telemetry = Telemetry(settings, labels)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        tokens.encoding()  # loads the vocabulary, which would delay the first request and all beside it
        async with Service.running(settings, telemetry) as service, _followed(keys):
            app.state.service = service
            app.state.bundles = Bundles(service)
            app.state.normalizing = Normalizing(service)
            app.state.response_store = ResponseStore(
                settings.stored_responses_mib * 2**20,
                settings.stored_responses,
                settings.stored_responses_ttl_s,
            )
            app.state.reasoning_memory = ReasoningMemory(settings.remember_reasoning_s)
            app.state.live_responses = LiveResponses()
            yield

    app = Shim(
        title="gpt-oss-triton",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # its page would load scripts from elsewhere; /openapi.json is served
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={ServiceError: pass_on, HTTPException: pass_on},
        middleware=[  # outermost first
            Middleware(Observed, telemetry),
            *_cors(settings),  # around the boundary, or browsers could not read errors
            Middleware(ErrorBoundary),
            Middleware(SizeLimits, settings.max_body_bytes, settings.max_header_bytes),
            Middleware(BodyTimeout, settings.body_timeout_s),
            Middleware(KeyAuth, keys, open_paths(settings)),
        ],
    )
    openai = (chat, responses, completions, models, render_endpoint, tokenization)
    for part in (*openai, health, metrics, admin, page):
        app.include_router(part.router)
    return app


def _cors(settings: FrontendSettings) -> list[Middleware]:
    if not settings.cors_origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],  # clients add many of their own, and no cookie is ever looked at
            expose_headers=_EXPOSED_HEADERS,
        )
    ]


@contextlib.asynccontextmanager
async def _followed(keys: Keys) -> AsyncIterator[None]:
    """Take in changes of the keys file meanwhile."""
    if keys.file is None:
        yield
        return
    following = asyncio.create_task(keys.file.follow(), name="keys file")
    try:
        yield
    finally:
        following.cancel()
