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
from gpt_oss_triton.demo import checksums
from gpt_oss_triton.demo.committed import HASH, MANIFEST, MODEL, manifest
from gpt_oss_triton.demo.export import Tensors, write_checkpoint
from gpt_oss_triton.errors import ConfigurationError


def pack(tensors: Tensors, shape: Shape, model: Path = MODEL, described: Path = MANIFEST) -> None:
    """Write both files.

    Args:
        tensors: what `export.compact` gave.
        described: the manifest.
    """
    data = lzma.compress(safetensors.torch.save(tensors), preset=9)
    model.parent.mkdir(parents=True, exist_ok=True)
    model.write_bytes(data)
    content = {HASH: hashlib.sha256(data).hexdigest(), "shape": asdict(shape)}
    described.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def expand(
    out: Path, progress: Progress | None = None, model: Path = MODEL, described: Path = MANIFEST
) -> None:
    """Write the checkpoint to `out`, the list of its hashes included; see `export.write_checkpoint`.

    Raises:
        ConfigurationError: see `unpack`.
        OSError: `out` is there already, or cannot be written.
    """
    tensors, shape = unpack(model, described)
    write_checkpoint(tensors, shape, out, progress, last=checksums.write)


def unpack(model: Path = MODEL, described: Path = MANIFEST) -> tuple[Tensors, Shape]:
    """What `pack` was given.

    Raises:
        ConfigurationError: a file is missing, or the model's file is not the one that the manifest names.
    """
    content = manifest(described)
    try:
        data = model.read_bytes()
    except FileNotFoundError:
        raise ConfigurationError(f"{model} is missing; is the installation whole?") from None
    if hashlib.sha256(data).hexdigest() != content[HASH]:
        raise ConfigurationError(f"{model} is damaged: its hash is not the one in {described.name}.")
    return safetensors.torch.load(lzma.decompress(data)), Shape(**content["shape"])
