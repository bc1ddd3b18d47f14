"""Death, hang, silence and recovery of an engine, as the shim lives through them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import msgspec
import pytest
from fastapi import FastAPI

from frontend.app import create_app
from frontend.local_server import LocalServer
from frontend.service import Service
from gpt_oss_triton.config import FrontendSettings
from gpt_oss_triton.wire import Load
from tests.unit.frontend.asgi_client import Exchange
from tests.unit.frontend.fake_triton import ENGINE, ENSEMBLE, FakeTriton, endless

pytestmark = pytest.mark.anyio

PATH = "/v1/chat/completions"
STREAM: dict[str, Any] = {
    "model": ENSEMBLE,
    "messages": [{"role": "user", "content": "hi"}],
    "stream": True,
}
Until = Callable[[Callable[[], bool]], Awaitable[None]]


async def get(app: FastAPI, path: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shim") as http:
        return await http.get(path)


async def test_a_dead_engine_fails_its_streams_and_is_restarted(
    app: FastAPI, fake: FakeTriton, until: Until
) -> None:
    fake.script = endless
    service: Service = app.state.service
    exchanges = [Exchange.post(app, PATH, STREAM) for _ in range(3)]
    for exchange in exchanges:
        await exchange.wait_sent(3)

    fake.mode = "dead"
    for exchange in exchanges:
        await exchange.finish()
        assert exchange.events()[-1]["error"]["code"] == "engine_unavailable"
        assert b"[DONE]" not in exchange.body

    await until(lambda: not service.problems())
    assert fake.controls == [f"unload {ENGINE}", f"load {ENGINE}"]
    assert (await get(app, "/readyz")).status_code == 200


async def test_who_waits_for_a_place_hears_of_the_loss(app: FastAPI, fake: FakeTriton, until: Until) -> None:
    """Nobody of this shim may run there, whose end would make it look."""
    service: Service = app.state.service
    watch = service.targets[0].watch
    assert watch.on_loss == service.admission.wake
    seen: list[Load | None] = []
    watch.on_loss = lambda: seen.append(watch.load)
    fake.mode = "dead"
    await until(lambda: not service.problems() and bool(seen))
    assert seen == [None]


class TestWithoutRecovery:
    @pytest.fixture
    def settings(self, settings: FrontendSettings) -> FrontendSettings:
        return settings.model_copy(update={"recover": False})

    async def test_a_dead_engine_refuses_at_once_until_it_is_back(
        self, app: FastAPI, fake: FakeTriton, until: Until
    ) -> None:
        service: Service = app.state.service
        fake.mode = "dead"
        await until(lambda: bool(service.problems()))
        answer = await get(app, "/readyz")
        assert answer.status_code == 503
        assert ENGINE in answer.json()["problems"][0]
        exchange = Exchange.post(app, PATH, STREAM)
        await exchange.finish()
        assert exchange.status == 503
        assert int(exchange.headers["retry-after"]) >= 1
        assert fake.requests == [], "nothing is sent to a dead engine"
        assert fake.controls == []
        fake.mode = "alive"
        await until(lambda: not service.problems())

    async def test_a_restart_between_two_reports_fails_the_old_streams(
        self, app: FastAPI, fake: FakeTriton
    ) -> None:
        fake.script = endless
        exchange = Exchange.post(app, PATH, STREAM)
        await exchange.wait_sent(3)
        fake.load = msgspec.structs.replace(fake.load, pid=99)
        await exchange.finish()
        assert exchange.events()[-1]["error"]["code"] == "engine_unavailable"

    async def test_an_engine_whose_records_have_another_form_is_told_of(
        self, app: FastAPI, fake: FakeTriton, until: Until, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        fake.load = msgspec.structs.replace(fake.load, pid=98)
        await until(lambda: "is ready (pid 98" in caplog.text)
        assert "records differ" not in caplog.text
        fake.load = msgspec.structs.replace(fake.load, pid=99, records_form="older")
        await until(lambda: "records differ" in caplog.text)


class TestLocal:
    @pytest.fixture
    def settings(self, settings: FrontendSettings) -> FrontendSettings:
        return settings.model_copy(update={"local_triton": True})

    @pytest.fixture(autouse=True)
    def server(self, fake: FakeTriton, monkeypatch: pytest.MonkeyPatch) -> list[Load]:
        """Our own server: the reports it was found by. Ended, it comes back as a supervisor would do it."""
        found: list[Load] = []

        class Server:
            def __init__(self, pid: int) -> None:
                self._pid = pid

            @property
            def stub_lives(self) -> bool:
                return fake.mode != "dead" and fake.load.pid == self._pid

            def end(self) -> bool:
                fake.ends += 1
                fake.mode = "alive"
                fake.load = msgspec.structs.replace(fake.load, pid=fake.load.pid + 1)
                return True

        def find(load: Load) -> Server:
            found.append(load)
            return Server(load.pid)

        monkeypatch.setattr(LocalServer, "of", find)
        return found

    @pytest.mark.parametrize("mode", ["dead", "hung"])
    async def test_the_server_is_ended_and_taken_back(
        self, app: FastAPI, fake: FakeTriton, until: Until, server: list[Load], mode: str
    ) -> None:
        fake.script = endless
        service: Service = app.state.service
        exchange = Exchange.post(app, PATH, STREAM)
        await exchange.wait_sent(3)
        assert [load.pid for load in server] == [1], "looked up while it lives"
        fake.mode = mode
        await exchange.finish()
        assert exchange.events()[-1]["error"]["code"] == "engine_unavailable"
        await until(lambda: not service.problems())
        assert fake.ends == 1
        assert [load.pid for load in server] == [1, 2]


async def test_a_hung_engine_elsewhere_is_left_alone_and_taken_back(
    app: FastAPI, fake: FakeTriton, until: Until
) -> None:
    fake.script = endless
    service: Service = app.state.service
    exchange = Exchange.post(app, PATH, STREAM)
    await exchange.wait_sent(3)
    fake.mode = "hung"
    await exchange.finish()
    assert exchange.events()[-1]["error"]["code"] == "engine_unavailable"
    assert (await get(app, "/readyz")).status_code == 503
    fake.mode = "alive"
    await until(lambda: not service.problems())
    assert fake.controls == []


async def test_a_broken_watch_of_a_live_engine_is_reopened(
    app: FastAPI, fake: FakeTriton, until: Until
) -> None:
    fake.script = endless
    service: Service = app.state.service
    exchange = Exchange.post(app, PATH, STREAM)
    await exchange.wait_sent(3)
    fake.mute_watch.set()  # this watch stream stays silent; the next one does not
    await until(lambda: fake.watches == 2 and not service.problems())
    await until(lambda: service.targets[0].load is not None and service.targets[0].load.sequence > 2)
    assert not exchange.task.done(), "the engine lived all the time"  # type: ignore[union-attr]
    exchange.disconnect()
    await exchange.finish()


async def test_the_shim_may_start_first(settings: FrontendSettings, fake: FakeTriton, until: Until) -> None:
    await fake._server.stop(0)
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        service: Service = app.state.service
        assert (await get(app, "/livez")).status_code == 200
        assert (await get(app, "/readyz")).status_code == 503
        exchange = Exchange.post(app, PATH, STREAM)
        await exchange.finish()
        assert exchange.status == 503
        async with fake:
            await until(lambda: not service.problems())
        # and Triton as a whole may go
        await until(lambda: bool(service.problems()))
        async with fake:
            await until(lambda: not service.problems())


async def test_health_has_the_load(app: FastAPI) -> None:
    record = (await get(app, "/health")).json()
    assert record["status"] == "ready"
    engine = record["engines"]["local"]
    assert engine["load"]["blocks_total"] == 8192
    assert engine["in_flight"] == 0
    assert engine["problem"] is None


async def test_an_engine_whose_step_never_ends_gets_no_requests(
    app: FastAPI, fake: FakeTriton, until: Until
) -> None:
    service: Service = app.state.service
    fake.load = msgspec.structs.replace(fake.load, running=1, step_age_s=600.0)
    await until(lambda: bool(service.problems()))
    assert "step has run for 600 s" in (await get(app, "/readyz")).json()["problems"][0]
    fake.load = msgspec.structs.replace(fake.load, running=0, step_age_s=0.0)
    await until(lambda: not service.problems())
