from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from fastapi import FastAPI

from frontend.app import create_app
from frontend.service import Service
from gpt_oss_triton.config import FrontendSettings
from tests.unit.frontend.fake_triton import ENSEMBLE, FakeTriton


@pytest.fixture
async def fake() -> AsyncIterator[FakeTriton]:
    async with FakeTriton() as triton:
        yield triton


@pytest.fixture
def settings(fake: FakeTriton) -> FrontendSettings:
    return FrontendSettings(
        triton_url=f"127.0.0.1:{fake.port}",
        models={ENSEMBLE: ENSEMBLE},
        watch_interval_s=0.05,
        watch_stale_s=0.5,
        watch_hung_s=1.5,
    )


async def ready(app: FastAPI) -> None:
    service: Service = app.state.service
    async with asyncio.timeout(10):
        while service.problems():  # noqa: ASYNC110 - it has no event for it
            await asyncio.sleep(0.01)


@pytest.fixture
async def app(settings: FrontendSettings) -> AsyncIterator[FastAPI]:
    """The shim on the fake, ready."""
    shim = create_app(settings)
    async with shim.router.lifespan_context(shim):
        await ready(shim)
        yield shim


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    """Wait for a condition."""

    async def wait(condition: Callable[[], bool], deadline_s: float = 10.0) -> None:
        async with asyncio.timeout(deadline_s):
            while not condition():  # noqa: ASYNC110 - any condition
                await asyncio.sleep(0.01)

    return wait
