"""Mixture of experts on the GPU: the form that suits the batch."""

from __future__ import annotations

import torch

from gpt_oss_triton.kernels.gpu.moe_gemm import gemm_mixture
from gpt_oss_triton.kernels.gpu.moe_gemv import gemv_mixture
from gpt_oss_triton.kernels.moe import Mxfp4Experts

# Each pair of a vector product reads its expert anew, so it pays while few tokens choose the same expert: with
# 4 of 32 experts each, four tokens share one pair in six. Not yet measured.
GEMV_TOKENS = 4


def add_mixture(
    residual: torch.Tensor,
    x: torch.Tensor,
    experts: torch.Tensor,
    shares: torch.Tensor,
    weights: Mxfp4Experts,
) -> None:
    """`residual` [tokens, hidden] += the experts' mixture of `x` [tokens, hidden], with `experts` int32 and
    `shares` float32 [tokens, top_k] as `route` gives them. Experts that are elsewhere add nothing."""
    form = gemv_mixture if len(x) <= GEMV_TOKENS else gemm_mixture
    form(residual, x, experts, shares, weights)
