"""Where the shim is told to guide calls, the engine gets a grammar that nobody asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from gpt_oss_triton.config import FrontendSettings
from gpt_oss_triton.wire import Event
from tests.unit.frontend.fake_triton import ENSEMBLE, FakeTriton, Request, accepted, finished
from tests.unit.frontend.harmony_turn import turn

pytestmark = pytest.mark.anyio

FUNCTION: dict[str, Any] = {
    "name": "pay",
    "parameters": {"type": "object", "properties": {"sum": {"type": "integer"}}},
}
CHAT = {
    "model": ENSEMBLE,
    "messages": [{"role": "user", "content": "hi"}],
    "tools": [{"type": "function", "function": FUNCTION}],
}
RESPONSE = {"model": ENSEMBLE, "input": "hi", "tools": [{"type": "function", **FUNCTION, "strict": False}]}


async def answer(request: Request) -> AsyncIterator[tuple[list[int], Event | None]]:
    yield accepted()
    yield finished(turn("think", "Hello!"))


@pytest.fixture(params=[False, True])
def guided(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def settings(settings: FrontendSettings, guided: bool) -> FrontendSettings:
    return settings.model_copy(update={"guided_calls": guided})


@pytest.mark.parametrize(("path", "body"), [("/v1/chat/completions", CHAT), ("/v1/responses", RESPONSE)])
async def test_both_endpoints(
    app: FastAPI, fake: FakeTriton, guided: bool, path: str, body: dict[str, Any]
) -> None:
    fake.script = answer
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shim") as http:
        response = await http.post(path, json=body)
    assert response.status_code == 200
    grammar = fake.requests[0].options.grammar
    assert (grammar is not None and '"pay "' in grammar and '"sum"' in grammar) is guided
