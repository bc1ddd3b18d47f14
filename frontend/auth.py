"""One optional API key, compared in constant time."""

from __future__ import annotations

import hmac

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from gpt_oss_triton.errors import Unauthenticated

OPEN_PATHS = frozenset({"/livez", "/readyz", "/health"})  # for balancers, which have no key


class ApiKeyAuth:
    """Lets a request pass that bears the key as `Authorization: Bearer`; without a key, every request.

    Open paths pass in any case; `state.authorized` tells them how much to say.

    Raises:
        Unauthenticated: to the error boundary around it.
    """

    def __init__(self, app: ASGIApp, api_key: str | None) -> None:
        self.app = app
        self._key = api_key.encode() if api_key else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            problem = self._problem(Headers(scope=scope).get("authorization", ""))
            if problem is not None and scope["path"] not in OPEN_PATHS:
                raise Unauthenticated(problem)
            scope["state"]["authorized"] = problem is None
        await self.app(scope, receive, send)

    def _problem(self, authorization: str) -> str | None:
        """What is wrong with the header's value, if anything."""
        if self._key is None:
            return None
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return "Give the API key as 'Authorization: Bearer KEY'."
        if not hmac.compare_digest(given.strip().encode("latin-1"), self._key):
            return "The API key is wrong."
        return None
