"""What the launcher decides from its options, before any process starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpt_oss_triton.config import field_names
from gpt_oss_triton.demo import checksums
from gpt_oss_triton.errors import ConfigurationError
from gpt_oss_triton.launch import demo
from gpt_oss_triton.launch.plan import Plan, make_plan
from gpt_oss_triton.machine import available_cores


@pytest.fixture(autouse=True)
def _own_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in field_names():
        monkeypatch.delenv(f"GPT_OSS_{name.upper()}", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    # A demo model that is there already: expanding it is the end-to-end test's.
    expanded = demo.place(tmp_path / "gpt-oss-triton")
    expanded.mkdir(parents=True)
    checksums.write(expanded)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    directory = tmp_path / "a checkpoint"
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    return directory


def plan(checkpoint: Path | None = None, said: list[str] | None = None, **arguments: Any) -> Plan:
    return make_plan(arguments, checkpoint, (said if said is not None else []).append)


def test_the_demo_is_the_default_and_says_what_it_is() -> None:
    said: list[str] = []
    made = plan(said=said)
    assert (made.model_id, made.ensemble, made.embedded) == ("gpt-oss-demo", "gpt-oss-20b", True)
    assert made.frontend.models == {"gpt-oss-demo": "gpt-oss-20b"}
    assert made.engine.explain()["max_context"] == (4096, "model demo")
    assert made.engine.explain()["threads"] == (available_cores(), "launcher")
    assert made.frontend.explain()["default_temperature"] == (0.5, "model demo")
    assert any("knows almost nothing" in line for line in said)


def test_the_demos_settings_are_only_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPT_OSS_MAX_CONTEXT", "512")
    monkeypatch.setenv("GPT_OSS_DEFAULT_TEMPERATURE", "1")
    monkeypatch.setenv("GPT_OSS_MODELS", '{"mine": "gpt-oss-20b"}')
    made = plan()
    assert made.engine.max_context == 512
    assert made.frontend.default_temperature == 1
    assert made.model_id == "mine"


@pytest.mark.parametrize("model", ["20b", "120b"])
def test_a_checkpoint_by_option(model: str, checkpoint: Path) -> None:
    made = plan(checkpoint, model=model)
    assert made.triton_environment()[f"GPT_OSS_CHECKPOINT_{model.upper()}"] == str(checkpoint)
    assert made.frontend.models == {f"gpt-oss-{model}": f"gpt-oss-{model}"}
    assert made.engine.explain()["max_context"] == (None, "default")
    assert made.frontend.explain()["default_temperature"] == (1.0, "default")


def test_a_checkpoint_by_variable_chooses_its_model(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPT_OSS_CHECKPOINT_120B", str(checkpoint))
    assert plan().ensemble == "gpt-oss-120b"
    assert plan(model="demo").ensemble == "gpt-oss-20b"


def test_the_option_is_stronger_than_the_variable(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPT_OSS_CHECKPOINT_20B", "/nowhere")
    assert plan(checkpoint, model="20b").engine.explain()["checkpoint_20b"] == (str(checkpoint), "argument")


@pytest.mark.parametrize(
    ("arguments", "checkpoint", "complaint"),
    [
        ({"model": "20b"}, "/nowhere", "no checkpoint of gpt-oss-20b at /nowhere (argument)"),
        ({"model": "120b"}, None, "hf download openai/gpt-oss-120b"),
        ({}, "/nowhere", "--checkpoint needs --model"),
        ({"triton_url": "http://host:8001"}, None, "HOST:PORT"),
        ({"targets": [{"name": "a", "url": "http://host:8001"}]}, None, "HOST:PORT"),
        ({"triton_url": "host:8001", "model": "demo"}, None, "the demo runs in the embedded tritonserver"),
        ({"triton_url": "host:8001"}, "/nowhere", "--checkpoint has no effect with --triton-url"),
        ({"triton_url": "host:8001", "gpu_mode": "single"}, None, "--gpu-mode has no effect"),
        ({"port": 70000}, None, "port (GPT_OSS_PORT)"),
        ({"models": {"a": "gpt-oss-120b"}}, None, "models (argument) maps 'a' to 'gpt-oss-120b'"),
        ({"models": {"a": "gpt-oss-120b"}}, None, "loads only 'gpt-oss-20b'"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict[str, Any], checkpoint: str | None, complaint: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        plan(Path(checkpoint) if checkpoint else None, **arguments)
    assert complaint in str(refused.value)


def test_an_existing_triton_is_not_started_again() -> None:
    made = plan(triton_url="triton:8001")
    assert (made.embedded, made.model_id) == (False, "gpt-oss-20b")
    assert made.frontend_environment()["GPT_OSS_TRITON_URL"] == "triton:8001"


def test_named_targets_are_all_that_is_asked() -> None:
    made = plan(targets=[{"name": "a", "url": "triton:8001"}])
    assert (made.embedded, made.model_id) == (False, "gpt-oss-20b")
    assert not made.frontend.guided_calls, "that is for the demo"


def test_no_targets_are_none() -> None:
    assert plan(targets=[]).embedded


def test_an_existing_triton_may_hold_any_model() -> None:
    made = plan(triton_url="triton:8001", models={"a": "gpt-oss-120b", "b": "mine"})
    assert made.model_id == "a"


def test_the_shims_secrets_do_not_reach_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPT_OSS_API_KEY", "planted-secret")
    made = plan()
    assert made.frontend_environment()["GPT_OSS_API_KEY"] == "planted-secret"
    assert "planted-secret" not in json.dumps(made.triton_environment())


def test_a_misspelt_variable_is_pointed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPT_OSS_MAX_SEQUENCE", "3")
    monkeypatch.setenv("GPT_OSS_CONSTRAINTS", "")
    said: list[str] = []
    plan(said=said)
    warnings = [line for line in said if line.startswith("warning")]
    assert len(warnings) == 1
    assert "GPT_OSS_MAX_SEQUENCE is no setting" in warnings[0]
    assert "did you mean 'max_sequences'?" in warnings[0]
