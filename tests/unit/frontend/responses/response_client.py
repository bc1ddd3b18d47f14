"""Scripts for the fake engine, and the events of a stream as they are checked in every test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from gpt_oss_triton.wire import Event
from tests.unit.frontend.fake_triton import Request, accepted, finished
from tests.unit.frontend.harmony_turn import turn

PATH = "/v1/responses"
Responses = AsyncIterator[tuple[list[int], Event | None]]
Script = Callable[[Request], Responses]


def says(ids: list[int], *, size: int = 3, reason: Any = "stop") -> Script:
    """Answers with these ids, some at a time."""

    async def script(request: Request) -> Responses:
        yield accepted()
        for start in range(0, len(ids), size):
            yield ids[start : start + size], None
        yield finished([], reason, count=len(ids))

    return script


def in_turn(*answers: list[int]) -> Script:
    """Answers each request with the next of these."""
    left = list(answers)

    async def script(request: Request) -> Responses:
        async for response in says(left.pop(0))(request):
            yield response

    return script


hello = says(turn("think", "Hello!"))
