"""Which engine serves, and what each one refuses."""

import logging
from pathlib import Path

import pytest

from gpt_oss_triton.config import EngineSettings
from gpt_oss_triton.engine import choice
from gpt_oss_triton.engine.capabilities import ALL, OPTIONS, check_supported, table
from gpt_oss_triton.engine.choice import Machine, choose, make_engine
from gpt_oss_triton.engine.native import NativeEngine
from gpt_oss_triton.engine.scripted import ScriptedEngine
from gpt_oss_triton.errors import ConfigurationError, UnsupportedParameter
from gpt_oss_triton.wire import GenerationOptions


@pytest.mark.parametrize("gpus", [0, 1, 2])
@pytest.mark.parametrize("vllm", [True, False])
def test_the_native_engine_is_chosen_where_it_serves(gpus, vllm):
    made = choose(Machine(vllm, gpus))
    assert made.engine == "native"
    assert ("not installed" in made.reason) == (not vllm)


def test_other_gpus_need_vllm():
    assert choose(Machine(vllm=True, gpus=1, nvidia=False)).engine == "vllm"
    with pytest.raises(ConfigurationError, match="NVIDIA's GPUs, and vLLM is not installed"):
        choose(Machine(vllm=False, gpus=1, nvidia=False))


def test_the_reason_is_logged(checkpoint, caplog):
    settings = EngineSettings(engine="auto", max_context=64, kv_cache_gib=0.01, threads=1)
    with caplog.at_level(logging.INFO, logger=choice.__name__):
        engine = make_engine(settings, lambda: checkpoint("bf16"))
    engine.close()
    assert isinstance(engine, NativeEngine)
    assert "engine native: it serves all that is configured" in caplog.text


def test_a_scripted_engine_asks_for_no_checkpoint(tmp_path, caplog):
    path = tmp_path / "s.jsonl"
    path.write_text('{"text": "x"}')
    with caplog.at_level(logging.WARNING, logger=choice.__name__):
        engine = make_engine(
            EngineSettings(engine="scripted", script=path), lambda: pytest.fail("asked for a checkpoint")
        )
    engine.close()
    assert isinstance(engine, ScriptedEngine)
    assert "no model is computed" in caplog.text


@pytest.mark.parametrize(
    "settings", [{"script": "x.jsonl"}, {"engine": "scripted"}, {"engine": "auto", "script": "x.jsonl"}]
)
def test_a_script_goes_with_the_scripted_engine(settings):
    with pytest.raises(ConfigurationError, match=r"script \(GPT_OSS_SCRIPT\).*engine is"):
        EngineSettings.load(**settings)


def test_an_engine_of_no_known_name_is_refused():
    with pytest.raises(ConfigurationError, match=r"engine \(GPT_OSS_ENGINE\)"):
        EngineSettings.load(engine="tensorrt")


@pytest.mark.parametrize("capabilities", ALL, ids=lambda capabilities: capabilities.engine)
def test_an_engine_refuses_what_it_lacks_and_nothing_else(capabilities):
    asking = {"logprobs": 0, "grammar": "start: x", "seed": 0, "logit_bias": {1: 1.0}, "cache_salt": "x"}
    for capability, names in OPTIONS.items():
        for name in names:
            options = GenerationOptions(**{name: asking.get(name, 0.25)})
            if getattr(capabilities, capability) == "no":
                with pytest.raises(UnsupportedParameter, match=capabilities.engine) as refused:
                    check_supported(capabilities, options)
                assert refused.value.param == name
            else:
                check_supported(capabilities, options)
    check_supported(capabilities, GenerationOptions(max_tokens=3, stop=["x"], ignore_eos=True))


def test_the_documentation_has_the_table():
    page = (Path(__file__).resolve().parents[3] / "docs" / "engines.md").read_text()
    rows = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("| `")]
    told = [(cells[0].strip(" `"), *(cell.strip() for cell in cells[1:4])) for cells in rows]
    expected = table()
    names = {row[0] for row in expected}
    assert [row for row in told if row[0] in names] == expected
