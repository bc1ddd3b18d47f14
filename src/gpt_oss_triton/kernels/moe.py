"""Mixture of experts in plain torch: each token's hidden state through its top-k experts.

Weights are row-major in the output dimension, the order MXFP4 packs them in:
    gate_up [experts, 2 n, hidden], down [experts, hidden, n], with biases [experts, 2 n] and [experts, hidden].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from gpt_oss_triton.kernels.layers import clamped_swiglu
from gpt_oss_triton.kernels.mxfp4 import Mxfp4Matrix, dequantize

# Padding all experts to the busiest one's load makes two products of the whole layer, which is what small
# batches want; beyond this many padded rows for one real row the wasted products cost more than the loop.
MAX_PADDING = 4


@dataclass(frozen=True, slots=True)
class ExpertWeights:
    """`first`: the number of the first of them in the router's count. Others are computed elsewhere."""

    gate_up: torch.Tensor
    gate_up_bias: torch.Tensor
    down: torch.Tensor
    down_bias: torch.Tensor
    alpha: float
    limit: float
    first: int = 0


@dataclass(frozen=True, slots=True)
class Mxfp4Experts:
    """The same, its matrices still packed."""

    gate_up: Mxfp4Matrix
    gate_up_bias: torch.Tensor
    down: Mxfp4Matrix
    down_bias: torch.Tensor
    alpha: float
    limit: float
    first: int = 0

    def expanded(self) -> ExpertWeights:
        """All weights in the biases' dtype."""
        dtype = self.gate_up_bias.dtype
        return ExpertWeights(
            gate_up=dequantize(self.gate_up.blocks, self.gate_up.scales, dtype),
            gate_up_bias=self.gate_up_bias,
            down=dequantize(self.down.blocks, self.down.scales, dtype),
            down_bias=self.down_bias,
            alpha=self.alpha,
            limit=self.limit,
            first=self.first,
        )


def mixture(
    x: torch.Tensor, experts: torch.Tensor, shares: torch.Tensor, weights: ExpertWeights
) -> torch.Tensor:
    """`x` [tokens, hidden], `experts` int64 and `shares` [tokens, k] -> [tokens, hidden], what these experts add.

    Each token's k results are added in the router's order, whichever other tokens share its batch.
    """
    tokens, k = experts.shape
    chosen = experts.flatten() - weights.first
    held = (chosen >= 0) & (chosen < len(weights.gate_up))
    order = torch.argsort(chosen, stable=True)
    order = order[held[order]]
    results = x.new_zeros(tokens * k, x.shape[1])
    if len(order):
        counts = torch.bincount(chosen[order], minlength=len(weights.gate_up))
        rows = x[order // k]
        busiest, active = int(counts.max()), int(counts.count_nonzero())
        if active == len(counts) and busiest * len(counts) <= MAX_PADDING * len(order):
            results[order] = _padded(rows, chosen[order], counts, busiest, weights)
        else:
            results[order] = _looped(rows, counts, weights)
    return (results.view(tokens, k, -1) * shares.unsqueeze(-1)).sum(dim=1)


def _padded(
    rows: torch.Tensor, expert: torch.Tensor, counts: torch.Tensor, busiest: int, w: ExpertWeights
) -> torch.Tensor:
    starts = counts.cumsum(0) - counts
    place = torch.arange(len(rows), device=rows.device) - starts[expert]
    padded = rows.new_zeros(len(counts), busiest, rows.shape[1])
    padded[expert, place] = rows
    inner = torch.baddbmm(w.gate_up_bias.unsqueeze(1), padded, w.gate_up.transpose(1, 2))
    inner = clamped_swiglu(inner, w.alpha, w.limit)
    return torch.baddbmm(w.down_bias.unsqueeze(1), inner, w.down.transpose(1, 2))[expert, place]


def _looped(rows: torch.Tensor, counts: torch.Tensor, w: ExpertWeights) -> torch.Tensor:
    parts, start = [], 0
    for expert, count in enumerate(counts.tolist()):
        if count:
            inner = F.linear(rows[start : start + count], w.gate_up[expert], w.gate_up_bias[expert])
            inner = clamped_swiglu(inner, w.alpha, w.limit)
            parts.append(F.linear(inner, w.down[expert], w.down_bias[expert]))
            start += count
    return torch.cat(parts)
