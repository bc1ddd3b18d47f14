"""The demo model as one compressed file that is small enough to be committed, and its way back to a checkpoint."""

from __future__ import annotations

import hashlib
import json
import lzma
from dataclasses import asdict
from pathlib import Path

import safetensors.torch

from gpt_oss_triton.checkpoint.build import Progress
from gpt_oss_triton.checkpoint.shapes import Shape
from gpt_oss_triton.demo.committed import MANIFEST, MODEL
from gpt_oss_triton.demo.export import Tensors, write_checkpoint
from gpt_oss_triton.errors import ConfigurationError

_HASH = "sha256"


def pack(tensors: Tensors, shape: Shape, model: Path = MODEL, manifest: Path = MANIFEST) -> None:
    """Write both files.

    Args:
        tensors: what `export.compact` gave.
    """
    data = lzma.compress(safetensors.torch.save(tensors), preset=9)
    model.parent.mkdir(parents=True, exist_ok=True)
    model.write_bytes(data)
    content = {_HASH: hashlib.sha256(data).hexdigest(), "shape": asdict(shape)}
    manifest.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def expand(
    out: Path,
    progress: Progress = lambda written, total: None,
    model: Path = MODEL,
    manifest: Path = MANIFEST,
) -> None:
    """Write the checkpoint to `out`; see `export.write_checkpoint`.

    Raises:
        ConfigurationError: a file is missing, or the model's file is not the one that the manifest names.
        OSError: `out` is there already, or cannot be written.
    """
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
        data = model.read_bytes()
    except FileNotFoundError as missing:
        raise ConfigurationError(f"{missing.filename} is missing; is the installation whole?") from None
    if hashlib.sha256(data).hexdigest() != content[_HASH]:
        raise ConfigurationError(f"{model} is damaged: its hash is not the one in {manifest.name}.")
    tensors = safetensors.torch.load(lzma.decompress(data))
    write_checkpoint(tensors, Shape(**content["shape"]), out, progress)
