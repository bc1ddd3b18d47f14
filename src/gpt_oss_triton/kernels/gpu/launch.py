"""What every launch decides the same way."""

from __future__ import annotations

from functools import cache

import torch
import triton.language as tl

INTERPRETED_PROCESSORS = 4  # as if; few, so that the interpreter splits work too, but not much

_TRITON_TYPES = {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16, torch.float32: tl.float32}


def dot_type(x: torch.Tensor) -> tl.dtype:
    """What the operands of a matrix product are rounded to: x's dtype, which the tensor cores take.

    Tensors on the CPU mean Triton's interpreter, whose products of bfloat16 are products of its bit patterns;
    float32 holds the same operands exactly.
    """
    return tl.float32 if x.device.type == "cpu" else _TRITON_TYPES[x.dtype]


@cache
def processors(device: torch.device) -> int:
    """Streaming multiprocessors: how many programs run at once, times a few."""
    if device.type == "cpu":
        return INTERPRETED_PROCESSORS
    return torch.cuda.get_device_properties(device).multi_processor_count


def padded(size: int, least: int = 1) -> int:
    """The power of two that a tile needs to hold `size` elements; at least `least`."""
    return max(least, 1 << (size - 1).bit_length())
