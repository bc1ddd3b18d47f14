"""gpt-oss for training: whole padded sequences, no cache, the same arithmetic as the published model.

Matrices are [out, in].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from gpt_oss_triton.checkpoint.shapes import Shape
from gpt_oss_triton.demo.mixture import EPS, Mixture, matrix
from gpt_oss_triton.demo.vocabulary import Vocabulary
from gpt_oss_triton.engine.model_config import RopeConfig, yarn_inverse_frequencies

_ROPE = RopeConfig(
    theta=150_000.0, factor=32.0, beta_fast=32.0, beta_slow=1.0, truncate=False, original_context=4096
)


def inverse_frequencies(head_dim: int) -> list[float]:
    """Radians a position, of each pair of a head's dimensions i and i + head_dim / 2."""
    return list(yarn_inverse_frequencies(_ROPE, head_dim)[0])


class Attention(nn.Module):
    """Grouped queries, rotary positions, a sink for each head."""

    def __init__(self, shape: Shape, sliding: bool) -> None:
        super().__init__()
        self._shape, self._window = shape, shape.sliding_window if sliding else None
        queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        self.norm = nn.Parameter(torch.ones(shape.hidden))
        self.qkv = matrix(queries + 2 * keys, shape.hidden)
        self.qkv_bias = nn.Parameter(torch.zeros(queries + 2 * keys))
        self.sinks = nn.Parameter(torch.zeros(shape.heads))
        self.out = matrix(shape.hidden, queries, gain=0.5)
        self.out_bias = nn.Parameter(torch.zeros(shape.hidden))

    def forward(
        self, x: torch.Tensor, angles: tuple[torch.Tensor, torch.Tensor], dtype: torch.dtype
    ) -> torch.Tensor:
        s, (batch, length, _) = self._shape, x.shape
        normed = F.rms_norm(x, (s.hidden,), self.norm, EPS).to(dtype)
        heads = F.linear(normed, self.qkv.to(dtype), self.qkv_bias.to(dtype)).view(
            batch, length, -1, s.head_dim
        )
        q, k, v = torch.split(heads.transpose(1, 2), [s.heads, s.kv_heads, s.kv_heads], dim=1)
        q, k = _rotated(q, angles), _rotated(k, angles)
        group = s.heads // s.kv_heads
        q = (q * s.head_dim**-0.5).reshape(batch, s.kv_heads, group * length, s.head_dim)
        scores = (q @ k.transpose(-1, -2)).view(batch, s.heads, length, length)
        scores = scores + _mask(length, self._window, scores)
        sinks = self.sinks.to(dtype).view(1, -1, 1, 1).expand(batch, s.heads, length, 1)
        weights = torch.cat((scores, sinks), dim=-1).softmax(-1)[..., :-1]
        mixed = weights.reshape(batch, s.kv_heads, group * length, length) @ v
        mixed = mixed.view(batch, s.heads, length, s.head_dim).transpose(1, 2).flatten(2)
        return F.linear(mixed, self.out.to(dtype), self.out_bias.to(dtype))


def _rotated(x: torch.Tensor, angles: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    (cosine, sine), (first, second) = angles, x.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)


def _mask(length: int, window: int | None, like: torch.Tensor) -> torch.Tensor:
    """-inf for what a position must not see, what comes later or fell out of the window: [length, length]."""
    places = torch.arange(length, device=like.device)
    distance = places.unsqueeze(1) - places
    unseen = distance < 0 if window is None else (distance < 0) | (distance >= window)
    return torch.zeros_like(unseen, dtype=like.dtype).masked_fill(unseen, float("-inf"))


class DemoModel(nn.Module):
    """
    Attributes:
        product_dtype: the dtype of the products; the residual stream and the norms are float32.
    """

    def __init__(self, shape: Shape, own: Sequence[int], product_dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__()
        self.shape, self.product_dtype = shape, product_dtype
        self.vocabulary = Vocabulary(shape.hidden, own)
        attentions = [Attention(shape, layer % 2 == 0) for layer in range(shape.layers)]
        mixtures = [Mixture(shape) for _ in range(shape.layers)]
        self.layers = list(zip(attentions, mixtures, strict=True))
        self.attentions, self.mixtures = nn.ModuleList(attentions), nn.ModuleList(mixtures)
        self.norm = nn.Parameter(torch.ones(shape.hidden))

    def quantize(self, on: bool) -> None:
        """Whether the experts compute with the weights that MXFP4 would hold."""
        for _, mixture in self.layers:
            mixture.quantized = on

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """int64 [batch, length], padded at the end -> normed states [batch, length, hidden], and the experts' load."""
        length = tokens.shape[1]
        distinct, where = torch.unique(tokens, return_inverse=True)
        x = F.embedding(where, self.vocabulary.read(distinct))
        angles = self._angles(length, x.device)
        loads = []
        for attention, mixture in self.layers:
            x = x + attention(x, angles, self.product_dtype)
            added, load = mixture(x.flatten(0, 1), self.product_dtype)
            x = x + added.view_as(x)
            loads.append(load)
        return F.rms_norm(x, (x.shape[-1],), self.norm, EPS).to(self.product_dtype), torch.stack(loads).mean()

    def _angles(self, length: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        frequencies, scale = yarn_inverse_frequencies(_ROPE, self.shape.head_dim)
        angle = torch.arange(length, device=device).unsqueeze(1) * torch.tensor(frequencies, device=device)
        return (angle.cos() * scale).to(self.product_dtype), (angle.sin() * scale).to(self.product_dtype)
