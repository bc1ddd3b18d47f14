"""Rounding to MXFP4 in training: the model sees the weights that it will have, the gradient passes by the rounding."""

from __future__ import annotations

import torch

from gpt_oss_triton.kernels.mxfp4 import BLOCK


def rounded(weight: torch.Tensor) -> torch.Tensor:
    """float32 [..., columns] as MXFP4 would hold it; the same values as `dequantize(*quantize(weight))`."""
    blocks = weight.detach().view(*weight.shape[:-1], -1, BLOCK)
    largest = blocks.abs().amax(-1, keepdim=True)
    scale = torch.exp2((torch.frexp(largest).exponent - 3).clamp(-127, 127).float())
    size = (blocks / scale).abs()
    # Between two powers of two the values are evenly spaced: by 0.5 below 2, by 1 below 4, by 2 above.
    step = torch.where(size < 2, 0.5, torch.where(size < 4, 1.0, 2.0))
    held = ((size / step).round() * step).clamp(max=6.0) * scale
    held = torch.copysign(held, blocks).flatten(-2)
    return weight + (held - weight).detach()
