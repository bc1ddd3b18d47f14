"""A native engine on the tiny checkpoint, and a caller that collects what it delivers."""

from collections.abc import Iterator

import pytest

from gpt_oss_triton.config import EngineSettings
from gpt_oss_triton.engine.native import NativeEngine
from tests.engine_contract import Call

__all__ = ["SETTINGS", "Call"]

SETTINGS = {"max_context": 1024, "kv_cache_gib": 0.05, "max_step_tokens": 64, "threads": 1}


@pytest.fixture(scope="module")
def overlap() -> str:
    """Modules that make it both `off` and `on` run with either kind of engines."""
    return "off"


@pytest.fixture(scope="module")
def make_engine(checkpoint, overlap):
    def make(weights="fp32", **settings):
        wanted = {**SETTINGS, "overlap": overlap, **settings}
        return NativeEngine.from_settings(EngineSettings(**wanted), checkpoint(weights))

    return make


@pytest.fixture(scope="module")
def engine(make_engine) -> Iterator[NativeEngine]:
    engine = make_engine()
    yield engine
    engine.close()
