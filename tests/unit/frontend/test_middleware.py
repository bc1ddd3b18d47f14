"""What stands between the socket and the handlers: limits, key, request id, error envelope."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from frontend.service import Service
from gpt_oss_triton.config import FrontendSettings
from tests.unit.frontend.fake_triton import ENSEMBLE

pytestmark = pytest.mark.anyio

PATH = "/v1/chat/completions"
ORIGIN = "https://app.example"
CHAT = {"model": ENSEMBLE, "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def settings(settings: FrontendSettings) -> FrontendSettings:
    return settings.model_copy(
        update={
            "max_body_bytes": 1000,
            "max_header_bytes": 2000,
            "body_timeout_s": 0.5,
            "api_key": SecretStr("s3cret"),
            "cors_origins": [ORIGIN],
        }
    )


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=False),
        base_url="http://shim",
        headers={"authorization": "Bearer s3cret"},
    ) as client:
        yield client


def error(response: httpx.Response) -> tuple[int, str]:
    record = response.json()
    assert list(record) == ["error"]
    assert list(record["error"]) == ["message", "type", "param", "code"]
    return response.status_code, record["error"]["code"]


async def test_body_with_a_length(http: httpx.AsyncClient) -> None:
    assert error(await http.post(PATH, content=b"x" * 1001)) == (413, "request_too_large")


async def test_body_in_chunks(http: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b" " * 100

    response = await http.post(PATH, content=chunks(), headers={"content-type": "application/json"})
    assert error(response) == (413, "request_too_large")


async def test_body_at_the_limit(http: httpx.AsyncClient) -> None:
    body = json.dumps(CHAT).encode().ljust(1000)
    response = await http.post(PATH, content=body, headers={"content-type": "application/json"})
    assert response.status_code == 200


@pytest.mark.parametrize("step_s", [0.03, 60.0], ids=["trickles", "stalls"])
async def test_a_body_that_takes_too_long(http: httpx.AsyncClient, step_s: float) -> None:
    async def slowly() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield b" "
            await asyncio.sleep(step_s)

    response = await http.post(PATH, content=slowly(), headers={"content-type": "application/json"})
    assert error(response) == (408, "request_timeout")


async def test_headers(http: httpx.AsyncClient) -> None:
    assert error(await http.get("/v1/models", headers={"x-much": "x" * 2000})) == (431, "headers_too_large")


@pytest.mark.parametrize(
    "authorization", ["Bearer wrong", "Bearer ", "Basic s3cret", "", "s3cret", "Bearer s3cret\xe4"]
)
async def test_wrong_key(http: httpx.AsyncClient, authorization: str) -> None:
    response = await http.post(
        PATH, json=CHAT, headers=[("authorization", authorization.encode("latin-1"))]  # type: ignore[arg-type]
    )  # fmt: skip
    assert error(response) == (401, "invalid_api_key")
    assert response.headers["www-authenticate"] == "Bearer"
    assert "s3cret" not in response.text


async def test_right_key(http: httpx.AsyncClient) -> None:
    assert (await http.post(PATH, json=CHAT)).status_code == 200
    assert (await http.get("/v1/models", headers={"authorization": "bearer s3cret"})).status_code == 200


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health"])
async def test_probes_need_no_key(http: httpx.AsyncClient, path: str) -> None:
    assert (await http.get(path, headers={"authorization": ""})).status_code == 200


@pytest.mark.parametrize("path", ["/v1/models", "/openapi.json", "/nothing"])
async def test_all_else_does(http: httpx.AsyncClient, path: str) -> None:
    assert error(await http.get(path, headers={"authorization": ""}))[0] == 401


def preflight(
    origin: str, method: str = "POST", headers: str = "authorization,content-type"
) -> dict[str, str]:
    return {
        "authorization": "",
        "origin": origin,
        "access-control-request-method": method,
        "access-control-request-headers": headers,
    }


async def test_a_preflight_needs_no_key(http: httpx.AsyncClient) -> None:
    allowed = await http.options(PATH, headers=preflight(ORIGIN))
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == ORIGIN
    assert "authorization" in allowed.headers["access-control-allow-headers"].lower()


@pytest.mark.parametrize(
    "headers",
    [
        preflight("https://evil.example"),
        preflight("null"),
        preflight(f"{ORIGIN}.evil.example"),
        preflight(ORIGIN, method="PUT"),
    ],
)
async def test_other_preflights_are_refused(http: httpx.AsyncClient, headers: dict[str, str]) -> None:
    refused = await http.options(PATH, headers=headers)
    assert refused.status_code == 400
    assert refused.headers.get("access-control-allow-origin") in (None, ORIGIN)


async def test_answers_and_errors_are_readable_for_listed_origins_only(http: httpx.AsyncClient) -> None:
    for key, status in (("Bearer s3cret", 200), ("Bearer wrong", 401)):
        headers = {"authorization": key}
        listed = await http.get("/v1/models", headers=headers | {"origin": ORIGIN})
        assert listed.status_code == status
        assert listed.headers["access-control-allow-origin"] == ORIGIN
        exposed = listed.headers["access-control-expose-headers"].lower().split(", ")
        assert {"x-request-id", "retry-after"} <= set(exposed)
        assert "access-control-allow-credentials" not in listed.headers
        other = await http.get("/v1/models", headers=headers | {"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers


async def test_router_errors_have_the_envelope(http: httpx.AsyncClient) -> None:
    assert error(await http.get("/nothing")) == (404, "not_found")
    refused = await http.get(PATH)
    assert error(refused) == (405, "method_not_allowed")
    assert refused.headers["allow"] == "POST"
    assert error(await http.get("/v1/models/gpt-7")) == (404, "model_not_found")


async def test_a_bug_is_a_500_without_a_trace(
    http: httpx.AsyncClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Service, model: str) -> None:
        raise RuntimeError("the secret of the stack")

    monkeypatch.setattr(Service, "resolve", fail)
    response = await http.post(PATH, json=CHAT)
    assert error(response) == (500, "internal_error")
    assert "secret" not in response.text
    assert "Traceback" not in response.text


@pytest.mark.parametrize("given", ["abc-1.2_3", "x" * 128])
async def test_request_id_comes_back(http: httpx.AsyncClient, given: str) -> None:
    for path in ("/v1/models", "/nothing"):
        assert (await http.get(path, headers={"x-request-id": given})).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "a\tb", "é"])
async def test_bad_request_id_is_replaced(http: httpx.AsyncClient, given: str) -> None:
    headers = [(b"x-request-id", given.encode("latin-1"))]
    answer = (await http.get("/livez", headers=headers)).headers["x-request-id"]
    assert answer not in ("", given)


async def test_one_line_for_a_request_and_no_secrets(
    http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        await http.post(PATH, json=CHAT, headers={"x-request-id": "id-1"})
        await http.get("/livez")
        await http.get("/nothing")
    ours = [record for record in caplog.records if record.name.startswith(("frontend", "gpt_oss_triton"))]
    chat, nothing = (record.msg for record in ours if isinstance(record.msg, dict))
    assert (chat["event"], chat["path"], chat["status"]) == ("request_end", PATH, 200)
    assert (chat["request_id"], chat["finish"], chat["key"]) == ("id-1", "stop", "default")
    assert nothing["status"] == 404
    assert "s3cret" not in str([record.msg for record in ours])


async def test_models(http: httpx.AsyncClient) -> None:
    listed = (await http.get("/v1/models")).json()
    assert [model["id"] for model in listed["data"]] == [ENSEMBLE]
    assert (await http.get(f"/v1/models/{ENSEMBLE}")).json() == listed["data"][0]


async def test_openapi_describes_every_field(http: httpx.AsyncClient) -> None:
    document = (await http.get("/openapi.json")).json()
    properties = document["components"]["schemas"]["ChatRequest"]["properties"]
    assert properties["audio"]["description"].startswith("refused: ")
    assert properties["temperature"]["description"].startswith("honoured: ")
