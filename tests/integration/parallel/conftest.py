"""Engines of several processes on the CPU, over gloo."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from gpt_oss_triton.config import EngineSettings
from gpt_oss_triton.engine.native import NativeEngine
from tests.unit.engine.conftest import SETTINGS

MODES = ({"gpu_mode": "tensor", "parallel_ranks": 2}, {"gpu_mode": "pipeline", "parallel_ranks": 3})


@pytest.fixture
def started(checkpoint) -> Iterator[Callable[..., NativeEngine]]:
    """`started(weights, **settings)`: an engine that ends with the test."""
    engines = []

    def start(weights: str = "fp32", **settings: object) -> NativeEngine:
        given = {**SETTINGS, "device": "cpu", **settings}
        engines.append(NativeEngine.from_settings(EngineSettings(**given), checkpoint(weights)))
        return engines[-1]

    yield start
    for engine in engines:
        engine.close()
        engine._runner.close()


def workers(engine: NativeEngine) -> list[int]:
    """Process ids of the ranks beside rank 0."""
    return [process.pid for process in engine._runner._executor._team._processes]
