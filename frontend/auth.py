"""Who may come in: bearer keys, compared by their hashes in a time that tells nothing about them."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Sequence
from typing import Self

from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from frontend.caller import ANONYMOUS, Caller, Key, digest_of, salt_of
from frontend.keys_file import KeysFile
from gpt_oss_triton.config import FrontendSettings, Priority
from gpt_oss_triton.errors import ConfigurationError, Unauthenticated

# Probes of balancers, which have no key, and the page, whose visitors give theirs to it.
OPEN_PATHS = frozenset({"/", "/livez", "/readyz", "/health"})


def open_paths(settings: FrontendSettings) -> frozenset[str]:
    """What answers without a key."""
    return OPEN_PATHS | {"/metrics"} if settings.metrics_open else OPEN_PATHS


class Keys:
    """All keys that are known now. Without an API key in the settings everybody may come in.

    Attributes:
        anonymous: whoever comes where no key is asked for; None where one is, also with an empty keys file.
        file: the keys file, for its changes to be followed; None without one.
    """

    def __init__(
        self, fixed: Sequence[Key], file: KeysFile | None = None, anonymous: Caller | None = None
    ) -> None:
        self._fixed = tuple(fixed)
        self.file = file
        self.anonymous = anonymous

    @classmethod
    def of(cls, settings: FrontendSettings) -> Self:
        """The keys of the settings. Raises ConfigurationError when the keys file cannot be used."""
        fixed = [
            _key(name, secret, settings.default_priority)
            for name, secret in (("default", settings.api_key), ("admin", settings.admin_key))
            if secret is not None
        ]
        if len({key.digest for key in fixed}) < len(fixed):
            raise ConfigurationError("admin_key is the same as api_key: give /admin a key of its own.")
        path = settings.api_keys_file
        file = KeysFile(path, settings.default_priority) if path is not None else None
        asked = settings.api_key is not None or file is not None
        return cls(fixed, file, None if asked else Caller(ANONYMOUS, settings.default_priority))

    def find(self, key: bytes) -> Key | None:
        """The key that was presented, if it is one. Compares with every key, also after a match."""
        digest = digest_of(key)
        found = None
        for known in (*self._fixed, *(self.file.keys if self.file is not None else ())):
            if hmac.compare_digest(known.digest, digest):
                found = known
        return found


def _key(name: str, secret: SecretStr, priority: Priority) -> Key:
    if not secret.get_secret_value():
        raise ConfigurationError(f"the {name} key is empty: leave it out, or set one.")
    digest = digest_of(secret.get_secret_value().encode())
    return Key(digest, Caller(name, priority, salt=salt_of(digest), admin=name == "admin"))


class KeyAuth:
    """Lets in who bears a key as `Authorization: Bearer KEY`, and everybody where no key is asked for.

    Leaves the `Caller` in `state.caller`; None on an open path when a key is asked for and no good one came.

    Raises:
        Unauthenticated: to the error boundary around it.
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: Keys,
        open_paths: frozenset[str] = OPEN_PATHS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.app = app
        self._keys = keys
        self._open_paths = open_paths
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            caller: Caller | None = None
            try:
                caller = self._caller(Headers(scope=scope).get("authorization", ""))
            except Unauthenticated:
                if scope["path"] not in self._open_paths:
                    raise
            scope["state"]["caller"] = caller
            scope["state"]["record"].key = caller.name if caller is not None else None
        await self.app(scope, receive, send)

    def _caller(self, authorization: str) -> Caller:
        scheme, _, given = authorization.partition(" ")
        key = None
        if scheme.lower() == "bearer":
            key = self._keys.find(given.strip().encode("latin-1"))
        if key is None and self._keys.anonymous is not None:
            return self._keys.anonymous  # also with a key unknown here: many clients cannot go without one
        if scheme.lower() != "bearer":
            raise Unauthenticated("Give the API key as 'Authorization: Bearer KEY'.")
        if key is None:
            raise Unauthenticated("The API key is wrong.")
        if key.disabled:
            raise Unauthenticated("The API key is disabled.")
        if key.expires is not None and self._clock() >= key.expires:
            raise Unauthenticated("The API key has expired.")
        return key.caller
