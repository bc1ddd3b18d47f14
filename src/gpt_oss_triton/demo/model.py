"""gpt-oss for training: whole padded sequences, no cache, the same arithmetic as the published model.

Matrices are [out, in]. Of the experts' first product the gates come before the ups; the published layout, which
`export.py` writes, interleaves the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from gpt_oss_triton.checkpoint.shapes import Shape
from gpt_oss_triton.demo.quantization import rounded
from gpt_oss_triton.demo.vocabulary import Vocabulary
from gpt_oss_triton.engine.model_config import RopeConfig, yarn_inverse_frequencies

_EPS = 1e-5
_ALPHA, _LIMIT = 1.702, 7.0
_ROPE = RopeConfig(
    theta=150_000.0, factor=32.0, beta_fast=32.0, beta_slow=1.0, truncate=False, original_context=4096
)


def _matrix(*shape: int, gain: float = 1.0) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape) * gain * shape[-1] ** -0.5)


class Attention(nn.Module):
    """Grouped queries, rotary positions, a sink for each head."""

    def __init__(self, shape: Shape, sliding: bool) -> None:
        super().__init__()
        self._shape, self._window = shape, shape.sliding_window if sliding else None
        queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        self.norm = nn.Parameter(torch.ones(shape.hidden))
        self.qkv = _matrix(queries + 2 * keys, shape.hidden)
        self.qkv_bias = nn.Parameter(torch.zeros(queries + 2 * keys))
        self.sinks = nn.Parameter(torch.zeros(shape.heads))
        self.out = _matrix(shape.hidden, queries, gain=0.5)
        self.out_bias = nn.Parameter(torch.zeros(shape.hidden))

    def forward(
        self, x: torch.Tensor, angles: tuple[torch.Tensor, torch.Tensor], half: torch.dtype
    ) -> torch.Tensor:
        s, (batch, length, _) = self._shape, x.shape
        normed = F.rms_norm(x, (s.hidden,), self.norm, _EPS).to(half)
        heads = F.linear(normed, self.qkv.to(half), self.qkv_bias.to(half)).view(
            batch, length, -1, s.head_dim
        )
        q, k, v = heads.transpose(1, 2).split([s.heads, s.kv_heads, s.kv_heads], dim=1)
        q, k = _rotated(q, angles), _rotated(k, angles)
        group = s.heads // s.kv_heads
        q = (q * s.head_dim**-0.5).reshape(batch, s.kv_heads, group * length, s.head_dim)
        scores = (q @ k.transpose(-1, -2)).view(batch, s.heads, length, length)
        scores = scores.masked_fill(_unseen(length, self._window, x.device), float("-inf"))
        sinks = self.sinks.to(half).view(1, -1, 1, 1).expand(batch, s.heads, length, 1)
        weights = torch.cat((scores, sinks), dim=-1).softmax(-1)[..., :-1]
        mixed = weights.reshape(batch, s.kv_heads, group * length, length) @ v
        mixed = mixed.view(batch, s.heads, length, s.head_dim).transpose(1, 2).flatten(2)
        return F.linear(mixed, self.out.to(half), self.out_bias.to(half))


def _rotated(x: torch.Tensor, angles: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    (cosine, sine), (first, second) = angles, x.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)


def _unseen(length: int, window: int | None, device: torch.device) -> torch.Tensor:
    """What a position must not see: true for what comes later, or fell out of the window."""
    distance = torch.arange(length, device=device).unsqueeze(1) - torch.arange(length, device=device)
    return distance < 0 if window is None else (distance < 0) | (distance >= window)


class Mixture(nn.Module):
    """Each token through the experts that the router gives it."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self._shape = shape
        self.norm = nn.Parameter(torch.ones(shape.hidden))
        self.router = _matrix(shape.experts, shape.hidden)
        self.router_bias = nn.Parameter(torch.zeros(shape.experts))
        self.gate_up = _matrix(shape.experts, 2 * shape.intermediate, shape.hidden)
        self.gate_up_bias = nn.Parameter(torch.zeros(shape.experts, 2 * shape.intermediate))
        self.down = _matrix(shape.experts, shape.hidden, shape.intermediate, gain=0.5)
        self.down_bias = nn.Parameter(torch.zeros(shape.experts, shape.hidden))
        self.quantized = False

    def forward(self, x: torch.Tensor, half: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """[tokens, hidden] -> what the experts add, and how uneven their load is (1 at the least)."""
        k, experts = self._shape.experts_per_token, self._shape.experts
        normed = F.rms_norm(x, (x.shape[1],), self.norm, _EPS)
        scores = F.linear(normed, self.router, self.router_bias)
        best = scores.topk(k, dim=-1)
        shares = best.values.softmax(-1)
        chosen = best.indices.flatten()
        order = torch.argsort(chosen, stable=True)
        counts = torch.bincount(chosen, minlength=experts)
        load = (counts / len(chosen)) @ scores.softmax(-1).mean(0) * experts
        gate_up, down = (rounded(w) if self.quantized else w for w in (self.gate_up, self.down))
        sizes = counts.tolist()
        inner = _Grouped.apply(
            normed.to(half)[order // k], gate_up.to(half), self.gate_up_bias.to(half), sizes
        )
        gate, up = inner.chunk(2, dim=-1)
        gate, up = gate.clamp(max=_LIMIT), up.clamp(-_LIMIT, _LIMIT)
        inner = (up + 1) * (gate * torch.sigmoid(gate * _ALPHA))
        outer = _Grouped.apply(inner, down.to(half), self.down_bias.to(half), sizes)
        results = torch.zeros_like(outer).index_copy(0, order, outer).view(-1, k, x.shape[1])
        return (results * shares.to(half).unsqueeze(-1)).sum(1), load


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
            rows.split(sizes), weight, bias, out.split(sizes), strict=True
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
            rows.split(ctx.sizes), grad.contiguous().split(ctx.sizes), to_rows.split(ctx.sizes), strict=True
        )
        for expert, (group, change, result) in enumerate(parts):
            torch.mm(change, weight[expert], out=result)
            torch.mm(change.t(), group, out=to_weight[expert])
            to_bias[expert] = change.sum(0)
        return to_rows, to_weight, to_bias, None


class DemoModel(nn.Module):
    """
    Attributes:
        half: the dtype of the products; the residual stream and the norms are float32.
    """

    def __init__(self, shape: Shape, own: Sequence[int], half: torch.dtype = torch.bfloat16) -> None:
        super().__init__()
        self.shape, self.half = shape, half
        self.vocabulary = Vocabulary(shape.hidden, own)
        self.attentions = nn.ModuleList(Attention(shape, layer % 2 == 0) for layer in range(shape.layers))
        self.mixtures = nn.ModuleList(Mixture(shape) for _ in range(shape.layers))
        self.norm = nn.Parameter(torch.ones(shape.hidden))

    def quantize(self, on: bool) -> None:
        """Whether the experts compute with the weights that MXFP4 would hold."""
        for mixture in self.mixtures:
            mixture.quantized = on

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """int64 [batch, length], padded at the end -> normed states [batch, length, hidden], and the experts' load."""
        batch, length = tokens.shape
        distinct, where = tokens.flatten().unique(return_inverse=True)
        x = F.embedding(where, self.vocabulary.read(distinct)).view(batch, length, -1)
        angles = self._angles(length, x.device)
        loads = []
        for attention, mixture in zip(self.attentions, self.mixtures, strict=True):
            x = x + attention(x, angles, self.half)
            added, load = mixture(x.flatten(0, 1), self.half)
            x = x + added.view_as(x)
            loads.append(load)
        return F.rms_norm(x, (x.shape[-1],), self.norm, _EPS).to(self.half), torch.stack(loads).mean()

    def _angles(self, length: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        frequencies, scale = yarn_inverse_frequencies(_ROPE, self.shape.head_dim)
        angle = torch.arange(length, device=device).unsqueeze(1) * torch.tensor(frequencies, device=device)
        return (angle.cos() * scale).to(self.half), (angle.sin() * scale).to(self.half)
