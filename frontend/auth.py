"""One optional API key, compared in constant time."""

from __future__ import annotations

import hmac

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from gpt_oss_triton.errors import Unauthenticated

OPEN_PATHS = frozenset({"/livez", "/readyz", "/health"})  # for balancers, which have no key


class ApiKeyAuth:
    """Lets a request pass that bears the key as `Authorization: Bearer`; without a key, every request.

    Raises:
        Unauthenticated: to the error boundary around it.
    """

    def __init__(self, app: ASGIApp, api_key: str | None) -> None:
        self.app = app
        self._key = api_key.encode() if api_key else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._key is not None and scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
            if scheme.lower() != "bearer":
                raise Unauthenticated("Give the API key as 'Authorization: Bearer KEY'.")
            if not hmac.compare_digest(given.strip().encode("latin-1"), self._key):
                raise Unauthenticated("The API key is wrong.")
        await self.app(scope, receive, send)
