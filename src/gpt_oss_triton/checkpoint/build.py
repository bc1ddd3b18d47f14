"""Writes a checkpoint directory: all of it, or nothing."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gpt_oss_triton.checkpoint.config_files import generation_config, model_config
from gpt_oss_triton.checkpoint.json_file import write_json
from gpt_oss_triton.checkpoint.safetensors_file import write_safetensors
from gpt_oss_triton.checkpoint.shapes import SHAPES, Shape
from gpt_oss_triton.checkpoint.tokenizer_files import write_tokenizer_files
from gpt_oss_triton.checkpoint.weights import DTYPES, PlannedTensor, plan

SHARD_BYTES = 4_000_000_000
_OTHER_FILES_BYTES = 64_000_000  # tokenizer.json and the small ones, generously

Progress = Callable[[int, int], None]  # bytes written, bytes in all


def build_checkpoint(
    shape: str | Shape,
    dtype: str,
    seed: int,
    out: Path,
    progress: Progress | None = None,
    *,
    force: bool = False,
) -> None:
    """Write a gpt-oss checkpoint with random weights, laid out as the published ones are.

    Args:
        shape: a name in `SHAPES`, or sizes of your own.
        dtype: "bf16", "mxfp4" (packed experts, the rest bf16) or "fp32". All three hold the same weights.
        seed: equal seeds give equal bytes.
        out: the directory to make. It appears under this name only when it is whole.
        progress: called after every chunk.
        force: replace a checkpoint that stands at `out`.

    Raises:
        ValueError: an unknown shape or dtype, or a negative seed.
        FileExistsError: `out` is a file or a directory with something in it.
        OSError: too little space, or whatever writing met.
    """
    if isinstance(shape, str) and shape not in SHAPES:
        raise ValueError(f"shape must be one of {', '.join(SHAPES)}, got {shape!r}.")
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}.")
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}.")
    sizes = SHAPES[shape] if isinstance(shape, str) else shape
    write_planned(plan(sizes, dtype, seed), sizes, dtype, out, progress, force=force)


def write_planned(
    tensors: list[PlannedTensor],
    shape: Shape,
    dtype: str,
    out: Path,
    progress: Progress | None = None,
    *,
    force: bool = False,
    last: Callable[[Path], None] = lambda directory: None,
) -> None:
    """Write the checkpoint of `tensors`, which are all that `shape` and `dtype` call for.

    Args:
        dtype, out, progress, force: see `build_checkpoint`.
        last: called with the directory that holds it all, before that appears as `out`.

    Raises:
        FileExistsError: `out` is a file or a directory with something in it.
        OSError: too little space, or whatever writing met.
    """
    total = sum(tensor.nbytes for tensor in tensors)
    with _appearing_whole(out, total + _OTHER_FILES_BYTES, force) as directory:
        write_json(directory / "config.json", model_config(shape, dtype))
        write_json(directory / "generation_config.json", generation_config())
        write_tokenizer_files(directory)
        _write_weights(directory, tensors, total, progress or (lambda written, total: None))
        last(directory)


def _write_weights(directory: Path, tensors: list[PlannedTensor], total: int, progress: Progress) -> None:
    written = 0

    def advance(count: int) -> None:
        nonlocal written
        written += count
        progress(written, total)

    shards = _shards(tensors)
    files = [
        "model.safetensors" if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        for number in range(1, len(shards) + 1)
    ]
    for file, shard in zip(files, shards, strict=True):
        write_safetensors(directory / file, shard, advance)
    if len(shards) > 1:
        weight_map = {
            tensor.name: file for file, shard in zip(files, shards, strict=True) for tensor in shard
        }
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        write_json(directory / "model.safetensors.index.json", index)


def _shards(tensors: list[PlannedTensor]) -> list[list[PlannedTensor]]:
    """Cut the list into files of at most SHARD_BYTES; a tensor that is larger gets a file of its own."""
    shards: list[list[PlannedTensor]] = [[]]
    size = 0
    for tensor in tensors:
        if shards[-1] and size + tensor.nbytes > SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(tensor)
        size += tensor.nbytes
    return shards


@contextmanager
def _appearing_whole(out: Path, needed: int, force: bool) -> Iterator[Path]:
    """A temporary directory beside `out` that takes its name on success and vanishes on failure."""
    out = out.absolute()
    _check_replaceable(out, force)
    out.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(out.parent).free
    if free < needed:
        raise OSError(
            f"{out.parent} has {free / 1e9:.1f} GB free; the checkpoint needs {needed / 1e9:.1f} GB."
        )
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.partial-", dir=out.parent) as temporary:
        directory = Path(temporary) / out.name
        directory.mkdir()
        yield directory
        if out.exists() and any(out.iterdir()):
            out.rename(Path(temporary) / "replaced")
        directory.rename(out)  # onto nothing or an empty directory: one step


def _check_replaceable(out: Path, force: bool) -> None:
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"{out} is a file, where a directory is to be.")
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not force:
        raise FileExistsError(f"{out} is not empty. Choose another directory, or force its replacement.")
    if not (out / "config.json").is_file():
        raise FileExistsError(f"{out} holds something that is not a checkpoint; that is never replaced.")
