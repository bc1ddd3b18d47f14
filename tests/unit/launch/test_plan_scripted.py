"""What the launcher makes of the scripted engine: no checkpoint, and a script that tritonserver can find."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpt_oss_triton.config import field_names
from gpt_oss_triton.errors import ConfigurationError
from gpt_oss_triton.launch.plan import Plan, make_plan


@pytest.fixture(autouse=True)
def _own_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in field_names():
        monkeypatch.delenv(f"GPT_OSS_{name.upper()}", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("GPT_OSS_ENGINE", "scripted")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "answers.jsonl"
    path.write_text('{"text": "x"}')
    monkeypatch.setenv("GPT_OSS_SCRIPT", path.name)
    return path


def plan(checkpoint: Path | None = None, **arguments: Any) -> tuple[Plan, str]:
    said: list[str] = []
    return make_plan(arguments, checkpoint, said.append), "\n".join(said)


def test_no_checkpoint_is_looked_for(script: Path) -> None:
    made, said = plan()
    assert (made.model_id, made.ensemble, made.embedded) == ("gpt-oss-20b", "gpt-oss-20b", True)
    assert "no model runs" in said
    environment = made.triton_environment()
    assert environment["GPT_OSS_ENGINE"] == "scripted"
    assert environment["GPT_OSS_SCRIPT"] == str(script)  # tritonserver has another working directory
    assert "GPT_OSS_CHECKPOINT_20B" not in environment
    assert made.engine.explain()["script"] == (str(script), "environment")


def test_it_stands_in_for_any_model(script: Path) -> None:
    assert plan(model="120b")[0].ensemble == "gpt-oss-120b"


@pytest.mark.parametrize(
    ("checkpoint", "arguments", "complaint"),
    [
        (Path("/nowhere"), {}, "--checkpoint has no effect"),
        (None, {"model": "demo"}, "--model demo has no effect"),
        (None, {"script": "none.jsonl"}, "script (argument): there is no file"),
    ],
)
def test_what_makes_no_sense_with_it_is_refused(
    script: Path, checkpoint: Path | None, arguments: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        plan(checkpoint, **arguments)
    assert complaint in str(refused.value)


def test_it_needs_a_script() -> None:
    with pytest.raises(ConfigurationError, match="script \\(GPT_OSS_SCRIPT\\)"):
        plan()


def test_other_engines_may_spread_over_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setenv("GPT_OSS_ENGINE", "vllm")
    made, _ = plan(tmp_path, model="20b", gpu_mode="tensor")
    assert made.triton_environment()["GPT_OSS_GPU_MODE"] == "tensor"
