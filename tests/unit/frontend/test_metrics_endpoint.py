"""`GET /metrics` of the whole shim."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from frontend.app import create_app
from gpt_oss_triton import wire
from gpt_oss_triton.config import FrontendSettings
from gpt_oss_triton.telemetry.metrics import Metrics
from tests.e2e.otlp_receiver import OtlpReceiver
from tests.unit.frontend.conftest import ready
from tests.unit.frontend.fake_triton import ENSEMBLE, FakeTriton, Request, accepted, finished
from tests.unit.frontend.harmony_turn import turn

pytestmark = pytest.mark.anyio

OPENMETRICS = {"accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"}
CHAT = {"model": ENSEMBLE, "messages": [{"role": "user", "content": "hi"}]}


def client(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shim")


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client(app) as made:
        yield made


def values(text: str, **labels: str) -> dict[str, float]:
    return {
        sample.name: sample.value
        for family in parse_text(text)
        for sample in family.samples
        if labels.items() <= sample.labels.items()
    }


async def answer(request: Request) -> AsyncIterator[tuple[list[int], wire.Event | None]]:
    tokens = turn("Hm.", "Hello")
    yield accepted()
    yield tokens[:-1], None
    yield finished(tokens[-1:], count=len(tokens))


async def test_a_request_shows(http: httpx.AsyncClient, fake: FakeTriton) -> None:
    fake.script = answer
    assert (await http.post("/v1/chat/completions", json=CHAT)).status_code == 200
    shown = await http.get("/metrics")
    assert shown.headers["content-type"].startswith("text/plain")
    of_model = values(shown.text, model_id=ENSEMBLE, dtype="float32", engine="native")
    assert of_model["llm_ttft_seconds_count"] == of_model["llm_e2e_seconds_count"] == 1
    assert of_model["llm_prefill_tokens_total"] == 3  # of 7 tokens 4 came from the cache
    ok = values(shown.text, outcome="ok", model_id=ENSEMBLE, route="/v1/chat/completions")
    assert ok["llm_requests_total"] == 1
    assert values(shown.text, decision="admitted")["llm_admission_total"] == 1
    state = values(shown.text)
    assert state["llm_ready"] == state["llm_engine_ready"] == 1
    assert state["llm_kv_blocks_capacity"] == fake.load.blocks_total
    assert "llm_event_loop_lag_seconds" in state
    assert state["process_resident_memory_bytes"] > 0


async def test_refusals_show_by_code(http: httpx.AsyncClient) -> None:
    assert (await http.post("/v1/chat/completions", json={**CHAT, "model": "gpt-7"})).status_code == 404
    text = (await http.get("/metrics")).text
    assert (
        values(text, code="model_not_found", model_id="unknown", outcome="error")["llm_requests_total"] == 1
    )
    assert "gpt-7" not in text


async def test_exemplars_for_who_asks_for_openmetrics(
    settings: FrontendSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with OtlpReceiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        shim = create_app(settings.model_copy(update={"trace_rest": 1.0}))
        async with shim.router.lifespan_context(shim), client(shim) as http:
            await ready(shim)
            await http.post("/v1/chat/completions", json=CHAT)
            answer = await http.get("/metrics", headers=OPENMETRICS)
        found = {
            sample.exemplar.labels["trace_id"]
            for family in parse_openmetrics(answer.text)
            for sample in family.samples
            if sample.exemplar
        }
        assert len(found) == 1
        assert found <= receiver.trace_ids()


async def test_the_loop_goes_on_while_the_text_is_made(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, leave = threading.Event(), threading.Event()

    def slow(self: Metrics, accept: str, snapshot: Any) -> tuple[bytes, str]:
        inside.set()
        leave.wait(30)
        return b"text", "text/plain"

    monkeypatch.setattr(Metrics, "render", slow)
    scrape = asyncio.create_task(http.get("/metrics"))
    deadline = time.monotonic() + 30
    while not inside.is_set():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    assert (await http.get("/livez")).status_code == 200
    leave.set()
    assert (await scrape).text == "text"


async def test_switched_off(settings: FrontendSettings) -> None:
    shim = create_app(settings.model_copy(update={"metrics": False}))
    async with shim.router.lifespan_context(shim), client(shim) as http:
        assert (await http.get("/metrics")).status_code == 404


async def test_random_names_make_no_series(http: httpx.AsyncClient) -> None:
    async def ask(number: int) -> None:
        await http.post(
            "/v1/chat/completions",
            json={**CHAT, "model": f"model-{number}"} if number % 2 else CHAT,
            headers={"x-request-id": f"r{number}", "x-session-id": f"s{number}"},
        )

    async def series() -> set[tuple[str, frozenset[tuple[str, str]]]]:
        families = parse_text((await http.get("/metrics")).text)
        return {(s.name, frozenset(s.labels.items())) for f in families for s in f.samples}

    for number in range(4):
        await ask(number)
        await series()
    before = await series()
    for number in range(4, 104):
        await ask(number)
    assert await series() == before
