"""The compact file and its way back."""

from __future__ import annotations

import hashlib
import lzma
from pathlib import Path

import pytest
import safetensors.torch

from gpt_oss_triton.checkpoint.shapes import Shape
from gpt_oss_triton.demo import checksums
from gpt_oss_triton.demo.committed import HASH, MODEL, manifest
from gpt_oss_triton.demo.export import compact
from gpt_oss_triton.demo.model import DemoModel
from gpt_oss_triton.demo.packed import expand, pack
from gpt_oss_triton.demo.shape import DEMO_SHAPE
from gpt_oss_triton.errors import ConfigurationError
from tests.unit.demo.conftest import OWN, SMALL


@pytest.fixture
def files(model: DemoModel, tmp_path: Path) -> tuple[Path, Path]:
    files = tmp_path / "data" / "model.xz", tmp_path / "data" / "model.json"
    pack(compact(model), SMALL, *files)
    return files


def test_it_expands_to_the_checkpoint_that_was_exported(
    files: tuple[Path, Path], exported: Path, tmp_path: Path
) -> None:
    shown: list[tuple[int, int]] = []
    expand(tmp_path / "out", lambda *progress: shown.append(progress), *files)
    assert checksums.intact(tmp_path / "out")
    names = {path.name for path in exported.iterdir()} | {"SHA256SUMS"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    for path in exported.iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes(), path.name
    assert shown[-1][0] == shown[-1][1] > 40_000_000


def test_a_damaged_file_is_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    data = bytearray(files[0].read_bytes())
    data[len(data) // 2] ^= 1
    files[0].write_bytes(data)
    with pytest.raises(ConfigurationError, match="damaged"):
        expand(tmp_path / "out", model=files[0], described=files[1])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("missing", [0, 1])
def test_a_missing_file_is_named(files: tuple[Path, Path], missing: int, tmp_path: Path) -> None:
    files[missing].unlink()
    with pytest.raises(ConfigurationError, match=rf"{files[missing].name} is missing"):
        expand(tmp_path / "out", model=files[0], described=files[1])


def test_the_committed_file_is_small_and_the_one_of_its_manifest() -> None:
    assert MODEL.stat().st_size <= 15_000_000
    assert hashlib.sha256(MODEL.read_bytes()).hexdigest() == manifest()[HASH]
    assert Shape(**manifest()["shape"]) == DEMO_SHAPE
    tensors = safetensors.torch.load(lzma.decompress(MODEL.read_bytes()))
    assert tensors.keys() == compact(DemoModel(DEMO_SHAPE, OWN)).keys()
