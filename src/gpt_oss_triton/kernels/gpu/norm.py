"""Residual addition and RMS norm in one pass.

bytes moved: the residual read and written, the addition read, the normed row written; unfused it would be
the residual twice more. A row per program: 2,880 values fit its registers.
"""

# Kernels are written in Triton's own language: pointers and numbers without types, constants in capitals.
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
# ruff: noqa: N803
from __future__ import annotations

import torch
import triton
import triton.language as tl

from gpt_oss_triton.kernels.gpu.launch import padded


def add_rms_norm(
    residual: torch.Tensor, addition: torch.Tensor | None, weight: torch.Tensor, eps: float
) -> torch.Tensor:
    """`residual += addition`, then its RMS norm.

    Args:
        residual: [tokens, hidden] contiguous, of any float dtype; updated in place, rounded to its own dtype.
        addition: [tokens, hidden] contiguous, or None where there is nothing to add yet.
        weight: [hidden].

    Returns:
        [tokens, hidden] in weight's dtype, computed in float32 from the rounded residual.
    """
    tokens, hidden = residual.shape
    normed = torch.empty(tokens, hidden, dtype=weight.dtype, device=residual.device)
    _add_rms_norm[(tokens,)](
        residual, residual if addition is None else addition, weight, normed, eps,
        HIDDEN=hidden, PADDED=padded(hidden), ADDS=addition is not None, num_warps=8,
    )  # fmt: skip
    return normed


@triton.jit
def _add_rms_norm(
    residual, addition, weight, normed, eps,
    HIDDEN: tl.constexpr, PADDED: tl.constexpr, ADDS: tl.constexpr,
):  # fmt: skip
    """Grid (tokens)."""
    column = tl.arange(0, PADDED)
    real = column < HIDDEN
    place = tl.program_id(0).to(tl.int64) * HIDDEN + column
    x = tl.load(residual + place, mask=real, other=0.0).to(tl.float32)
    if ADDS:
        x += tl.load(addition + place, mask=real, other=0.0).to(tl.float32)
        rounded = x.to(residual.dtype.element_ty)
        tl.store(residual + place, rounded, mask=real)
        x = rounded.to(tl.float32)
    scale = tl.rsqrt(tl.sum(x * x, axis=0) / HIDDEN + eps)
    w = tl.load(weight + column, mask=real, other=0.0).to(tl.float32)
    tl.store(normed + place, (x * scale * w).to(normed.dtype.element_ty), mask=real)
