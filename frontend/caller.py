"""Who sends a request, and what this caller may use. Made from a key; holds neither the key nor its hash."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from gpt_oss_triton.config import Priority

ANONYMOUS = "anonymous"  # name of everybody, where no key is asked for
_SALT_PURPOSE = b"gpt-oss-triton: prefixes of one tenant"


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """None: no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None  # of prompts and answers together
    concurrency: int | None = None  # requests at once, the waiting ones included


@dataclass(frozen=True, slots=True)
class Caller:
    """Attributes:
    name: of the API key. The keys file bounds it: safe in logs, but of too many values for a metric's label.
    priority: of its requests, unless they ask for less.
    salt: of its KV prefixes, which it shares with nobody else; the same after a restart.
    admin: may use /admin and see the configuration.
    """

    name: str
    priority: Priority
    limits: KeyLimits = KeyLimits()
    salt: str = ""
    admin: bool = False


@dataclass(frozen=True, slots=True)
class Key:
    """Attributes:
    digest: SHA-256 of the key.
    expires: Unix seconds, or None.
    """

    digest: bytes
    caller: Caller
    expires: float | None = None
    disabled: bool = False


def digest_of(key: bytes) -> bytes:
    """Plain SHA-256: our keys are random, so there are no likely ones to try."""
    return hashlib.sha256(key).digest()


def salt_of(digest: bytes) -> str:
    """A salt that tells nothing of the digest, which may be written in a file that others read."""
    return hmac.new(digest, _SALT_PURPOSE, hashlib.sha256).hexdigest()[:32]
