"""The mixture of experts for training.

Matrices are [out, in]. Of the experts' first product the gates come before the ups; the published layout, which
`export.py` writes, interleaves the two.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from gpt_oss_triton.checkpoint.shapes import Shape
from gpt_oss_triton.demo.quantization import rounded
from gpt_oss_triton.demo.vocabulary import ROUND

EPS = 1e-5  # of every norm
_ALPHA, _LIMIT = 1.702, 7.0


def matrix(*shape: int, gain: float = 1.0) -> nn.Parameter:
    """Random [..., out, in]; its products are as large as what they are made of, times `gain`."""
    return nn.Parameter(torch.randn(shape) * gain * shape[-1] ** -0.5)


class Mixture(nn.Module):
    """Each token through the experts that the router gives it."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self._shape = shape
        self.norm = nn.Parameter(torch.ones(shape.hidden))
        self.router = matrix(shape.experts, shape.hidden)
        self.router_bias = nn.Parameter(torch.zeros(shape.experts))
        self.gate_up = matrix(shape.experts, 2 * shape.intermediate, shape.hidden)
        self.gate_up_bias = nn.Parameter(torch.zeros(shape.experts, 2 * shape.intermediate))
        self.down = matrix(shape.experts, shape.hidden, shape.intermediate, gain=0.5)
        self.down_bias = nn.Parameter(torch.zeros(shape.experts, shape.hidden))
        self.quantized = False

    def forward(self, x: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """[tokens, hidden] -> what the experts add, and how uneven their load is (1 at the least)."""
        k, experts = self._shape.experts_per_token, self._shape.experts
        normed = F.rms_norm(x, (x.shape[1],), self.norm, EPS)
        scores = F.linear(normed, self.router, self.router_bias)
        best = scores.topk(k, dim=-1)
        shares = best.values.softmax(-1)
        load = (
            torch.bincount(best.indices.flatten(), minlength=experts) / best.indices.numel()
        ) @ scores.softmax(-1).mean(0)
        source, place, sizes = _groups(best.indices.flatten(), experts, k)
        gate_up, down = (rounded(w) if self.quantized else w for w in (self.gate_up, self.down))
        inner = _grouped(
            normed.to(dtype).index_select(0, source), gate_up.to(dtype), self.gate_up_bias.to(dtype), sizes
        )
        gate, up = inner.chunk(2, dim=-1)
        gate, up = gate.clamp(max=_LIMIT), up.clamp(-_LIMIT, _LIMIT)
        inner = (up + 1) * (gate * torch.sigmoid(gate * _ALPHA))
        outer = _grouped(inner, down.to(dtype), self.down_bias.to(dtype), sizes)
        results = outer.index_select(0, place).view(-1, k, x.shape[1])
        return (results * shares.to(dtype).unsqueeze(-1)).sum(1), load * experts


def _groups(chosen: torch.Tensor, experts: int, k: int) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """Rows for the experts, those of each together and filled up to whole multiples of `ROUND`.

    Args:
        chosen: int64 [tokens * k], each token's k experts.

    Returns:
        The token of each row; the row of each of `chosen`; how many rows each expert has.
    """
    order = torch.argsort(chosen, stable=True)
    counts = torch.bincount(chosen, minlength=experts)
    sizes = (counts + ROUND - 1) // ROUND * ROUND
    shift = (sizes.cumsum(0) - sizes) - (counts.cumsum(0) - counts)
    rows = torch.arange(len(chosen), device=chosen.device) + shift[chosen[order]]
    place = torch.empty_like(chosen).index_copy_(0, order, rows)
    source = chosen.new_zeros(int(sizes.sum())).index_copy_(0, rows, order // k)
    return source, place, sizes.tolist()


class _Grouped(torch.autograd.Function):
    """Rows sorted by expert, each group through its own matrix, written in place: no parts to join."""

    @staticmethod
    def forward(
        ctx: Any, rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, sizes: list[int]
    ) -> torch.Tensor:
        ctx.save_for_backward(rows, weight)
        ctx.sizes = sizes
        out = rows.new_empty(len(rows), weight.shape[1])
        for group, matrix, vector, result in zip(
            torch.split(rows, sizes), weight, bias, torch.split(out, sizes), strict=True
        ):
            torch.addmm(vector, group, matrix.t(), out=result)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad,) = grads
        rows, weight = ctx.saved_tensors
        to_rows, to_weight = torch.empty_like(rows), torch.empty_like(weight)
        to_bias = weight.new_empty(weight.shape[:2])
        parts = zip(
            *(torch.split(whole, ctx.sizes) for whole in (rows, grad.contiguous(), to_rows)), strict=True
        )
        for expert, (group, change, result) in enumerate(parts):
            torch.mm(change, weight[expert], out=result)
            torch.mm(change.t(), group, out=to_weight[expert])
            to_bias[expert] = change.sum(0)
        return to_rows, to_weight, to_bias, None


def _grouped(rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    """[rows, in] of `sizes` for each expert · [experts, out, in]ᵀ + [experts, out] -> [rows, out]."""
    out: torch.Tensor = _Grouped.apply(rows, weight, bias, sizes)  # type: ignore[no-untyped-call]
    return out
