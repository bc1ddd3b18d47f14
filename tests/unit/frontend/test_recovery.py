"""The normalizer's way back, on a Triton whose control does what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from frontend import recovery
from frontend.recovery import keep_normalizer
from gpt_oss_triton.errors import EngineUnavailable

pytestmark = pytest.mark.anyio

Until = Callable[[Callable[[], bool]], Awaitable[None]]


class Control:
    """Attributes:
    refusals: loads that fail, from now on.
    """

    url = "somewhere:1"

    def __init__(self, state: str = "READY", refusals: int = 0) -> None:
        self.normalizer_failed = asyncio.Event()
        self.state, self.refusals = state, refusals
        self.calls: list[str] = []

    async def model_state(self, model: str) -> str:
        return self.state

    async def unload_model(self, model: str) -> None:
        self.calls.append(f"unload {model}")
        self.state = "UNAVAILABLE"

    async def load_model(self, model: str) -> None:
        self.calls.append(f"load {model}")
        if self.refusals:
            self.refusals -= 1
            raise EngineUnavailable("no room")
        self.state = "READY"


async def kept(control: Control, until: Until, monkeypatch: pytest.MonkeyPatch, deaths: int = 1) -> list[str]:
    """What is asked of it until all is well again."""
    monkeypatch.setattr(recovery, "_STRAGGLERS_S", 0.01)
    keeping = asyncio.create_task(keep_normalizer(control))  # type: ignore[arg-type]
    for _ in range(deaths):
        control.normalizer_failed.set()
        await until(lambda: not control.normalizer_failed.is_set())
    keeping.cancel()
    assert control.state == "READY"
    return control.calls


RELOADED = ["unload prompt_normalizer", "load prompt_normalizer"]


async def test_each_death_is_followed_by_one_load(until: Until, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await kept(Control(), until, monkeypatch, deaths=2) == 2 * RELOADED


async def test_a_load_that_fails_is_tried_again(until: Until, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await kept(Control(refusals=2), until, monkeypatch) == [*RELOADED, RELOADED[1], RELOADED[1]]


async def test_what_an_earlier_shim_left_unloaded_is_loaded(
    until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await kept(Control("UNAVAILABLE"), until, monkeypatch) == [RELOADED[1]]
