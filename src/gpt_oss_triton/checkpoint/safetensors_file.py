"""Safetensors files written chunk by chunk. (The safetensors library wants all tensors of a file in memory.)"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from pathlib import Path

import torch

from gpt_oss_triton.checkpoint.weights import PlannedTensor

_NAMES = {torch.uint8: "U8", torch.bfloat16: "BF16", torch.float32: "F32"}


def write_safetensors(path: Path, tensors: Sequence[PlannedTensor], written: Callable[[int], None]) -> None:
    """Write `tensors` in order. `written` is told the bytes of each chunk.

    Raises:
        RuntimeError: a tensor's chunks do not add up to its planned shape.
    """
    ends = list(accumulate((tensor.nbytes for tensor in tensors), initial=0))
    with path.open("wb") as file:
        file.write(_header(tensors, ends))
        start = file.tell()
        for tensor, end in zip(tensors, ends[1:], strict=True):
            for chunk in tensor.chunks():
                written(file.write(chunk.contiguous().view(torch.uint8).numpy().data))
            if file.tell() - start != end:
                raise RuntimeError(f"{tensor.name}: the chunks do not fill the planned shape {tensor.shape}.")


def _header(tensors: Sequence[PlannedTensor], ends: Sequence[int]) -> bytes:
    """The length of the JSON as eight bytes, and the JSON: type, shape and place of every tensor."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    for tensor, place in zip(tensors, pairwise(ends), strict=True):
        header[tensor.name] = {"dtype": _NAMES[tensor.dtype], "shape": tensor.shape, "data_offsets": place}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the data starts aligned
    return len(text).to_bytes(8, "little") + text
