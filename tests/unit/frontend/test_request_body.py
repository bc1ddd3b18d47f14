"""What is done in a thread, where it would hold up other requests."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from frontend import answer_format, function_tools
from gpt_oss_triton.harmony.grammar import check_enforceable
from tests.unit.frontend.fake_triton import ENSEMBLE
from tests.unit.frontend.normalizing_triton import NormalizingTriton

pytestmark = pytest.mark.anyio

SCHEMA = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^a"}}}
CHAT: dict[str, Any] = {"model": ENSEMBLE, "messages": [{"role": "user", "content": "hi"}]}
FORMAT = {"type": "json_schema", "json_schema": {"name": "f", "schema": SCHEMA}}
FUNCTION = {"name": "f", "parameters": SCHEMA, "strict": True}
WITH_SCHEMAS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {**CHAT, "response_format": FORMAT},
    "/v1/chat/completions/render": {**CHAT, "tools": [{"type": "function", "function": FUNCTION}]},
    "/tokenize": {**CHAT, "response_format": FORMAT},
    "/v1/responses": {
        "model": ENSEMBLE,
        "input": "hi",
        "text": {"format": {"type": "json_schema", "name": "f", "schema": SCHEMA}},
        "tools": [{"type": "function", **FUNCTION}],
    },
}
WHERE = {
    "/v1/chat/completions": "response_format.json_schema.schema",
    "/v1/chat/completions/render": "tools[0].function.parameters",
    "/tokenize": "response_format.json_schema.schema",
    "/v1/responses": "text.format.schema",
}


@pytest.fixture
async def fake() -> AsyncIterator[NormalizingTriton]:
    async with NormalizingTriton() as triton:
        yield triton


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"content-type": "application/json"}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://shim", headers=headers
    ) as client:
        yield client


@pytest.mark.parametrize("escaped", [False, True])
@pytest.mark.parametrize("path", WITH_SCHEMAS)
async def test_schemas_are_compiled_apart_however_small(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, path: str, escaped: bool
) -> None:
    threads: list[threading.Thread] = []

    def noted(*args: Any, **kwargs: Any) -> None:
        threads.append(threading.current_thread())
        check_enforceable(*args, **kwargs)

    monkeypatch.setattr(answer_format, "check_enforceable", noted)
    monkeypatch.setattr(function_tools, "check_enforceable", noted)
    body = json.dumps(WITH_SCHEMAS[path])
    if escaped:
        body = body.replace('"json_schema"', r'"json\u005fschema"').replace('"param', r'"p\u0061ram')
    assert (await http.post(path, content=body)).status_code == 200
    assert threads
    assert threading.current_thread() not in threads


@pytest.mark.parametrize("path", WITH_SCHEMAS)
async def test_a_schema_that_takes_too_long_is_named(http: httpx.AsyncClient, path: str) -> None:
    slow = {"type": "string", "allOf": [{"pattern": f"^.*a.{{{n}}}$"} for n in range(10, 34)]}
    body = json.dumps(WITH_SCHEMAS[path]).replace(json.dumps(SCHEMA["properties"]["a"]), json.dumps(slow))  # type: ignore[index]
    response = await http.post(path, content=body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == WHERE[path]
    assert "join too many patterns" in error["message"]
