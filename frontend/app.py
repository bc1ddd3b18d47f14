"""The ASGI application, put together."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from fastapi.middleware import Middleware
from starlette.exceptions import HTTPException

from frontend import chat, health, models
from frontend.auth import ApiKeyAuth
from frontend.boundary import ErrorBoundary, pass_on
from frontend.chat_schema import add_schemas
from frontend.limits import SizeLimits
from frontend.request_log import RequestLog
from frontend.service import Service, check_models
from gpt_oss_triton import __version__
from gpt_oss_triton.config import FrontendSettings
from gpt_oss_triton.errors import ServiceError
from gpt_oss_triton.harmony import tokens


class Shim(FastAPI):
    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        add_schemas(document)
        return document


def create_app(settings: FrontendSettings) -> FastAPI:
    """The shim for one Triton server. `app.state.service` exists while its lifespan runs.

    Raises:
        ConfigurationError: the settings cannot work.
    """
    check_models(settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        tokens.encoding()  # loads the vocabulary, which would delay the first request and all beside it
        async with Service.running(settings) as service:
            app.state.service = service
            yield

    key = settings.api_key.get_secret_value() if settings.api_key is not None else None
    app = Shim(
        title="gpt-oss-triton",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # its page would load scripts from elsewhere; /openapi.json is served
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={ServiceError: pass_on, HTTPException: pass_on},
        middleware=[  # outermost first
            Middleware(RequestLog),
            Middleware(ErrorBoundary),
            Middleware(SizeLimits, settings.max_body_bytes, settings.max_header_bytes),
            Middleware(ApiKeyAuth, key),
        ],
    )
    for part in (chat, models, health):
        app.include_router(part.router)
    return app
