"""A native engine on the tiny checkpoint, and a caller that collects what it delivers."""

from collections.abc import Iterator

import pytest

from gpt_oss_triton.config import EngineSettings
from gpt_oss_triton.engine.native import NativeEngine
from tests.engine_contract import Call

__all__ = ["SETTINGS", "Call"]

SETTINGS = {"max_context": 1024, "kv_cache_gib": 0.05, "max_step_tokens": 64, "threads": 1}


@pytest.fixture(scope="session")
def make_engine(checkpoint):
    def make(weights="fp32", **settings):
        return NativeEngine.from_settings(EngineSettings(**{**SETTINGS, **settings}), checkpoint(weights))

    return make


@pytest.fixture(scope="module")
def engine(make_engine) -> Iterator[NativeEngine]:
    engine = make_engine()
    yield engine
    engine.close()
