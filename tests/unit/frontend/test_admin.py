"""`/stats`, `/memory_stats` and `/admin`: who may, what comes, and what is refused how."""

from __future__ import annotations

import io
import logging
import os
import zipfile
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from frontend.bundle import EVERY_S, Bundles
from frontend.service import Service
from gpt_oss_triton.config import FrontendSettings
from tests.unit.frontend.fake_triton import ENSEMBLE, LOAD

pytestmark = pytest.mark.anyio

ADMIN, USER = {"authorization": "Bearer master-key"}, {"authorization": "Bearer user-key"}
CHAT = {"model": ENSEMBLE, "messages": [{"role": "user", "content": "hi"}]}
ROUTES = [
    ("GET", "/admin/debug/bundle"),
    ("POST", "/admin/drain"),
    ("GET", "/admin/log-level"),
    ("POST", "/admin/log-level"),
]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def keys() -> dict[str, Any]:
    return {"api_key": SecretStr("user-key"), "admin_key": SecretStr("master-key")}


@pytest.fixture
def settings(settings: FrontendSettings, keys: dict[str, Any]) -> FrontendSettings:
    return settings.model_copy(update=keys)


@pytest.fixture
def clock(app: FastAPI) -> Clock:
    """Of the bundles."""
    clock = Clock()
    app.state.bundles = Bundles(app.state.service, {}, clock)
    return clock


@pytest.fixture
async def http(app: FastAPI, clock: Clock) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://shim") as client:
        yield client


@pytest.fixture
def service(app: FastAPI) -> Service:
    found: Service = app.state.service
    return found


def error(response: httpx.Response) -> tuple[int, str, str | None]:
    record = response.json()
    assert list(record) == ["error"]
    assert list(record["error"]) == ["message", "type", "param", "code"]
    return response.status_code, record["error"]["code"], record["error"]["param"]


# ------------------------------------------------------------------------------------------------ who may


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_admin_is_for_holders_of_its_key(http: httpx.AsyncClient, method: str, path: str) -> None:
    assert error(await http.request(method, path)) == (401, "invalid_api_key", None)
    wrong = {"authorization": "Bearer wrong"}
    assert error(await http.request(method, path, headers=wrong)) == (401, "invalid_api_key", None)
    assert error(await http.request(method, path, headers=USER)) == (403, "forbidden", None)


@pytest.mark.parametrize("keys", [{"api_key": SecretStr("user-key")}, {}], ids=["with API key", "open"])
@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_without_an_admin_key_nobody_may(
    http: httpx.AsyncClient, service: Service, method: str, path: str
) -> None:
    response = await http.request(method, path, headers=USER)
    assert error(response) == (403, "forbidden", None)
    assert "GPT_OSS_ADMIN_KEY" in response.json()["error"]["message"]
    assert not service.draining


@pytest.mark.parametrize("keys", [{"admin_key": SecretStr("master-key")}])
async def test_where_no_api_key_is_asked_for_admin_still_is(http: httpx.AsyncClient) -> None:
    assert (await http.get("/stats")).status_code == 200
    for headers in ({}, {"authorization": "Bearer none"}):
        response = await http.get("/admin/log-level", headers=headers)
        assert error(response) == (401, "invalid_api_key", None)
        assert "admin key" in response.json()["error"]["message"]
        assert response.headers["www-authenticate"] == "Bearer"
    assert (await http.get("/admin/log-level", headers=ADMIN)).status_code == 200


@pytest.mark.parametrize("path", ["/stats", "/memory_stats"])
async def test_figures_are_for_callers(http: httpx.AsyncClient, path: str) -> None:
    assert error(await http.get(path)) == (401, "invalid_api_key", None)
    for headers in (USER, ADMIN):
        response = await http.get(path, headers=headers)
        assert response.status_code == 200
        assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/admin", "/admin/", "/admin/nothing", "//admin/drain", "/ADMIN/drain"])
async def test_there_is_nothing_else(http: httpx.AsyncClient, service: Service, path: str) -> None:
    for headers in (USER, ADMIN):
        assert error(await http.post(path, headers=headers))[0] == 404
    assert not service.draining


async def test_the_admin_key_asks_for_completions_as_well(http: httpx.AsyncClient) -> None:
    assert (await http.post("/v1/chat/completions", json=CHAT, headers=ADMIN)).status_code == 200


# ------------------------------------------------------------------------------------------------ figures


async def test_settings_are_for_admins(http: httpx.AsyncClient) -> None:
    assert "settings" not in (await http.get("/stats", headers=USER)).json()
    response = await http.get("/stats", headers=ADMIN)
    settings = response.json()["settings"]
    assert settings["max_queue"] == {"value": 256, "origin": "default"}
    assert "user-key" not in response.text
    assert "master-key" not in response.text


async def test_memory(http: httpx.AsyncClient) -> None:
    state = (await http.get("/memory_stats", headers=USER)).json()
    assert state["memory"]["system_total_bytes"] > 0
    assert state["kv"]["local"]["blocks"]["total"] == LOAD.blocks_total
    (shim,) = state["processes"]  # the fake engine's process is none of ours
    assert (shim["name"], shim["pid"]) == ("shim", os.getpid())
    assert shim["rss_bytes"] > 0


async def test_health_says_more_to_callers(http: httpx.AsyncClient) -> None:
    (open_to_all,) = (await http.get("/health")).json()["engines"].values()
    (for_callers,) = (await http.get("/health", headers=USER)).json()["engines"].values()
    assert open_to_all["ready"] is True
    assert "load" not in open_to_all
    assert "in_flight" not in open_to_all
    assert for_callers["load"]["blocks_total"] == LOAD.blocks_total


# -------------------------------------------------------------------------------------------------- drain


async def test_drain_and_back(http: httpx.AsyncClient) -> None:
    drained = await http.post("/admin/drain", headers=ADMIN)
    assert drained.json() == {"draining": True, "in_flight": 0, "queued": 0}
    assert (await http.get("/readyz")).status_code == 503
    assert error(await http.post("/v1/chat/completions", json=CHAT, headers=USER))[0] == 503
    again = await http.post("/admin/drain", json={}, headers=ADMIN)
    assert again.json()["draining"] is True
    undone = await http.post("/admin/drain", json={"undo": True}, headers=ADMIN)
    assert undone.json()["draining"] is False
    assert (await http.get("/readyz")).status_code == 200
    assert (await http.post("/v1/chat/completions", json=CHAT, headers=USER)).status_code == 200


BROKEN: list[tuple[bytes, str | None]] = [
    (b"{", None),
    (b"[]", None),
    (b"\xff", None),
    (b"[" * 100_000, None),
    (b'{"much": 1}', "much"),
    (b'{"' + b"x" * 1000 + b'": 1}', "x" * 64),
]


@pytest.mark.parametrize(
    ("body", "param"), [*BROKEN, (b'{"undo": 1}', "undo"), (b'{"undo": "yes"}', "undo"), (b'{"undo": null}', "undo")]
)  # fmt: skip
async def test_bad_drains(http: httpx.AsyncClient, service: Service, body: bytes, param: str | None) -> None:
    response = await http.post("/admin/drain", content=body, headers=ADMIN)
    assert error(response) == (400, "invalid_value", param)
    assert not service.draining


# ---------------------------------------------------------------------------------------------- log level


async def test_the_log_level_changes(http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)  # and puts back afterwards what is changed here
    assert (await http.get("/admin/log-level", headers=ADMIN)).json() == {"level": "info"}
    changed = await http.post("/admin/log-level", json={"level": "debug"}, headers=ADMIN)
    assert changed.json() == {"level": "debug"}
    assert logging.getLogger("frontend.anything").isEnabledFor(logging.DEBUG)
    assert (await http.get("/stats", headers=ADMIN)).json()["settings"]["log_level"]["value"] == "debug"


@pytest.mark.parametrize(
    ("body", "param"),
    [*BROKEN, (b"", "level"), (b"{}", "level"), (b'{"level": "loud"}', "level"), (b'{"level": ["info"]}', "level")],
)  # fmt: skip
async def test_bad_log_levels(
    http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, body: bytes, param: str | None
) -> None:
    caplog.set_level(logging.INFO)
    response = await http.post("/admin/log-level", content=body, headers=ADMIN)
    assert error(response) == (400, "invalid_value", param)
    assert logging.getLogger().level == logging.INFO


# ------------------------------------------------------------------------------------------------- bundle


async def test_a_bundle_is_a_zip(http: httpx.AsyncClient) -> None:
    response = await http.get("/admin/debug/bundle", headers=ADMIN)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/zip"
    assert response.headers["cache-control"] == "no-store"
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert archive.testzip() is None
        assert "README.txt" in archive.namelist()


async def test_bundles_are_not_made_too_often(http: httpx.AsyncClient, clock: Clock) -> None:
    assert (await http.get("/admin/debug/bundle", headers=ADMIN)).status_code == 200
    clock.now += EVERY_S - 4
    response = await http.get("/admin/debug/bundle", headers=ADMIN)
    assert error(response) == (429, "rate_limit_exceeded", None)
    assert response.headers["retry-after"] == "4"
    clock.now += 4
    assert (await http.get("/admin/debug/bundle", headers=ADMIN)).status_code == 200


@pytest.mark.parametrize(("method", "path"), [("POST", "/admin/debug/bundle"), ("GET", "/admin/drain")])
async def test_other_methods(http: httpx.AsyncClient, method: str, path: str) -> None:
    assert error(await http.request(method, path, headers=ADMIN)) == (405, "method_not_allowed", None)
