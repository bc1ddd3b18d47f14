"""RMS norm: each row read once and written once. A row per program: 2,880 values fit its registers."""

# Kernels are written in Triton's own language: pointers and numbers without types, constants in capitals.
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
# ruff: noqa: N803
from __future__ import annotations

import torch
import triton
import triton.language as tl

from gpt_oss_triton.kernels.gpu.launch import padded


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """
    Args:
        x: [tokens, hidden] contiguous, of any float dtype.
        weight: [hidden].

    Returns:
        [tokens, hidden] in weight's dtype, computed in float32.
    """
    tokens, hidden = x.shape
    normed = torch.empty(tokens, hidden, dtype=weight.dtype, device=x.device)
    _rms_norm[(tokens,)](x, weight, normed, eps, HIDDEN=hidden, PADDED=padded(hidden), num_warps=8)
    return normed


@triton.jit
def _rms_norm(x, weight, normed, eps, HIDDEN: tl.constexpr, PADDED: tl.constexpr):
    """Grid (tokens)."""
    column = tl.arange(0, PADDED)
    real = column < HIDDEN
    place = tl.program_id(0).to(tl.int64) * HIDDEN + column
    row = tl.load(x + place, mask=real, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(row * row, axis=0) / HIDDEN + eps)
    w = tl.load(weight + column, mask=real, other=0.0).to(tl.float32)
    tl.store(normed + place, (row * scale * w).to(normed.dtype.element_ty), mask=real)
