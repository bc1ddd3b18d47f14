"""The writer: the same bytes for the same seed, the same weights in every dtype, all files or none."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from gpt_oss_triton.checkpoint import SHAPES, Shape, build, build_checkpoint
from gpt_oss_triton.kernels.mxfp4 import dequantize

SMALL = Shape(
    hidden=32, layers=2, experts=4, heads=2, kv_heads=1, head_dim=16, intermediate=32, experts_per_token=2
)
Tiny = Callable[[str], Path]


def _digests(directory: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in directory.iterdir()}


def test_files_are_the_published_ones(tiny: Tiny) -> None:
    assert {file.name for file in tiny("mxfp4").iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "chat_template.jinja",
    }


def test_equal_seeds_give_equal_bytes(tiny: Tiny, tmp_path: Path) -> None:
    build_checkpoint("tiny", "mxfp4", seed=7, out=tmp_path / "again")
    assert _digests(tmp_path / "again") == _digests(tiny("mxfp4"))


def test_seeds_differ_in_every_random_tensor() -> None:
    for one, other in zip(
        build.plan(SHAPES["tiny"], "mxfp4", 1), build.plan(SHAPES["tiny"], "mxfp4", 2), strict=True
    ):
        assert not torch.equal(next(one.chunks()), next(other.chunks())), one.name


def test_experts_layers_and_scales_vary(tiny: Tiny) -> None:
    tensors = load_file(tiny("mxfp4") / "model.safetensors")
    for name, tensor in tensors.items():
        if name.endswith("_scales"):
            assert tensor.unique(return_counts=True)[1].max() < 0.6 * tensor.numel(), name
    blocks = tensors["model.layers.0.mlp.experts.down_proj_blocks"]
    assert not torch.equal(blocks[0], blocks[1])
    assert not torch.equal(blocks, tensors["model.layers.1.mlp.experts.down_proj_blocks"])


def test_dtypes_hold_the_same_weights(tiny: Tiny) -> None:
    wide, half, packed = (load_file(tiny(d) / "model.safetensors") for d in ("fp32", "bf16", "mxfp4"))
    assert wide.keys() == half.keys()
    for name, tensor in wide.items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, half[name].float()), name  # nothing was lost by bfloat16
        if name in packed:
            assert torch.equal(half[name], packed[name]), name
        else:
            unpacked = dequantize(packed[name + "_blocks"], packed[name + "_scales"], torch.float32)
            assert torch.equal(tensor, unpacked.transpose(1, 2)), name


def test_large_checkpoints_are_cut_into_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_checkpoint(SMALL, "bf16", 0, tmp_path / "whole")
    monkeypatch.setattr(build, "SHARD_BYTES", 4_000_000)  # the vocabulary's two tensors are larger
    calls: list[tuple[int, int]] = []
    build_checkpoint(
        SMALL, "bf16", 0, tmp_path / "cut", lambda written, total: calls.append((written, total))
    )

    index = json.loads((tmp_path / "cut" / "model.safetensors.index.json").read_text())
    files = sorted(file.name for file in (tmp_path / "cut").glob("*.safetensors"))
    assert files == [f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]
    parts = {file: load_file(tmp_path / "cut" / file) for file in files}
    assert index["weight_map"] == {name: file for file, part in parts.items() for name in part}
    whole = load_file(tmp_path / "whole" / "model.safetensors")
    assert whole.keys() == index["weight_map"].keys()
    assert all(torch.equal(whole[name], part[name]) for part in parts.values() for name in part)
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in whole.values())
    assert calls[-1] == (index["metadata"]["total_size"],) * 2
    assert calls == sorted(calls)


@pytest.mark.parametrize(
    ("shape", "dtype", "seed", "message"),
    [
        ("30b", "bf16", 0, "shape must be one of tiny, bench, 20b, 120b, got '30b'"),
        ("tiny", "int8", 0, "dtype must be one of bf16, mxfp4, fp32, got 'int8'"),
        ("tiny", "bf16", -1, "seed must not be negative"),
    ],
)
def test_refuses_bad_arguments(shape: str, dtype: str, seed: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        build_checkpoint(shape, dtype, seed, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_refuses_a_directory_in_use_and_replaces_a_checkpoint_by_force(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    build_checkpoint(SMALL, "mxfp4", 0, out)  # an empty one is fine
    (out / "model.safetensors").write_bytes(b"old")
    with pytest.raises(FileExistsError, match="is not empty"):
        build_checkpoint(SMALL, "mxfp4", 0, out)
    assert (out / "model.safetensors").read_bytes() == b"old"
    build_checkpoint(SMALL, "mxfp4", 0, out, force=True)
    assert load_file(out / "model.safetensors")
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_force_deletes_nothing_but_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not a checkpoint"):
        build_checkpoint(SMALL, "mxfp4", 0, tmp_path, force=True)
    assert (tmp_path / "thesis.txt").read_text() == "mine"
    with pytest.raises(FileExistsError, match="is a file"):
        build_checkpoint(SMALL, "mxfp4", 0, tmp_path / "thesis.txt", force=True)


class _Usage(NamedTuple):
    total: int = 10**12
    used: int = 10**12
    free: int = 1_000_000


def test_refuses_when_the_disk_is_too_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: _Usage())
    with pytest.raises(OSError, match=r"0\.0 GB free; the checkpoint needs 13\.8 GB"):
        build_checkpoint("20b", "mxfp4", 0, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def fail(written: int, total: int) -> None:
        raise OSError("the disk went away")

    with pytest.raises(OSError, match="went away"):
        build_checkpoint(SMALL, "mxfp4", 0, tmp_path / "out", fail)
    assert list(tmp_path.iterdir()) == []


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "gpt_oss_triton.checkpoint", *arguments]


def test_command_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    done = subprocess.run(
        _command("--shape", "tiny", "--out", str(tmp_path)), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"make-checkpoint: {tmp_path} is not empty.")
    assert "Traceback" not in done.stderr


def test_terminated_command_leaves_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen(_command("--shape", "20b", "--out", str(tmp_path / "out")))
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".out.partial-*/out/*.safetensors")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.wait()
    assert list(tmp_path.iterdir()) == []
