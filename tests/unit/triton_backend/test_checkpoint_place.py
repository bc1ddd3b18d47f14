from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpt_oss_triton.config import EngineSettings
from gpt_oss_triton.errors import ConfigurationError
from gpt_oss_triton.triton_backend import self_check
from gpt_oss_triton.triton_backend.checkpoint_place import find_checkpoint


def arguments(repository: Path, model: str = "gpt_oss_20b_engine") -> dict[str, str]:
    return {"model_name": model, "model_repository": str(repository / model)}


def make_checkpoint(directory: Path) -> Path:
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps({}))
    return directory


def test_the_configured_checkpoint_is_used(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "anywhere")
    settings = EngineSettings(checkpoint_20b=checkpoint)
    assert find_checkpoint(arguments(tmp_path / "repository"), settings) == checkpoint


@pytest.mark.parametrize(
    ("model", "ensemble"), [("gpt_oss_20b_engine", "gpt-oss-20b"), ("gpt_oss_120b_engine", "gpt-oss-120b")]
)
def test_without_configuration_it_lies_beside_the_repository(
    tmp_path: Path, model: str, ensemble: str
) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoints" / ensemble)
    assert find_checkpoint(arguments(tmp_path / "repository", model), EngineSettings()) == checkpoint


def test_a_missing_checkpoint_names_the_variable_and_the_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        find_checkpoint(arguments(tmp_path / "repository"), EngineSettings())
    assert "GPT_OSS_CHECKPOINT_20B" in str(caught.value)
    assert str(tmp_path / "checkpoints" / "gpt-oss-20b") in str(caught.value)


def test_a_directory_that_is_no_checkpoint_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"holds no config\.json"):
        find_checkpoint(arguments(tmp_path), EngineSettings(checkpoint_20b=tmp_path))


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPT_OSS_BLOCK_SIZE", "-1")
    monkeypatch.setenv("GPT_OSS_DTYPE", "int3")
    with pytest.raises(ConfigurationError) as caught:
        EngineSettings.load()
    assert "GPT_OSS_BLOCK_SIZE" in str(caught.value)
    assert "GPT_OSS_DTYPE" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_stub_that_misreads_arrays_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    self_check.check_tensors()

    def misread(name: str, capsule: np.ndarray[Any, Any]) -> Any:  # as Triton 2.51's stub does with NumPy 2
        return self_check.pb_utils.Tensor(name, np.broadcast_to(capsule[:1], capsule.shape))

    monkeypatch.setattr(self_check.pb_utils.Tensor, "from_dlpack", misread)
    with pytest.raises(ConfigurationError, match="numpy<2"):
        self_check.check_tensors()
