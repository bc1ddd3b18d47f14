"""Every engine that runs here keeps to the same contract; vLLM's adapter has its turn in tests/integration/vllm."""

from pathlib import Path

import pytest

from gpt_oss_triton.config import EngineSettings
from gpt_oss_triton.engine.script import Script
from gpt_oss_triton.engine.scripted import ScriptedEngine
from tests.engine_contract import CHECKS, SETTINGS


def scripted(directory: Path) -> ScriptedEngine:
    path = directory / "endless.jsonl"
    path.write_text('{"repeat": "The quick brown fox jumps over the lazy dog. ", "token_s": 0.002}')
    settings = EngineSettings(engine="scripted", script=path, **SETTINGS)
    return ScriptedEngine(Script.read(path), settings)


@pytest.fixture(scope="module", params=["native", "scripted"])
def contracted(request, make_engine, tmp_path_factory):
    if request.param == "native":
        engine = make_engine(**SETTINGS)
    else:
        engine = scripted(tmp_path_factory.mktemp("script"))
    yield engine
    engine.close()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_an_engine_keeps_the_contract(contracted, check):
    check(contracted)
