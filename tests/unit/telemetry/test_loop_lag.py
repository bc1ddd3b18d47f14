"""A blocked event loop shows."""

from __future__ import annotations

import asyncio
import time

import pytest

from gpt_oss_triton.telemetry.loop_lag import LoopLag


@pytest.mark.anyio
async def test_a_blocked_loop_is_seen() -> None:
    lag = LoopLag()
    measuring = asyncio.create_task(lag.run())
    await asyncio.sleep(0.05)
    time.sleep(0.7)  # noqa: ASYNC251 - blocking is the point
    async with asyncio.timeout(10):
        while lag.worst_s < 0.3:  # noqa: ASYNC110 - it has no event for it
            await asyncio.sleep(0.01)
    measuring.cancel()
