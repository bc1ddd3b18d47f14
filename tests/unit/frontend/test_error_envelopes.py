"""One envelope for every error of every path."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from frontend.service import Service
from gpt_oss_triton.config import FrontendSettings
from gpt_oss_triton.errors import DeadlineExceeded, EngineUnavailable, InternalError, Overloaded, ServiceError
from gpt_oss_triton.wire import Event
from tests.unit.frontend.asgi_client import Exchange
from tests.unit.frontend.fake_triton import ENSEMBLE, FakeTriton, Request, accepted

pytestmark = pytest.mark.anyio

MESSAGES = [{"role": "user", "content": "hi"}]
ANSWERED: dict[str, dict[str, Any]] = {  # by a model
    "/v1/chat/completions": {"model": ENSEMBLE, "messages": MESSAGES},
    "/v1/completions": {"model": ENSEMBLE, "prompt": "hi"},
    "/v1/responses": {"model": ENSEMBLE, "input": "hi"},
}
SHOWN: dict[str, dict[str, Any]] = {  # by the normalizer
    "/v1/chat/completions/render": {"model": ENSEMBLE, "messages": MESSAGES},
    "/tokenize": {"model": ENSEMBLE, "prompt": "hi"},
    "/detokenize": {"model": ENSEMBLE, "tokens": [1]},
}
BODIES = ANSWERED | SHOWN
TYPES = {
    400: "invalid_request_error", 404: "invalid_request_error", 405: "invalid_request_error",
    413: "invalid_request_error", 415: "invalid_request_error", 429: "rate_limit_error", 500: "server_error",
    503: "server_error", 504: "timeout_error",
}  # fmt: skip
GETS = [
    "/v1/models", "/v1/models/nobody", "/v1/responses/nobody", "/v1/responses/nobody/input_items", "/livez", "/readyz",
    "/health", "/metrics", "/openapi.json",
]  # fmt: skip


@pytest.fixture
def settings(settings: FrontendSettings) -> FrontendSettings:
    return settings.model_copy(update={"max_body_bytes": 2000})


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://shim"
    ) as client:
        yield client


def check(response: httpx.Response, status: int, code: str | None = None) -> dict[str, Any]:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    record = response.json()
    assert record.keys() == {"error"}
    error: dict[str, Any] = record["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert error["type"] == TYPES[status]
    assert error["message"]
    assert isinstance(error["code"], str)
    assert error["param"] is None or isinstance(error["param"], str)
    assert code in (None, error["code"])
    return error


@pytest.mark.parametrize("path", BODIES)
class TestEveryEndpoint:
    async def test_400(self, http: httpx.AsyncClient, path: str) -> None:
        for body in (b"{", b"[]", b"\xff", b'{"a": NaN}', b""):
            response = await http.post(path, content=body, headers={"content-type": "application/json"})
            check(response, 400, "invalid_value")
        unknown = await http.post(path, json={**BODIES[path], "no_such_field": 1})
        assert check(unknown, 400)["param"] == "no_such_field"
        wrong = await http.post(path, json={**BODIES[path], "model": 5})
        assert check(wrong, 400)["param"] == "model"

    async def test_404(self, http: httpx.AsyncClient, path: str) -> None:
        for wrong in (f"{path}/", f"{path}/x/y", f"/v2{path}", path.upper()):
            check(await http.post(wrong, json=BODIES[path]), 404, "not_found")
        error = check(await http.post(path, json={**BODIES[path], "model": "gpt-7"}), 404, "model_not_found")
        assert error["param"] == "model"

    async def test_405(self, http: httpx.AsyncClient, path: str) -> None:
        for method in ("GET", "PUT", "PATCH", "DELETE", "HEAD"):
            response = await http.request(method, path)
            assert response.headers["allow"] == "POST"
            if method != "HEAD":
                check(response, 405, "method_not_allowed")

    async def test_413(self, http: httpx.AsyncClient, path: str) -> None:
        body = json.dumps(BODIES[path]).encode().ljust(2001)
        response = await http.post(path, content=body, headers={"content-type": "application/json"})
        check(response, 413, "request_too_large")

    async def test_415(self, http: httpx.AsyncClient, path: str) -> None:
        for media_type in (
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
        ):
            response = await http.post(path, content=b"{}", headers={"content-type": media_type})
            check(response, 415, "unsupported_media_type")

    async def test_500(self, http: httpx.AsyncClient, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(self: Service, model: str) -> None:
            raise RuntimeError("the secret of the stack")

        monkeypatch.setattr(Service, "resolve", fail)
        error = check(await http.post(path, json=BODIES[path]), 500, "internal_error")
        assert "secret" not in error["message"]


@pytest.mark.parametrize("path", ANSWERED)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("failure", "status"),
    [(Overloaded("full"), 429), (InternalError("bug"), 500), (EngineUnavailable("gone"), 503), (DeadlineExceeded("late"), 504)],
)  # fmt: skip
async def test_what_the_engine_says(
    http: httpx.AsyncClient, fake: FakeTriton, path: str, stream: bool, failure: ServiceError, status: int
) -> None:
    async def refuse(request: Request) -> AsyncIterator[tuple[list[int], Event | None]]:
        raise failure
        yield accepted()

    fake.script = refuse
    response = await http.post(path, json={**ANSWERED[path], "stream": stream})
    check(response, status, failure.code)
    if status in (429, 503):
        assert int(response.headers["retry-after"]) >= 1


@pytest.mark.parametrize("path", ANSWERED)
async def test_draining_is_503(app: FastAPI, http: httpx.AsyncClient, path: str) -> None:
    app.state.service.refuse_new()
    response = await http.post(path, json=ANSWERED[path])
    check(response, 503, "engine_unavailable")
    assert int(response.headers["retry-after"]) >= 1


@pytest.mark.parametrize("path", ANSWERED)
async def test_a_failure_in_the_stream_is_one_event_and_the_end(
    app: FastAPI, fake: FakeTriton, path: str
) -> None:
    async def fail(request: Request) -> AsyncIterator[tuple[list[int], Event | None]]:
        yield accepted()
        yield [13225, 0], None  # some text
        raise InternalError("The step failed.")

    fake.script = fail
    exchange = Exchange.post(app, path, {**ANSWERED[path], "stream": True})
    await exchange.finish()
    assert exchange.status == 200
    assert exchange.body.count(b"The step failed.") == 1
    *_, last = [block for block in exchange.body.split(b"\n\n") if block]
    assert b"The step failed." in last
    assert b"[DONE]" not in exchange.body
    assert exchange.sent[-1]["more_body"] is False


@pytest.mark.parametrize("path", GETS)
async def test_gets_say_which_methods_they_allow(http: httpx.AsyncClient, path: str) -> None:
    response = await http.put(path)
    check(response, 405, "method_not_allowed")
    assert "GET" in response.headers["allow"].split(", ")


async def test_a_path_of_two_methods_names_both(http: httpx.AsyncClient) -> None:
    response = await http.put("/v1/responses/resp_1")
    assert set(response.headers["allow"].split(", ")) == {"GET", "DELETE"}


@pytest.mark.parametrize(
    "path", ["/", "/nothing", "/v1", "/v1/", "/v1/responses/x/y", "/v1//models", "/%00", "/v1/embeddings"]
)
async def test_unknown_paths(http: httpx.AsyncClient, path: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        if (method, path) == ("GET", "/"):
            continue  # the page
        response = await http.request(method, path)
        check(response, response.status_code if path == "/" else 404)


async def test_nothing_is_left_running(app: FastAPI, http: httpx.AsyncClient, fake: FakeTriton) -> None:
    for path, body in ANSWERED.items():
        await http.post(path, json={**body, "model": "gpt-7"})
    await asyncio.sleep(0)
    assert fake.requests == []
    assert app.state.service.in_flight == 0
