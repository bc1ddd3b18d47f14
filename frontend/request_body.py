"""The bytes of a JSON body, and a thread for what takes long to read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from fastapi import Request

from gpt_oss_triton.errors import UnsupportedMediaType

P = ParamSpec("P")
T = TypeVar("T")

_LARGE_BYTES = 256 * 1024
_OF_SCHEMAS = (b"json_schema", b"parameters", b"\\u")  # the last may spell any word


async def body_of(request: Request) -> bytes:
    """Raises UnsupportedMediaType when the body does not say that it is JSON."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise UnsupportedMediaType(f"The body must be application/json, not {media_type[:64] or 'untyped'}.")
    return await request.body()


async def apart_if_large(body: bytes, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What takes long for a body of megabytes is done in a thread: it would hold up all other requests."""
    return await _do(len(body) >= _LARGE_BYTES, work, *args, **kwargs)


async def apart_if_slow(body: bytes, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The same for work that compiles the schemas of a body: that can take tenths of a second for any one of them,
    in which Python's lock is free."""
    has_schema = any(word in body for word in _OF_SCHEMAS)
    return await _do(has_schema or len(body) >= _LARGE_BYTES, work, *args, **kwargs)


async def _do(apart: bool, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return await asyncio.to_thread(work, *args, **kwargs) if apart else work(*args, **kwargs)
