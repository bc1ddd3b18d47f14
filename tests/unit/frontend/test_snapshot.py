"""The one description of the server's state that everything else shows."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from frontend.service import Service
from frontend.snapshot import kv_map, settings_in_use, snapshot
from gpt_oss_triton.config import FrontendSettings
from tests.unit.frontend.asgi_client import Exchange
from tests.unit.frontend.fake_triton import ENGINE, ENSEMBLE, LOAD, FakeTriton

pytestmark = pytest.mark.anyio

BLOCK_BYTES = 1000
USED, CACHED, LEASED = 3, 5, 2
# part -> its fields; others may be added, none of these may go: the page, the gauges and people read them
SHAPE = {
    "requests": {"accepted", "ok", "error", "cancelled", "rejected", "in_flight", "cancelled_by_phase"},
    "latency": {
        "window_s", "requests", "ttft_p50_s", "ttft_p95_s", "e2e_p50_s", "e2e_p95_s", "tpot_p50_s",
        "output_tokens_per_s",
    },
    "admission": {
        "queued", "queued_by_priority", "max_queue", "level", "queue_wait_limit_s", "service_rate", "decisions",
        "bookings",
    },
    "routing": {
        "policy", "decisions", "route4_gpu_requests", "route4_percentage", "route4_triggers", "gpu_balance",
    },
    "sessions": {"active", "created_total", "ended_total", "returned_total"},
    "prompt_cache": {"hits", "misses"},
    "prefix_cache": {"prompt_tokens", "cached_tokens", "hit_ratio"},
    "response_cache": {"entries", "hits", "misses"},
    "memory": {
        "rss_bytes", "system_total_bytes", "system_available_bytes", "kv_bytes_in_use", "kv_bytes_total",
    },
}  # fmt: skip
ENGINE_FIELDS = {
    "target", "model", "ready", "problem", "breaker", "in_flight", "silence_s", "limit", "blocks_reserved", "load",
}  # fmt: skip
SCALARS = {"version", "time", "uptime_s", "ready", "problems", "draining", "pid", "event_loop_lag_s"}
CHAT = {"model": ENSEMBLE, "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
async def fake() -> Any:
    async with FakeTriton() as triton:
        triton.load = msgspec.structs.replace(
            LOAD, block_bytes=BLOCK_BYTES, blocks_used=USED, blocks_cached=CACHED, blocks_leased=LEASED
        )
        yield triton


@pytest.fixture
def service(app: FastAPI) -> Service:
    found: Service = app.state.service
    return found


async def test_the_shape(service: Service) -> None:
    state = snapshot(service)
    assert state.keys() == SCALARS | SHAPE.keys() | {"engines", "gpus"}
    for part, fields in SHAPE.items():
        assert fields <= state[part].keys(), part
    assert all(engine.keys() == ENGINE_FIELDS for engine in state["engines"])
    assert state["engines"][0]["load"]["blocks_used"] == USED
    assert json.loads(msgspec.json.encode(state)).keys() == state.keys()


async def test_a_ready_server(service: Service) -> None:
    state = snapshot(service)
    assert (state["ready"], state["problems"], state["draining"]) == (True, [], False)
    (engine,) = state["engines"]
    assert (engine["model"], engine["ready"], engine["problem"], engine["breaker"]) == (ENSEMBLE, True, None, "closed")  # fmt: skip
    assert state["memory"]["kv_bytes_in_use"] == USED * BLOCK_BYTES
    assert state["memory"]["kv_bytes_total"] == LOAD.blocks_total * BLOCK_BYTES
    assert 0 < state["memory"]["rss_bytes"] < state["memory"]["system_total_bytes"]


async def test_requests_are_in_it(app: FastAPI, service: Service) -> None:
    before = snapshot(service)
    exchange = Exchange.post(app, "/v1/chat/completions", CHAT)
    await exchange.finish()
    assert exchange.status == 200
    after = snapshot(service)
    assert after["requests"]["ok"] == before["requests"]["ok"] + 1
    assert sum(after["admission"]["decisions"].values()) == 1
    assert after["uptime_s"] > before["uptime_s"]


async def test_a_lost_engine_is_named_once(
    service: Service, fake: FakeTriton, until: Callable[[Callable[[], bool]], Awaitable[None]]
) -> None:
    fake.mode = "dead"
    fake.mute_watch.set()
    await until(lambda: service.targets[0].load is None)
    state = snapshot(service)
    assert state["ready"] is False
    (problem,) = state["problems"]
    assert ENGINE in problem
    assert state["engines"][0]["load"] is None
    assert state["memory"]["kv_bytes_total"] == 0
    assert kv_map(service) == {"local": None}


async def test_a_drain(service: Service) -> None:
    service.refuse_new()
    state = snapshot(service)
    assert (state["ready"], state["draining"], state["problems"]) == (False, True, ["draining"])


async def test_the_kv_map_adds_up(service: Service) -> None:
    kv = kv_map(service)["local"]
    assert kv is not None
    blocks = kv["blocks"]
    assert blocks["total"] == blocks["used"] + blocks["cached"] + blocks["free"]
    assert (blocks["used"], blocks["cached"], blocks["leased"]) == (USED, CACHED, LEASED)
    assert kv["bytes"]["cached"] == CACHED * BLOCK_BYTES


async def test_settings_with_their_origin_and_without_secrets(service: Service) -> None:
    service.settings = FrontendSettings.load(
        port=1234, api_key=SecretStr("s3cret-1"), admin_key=SecretStr("s3cret-2"), log_level="warning"
    )
    settings = settings_in_use(service)
    assert settings["port"] == {"value": 1234, "origin": "argument"}
    assert settings["max_queue"]["origin"] == "default"
    assert settings["api_key"]["origin"] == "argument"
    assert settings["api_key"]["value"]  # that there is one
    assert "s3cret" not in json.dumps(settings)


async def test_the_log_level_is_the_one_in_use(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    assert settings_in_use(service)["log_level"] == {"value": "error", "origin": "/admin/log-level"}


def test_every_setting_that_sounds_like_a_secret_is_kept_as_one() -> None:
    for name, field in FrontendSettings.model_fields.items():
        if name.endswith(("key", "token", "secret", "password")):
            assert "SecretStr" in str(field.annotation), name
