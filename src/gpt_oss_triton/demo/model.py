"""gpt-oss for training: whole sequences, no cache, the same arithmetic as the published model.

Matrices are [out, in].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from gpt_oss_triton.checkpoint.shapes import Shape
from gpt_oss_triton.demo.batches import Group
from gpt_oss_triton.demo.mixture import EPS, Mixture, matrix
from gpt_oss_triton.demo.vocabulary import Vocabulary
from gpt_oss_triton.engine.model_config import RopeConfig, yarn_inverse_frequencies

Angles = tuple[torch.Tensor, torch.Tensor]  # cosines and sines, [positions, 1, head_dim / 2] each

_ROPE = RopeConfig(
    theta=150_000.0, factor=32.0, beta_fast=32.0, beta_slow=1.0, truncate=False, original_context=4096
)


_SLOW = 0.002  # radians a position: what is compared by pairs as slow as this hardly depends on the distance


def inverse_frequencies(head_dim: int) -> list[float]:
    """Radians a position, of each pair of a head's dimensions i and i + head_dim / 2."""
    return list(yarn_inverse_frequencies(_ROPE, head_dim)[0])


def slow_pairs(head_dim: int) -> list[int]:
    """The pairs of a head's dimensions that tell what stands somewhere, and hardly where; the fastest first."""
    return [pair for pair, frequency in enumerate(inverse_frequencies(head_dim)) if frequency < _SLOW]


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

    def rows_of(self, head: int) -> tuple[slice, slice, slice]:
        """Where in `qkv` a head's queries are made, and the keys and values that it shares with others."""
        s = self._shape
        kv_head = head // (s.heads // s.kv_heads)
        query, key, value = (
            slice(number * s.head_dim, (number + 1) * s.head_dim)
            for number in (head, s.heads + kv_head, s.heads + s.kv_heads + kv_head)
        )
        return query, key, value

    def forward(
        self, x: torch.Tensor, angles: Angles, groups: Sequence[Group], dtype: torch.dtype
    ) -> torch.Tensor:
        """[positions, hidden] -> what is added. `angles` are those of each position."""
        s = self._shape
        normed = F.rms_norm(x, (s.hidden,), self.norm, EPS).to(dtype)
        heads = F.linear(normed, self.qkv.to(dtype), self.qkv_bias.to(dtype)).float()
        q, k, v = torch.split(heads.view(len(x), -1, s.head_dim), [s.heads, s.kv_heads, s.kv_heads], dim=1)
        q, k = _rotated(q, angles) * s.head_dim**-0.5, _rotated(k, angles)
        sizes = [part for group in groups for part in (group.shared, len(group.members) * group.length)]
        sizes.append(len(x) - sum(sizes))  # padding
        *parts, padding = zip(*(torch.split(heads, sizes) for heads in (q, k, v)), strict=True)
        mixed = []
        for group, shared, behind in zip(groups, parts[::2], parts[1::2], strict=True):
            count = len(group.members)
            first_q, first_k, first_v = (_by_head(heads, 1) for heads in shared)
            own_q, own_k, own_v = (_by_head(heads, count) for heads in behind)
            mixed.append(self._attended(first_q, first_k, first_v))
            seen_k = torch.cat((first_k.expand(count, -1, -1, -1), own_k), dim=2)
            seen_v = torch.cat((first_v.expand(count, -1, -1, -1), own_v), dim=2)
            mixed.append(self._attended(own_q, seen_k, seen_v))
        mixed.append(torch.zeros_like(padding[0]).flatten(1))
        return F.linear(torch.cat(mixed).to(dtype), self.out.to(dtype), self.out_bias.to(dtype))

    def _attended(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """[samples, heads, length, head_dim] -> [samples * length, heads * head_dim].

        The queries stand at the last of the keys' positions.
        """
        s, (samples, _, length, _), seen = self._shape, q.shape, k.shape[2]
        if not length:
            return q.new_zeros(0, s.heads * s.head_dim)
        group = s.heads // s.kv_heads
        q = q.reshape(samples, s.kv_heads, group * length, s.head_dim)
        scores = (q @ k.transpose(-1, -2)).view(samples, s.heads, length, seen)
        scores = scores + _mask(length, seen, self._window, scores)
        sinks = self.sinks.view(1, -1, 1, 1).expand(samples, s.heads, length, 1)
        weights = torch.cat((scores, sinks), dim=-1).softmax(-1)[..., :-1]
        mixed = weights.reshape(samples, s.kv_heads, group * length, seen) @ v
        return mixed.view(samples, s.heads, length, s.head_dim).transpose(1, 2).reshape(samples * length, -1)


def _by_head(x: torch.Tensor, samples: int) -> torch.Tensor:
    """[samples * length, heads, head_dim] -> [samples, heads, length, head_dim]."""
    return x.view(samples, len(x) // samples, *x.shape[1:]).transpose(1, 2)


def _rotated(x: torch.Tensor, angles: Angles) -> torch.Tensor:
    """[positions, heads, head_dim]"""
    (cosine, sine), (first, second) = angles, x.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)


def _mask(length: int, seen: int, window: int | None, like: torch.Tensor) -> torch.Tensor:
    """-inf for what one of the last `length` positions must not see, what comes later or fell out of the window:
    [length, seen]."""
    places = torch.arange(seen, device=like.device)
    distance = places[seen - length :].unsqueeze(1) - places
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

    def forward(self, tokens: torch.Tensor, groups: Sequence[Group]) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            tokens: int64 [positions], group by group, perhaps padded behind them; see `Batch`.

        Returns:
            Normed states [positions, hidden], and how uneven the experts' load is.
        """
        x, loads = self.residual(tokens, groups, len(self.layers))
        return F.rms_norm(x, (x.shape[-1],), self.norm, EPS).to(self.product_dtype), loads.mean()

    def residual(
        self, tokens: torch.Tensor, groups: Sequence[Group], layers: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the first `layers` layers leave, [positions, hidden], and the loads of their experts, [layers]."""
        distinct, where = torch.unique(tokens, return_inverse=True)
        x = F.embedding(where, self.vocabulary.read(distinct))
        angles = self._angles(_places(groups, len(tokens)).to(x.device))
        loads = []
        for attention, mixture in self.layers[:layers]:
            x = x + attention(x, angles, groups, self.product_dtype)
            added, load = mixture(x, self.product_dtype)
            x = x + added
            loads.append(load)
        return x, torch.stack(loads)

    def _angles(self, places: torch.Tensor) -> Angles:
        frequencies, scale = yarn_inverse_frequencies(_ROPE, self.shape.head_dim)
        angle = places.view(-1, 1, 1) * torch.tensor(frequencies, device=places.device)
        return angle.cos() * scale, angle.sin() * scale


def _places(groups: Sequence[Group], count: int) -> torch.Tensor:
    """Where each position stands in its sample; zero for padding: int64 [count]."""
    parts = []
    for group in groups:
        parts.append(torch.arange(group.shared))
        parts.append(torch.arange(group.shared, group.shared + group.length).repeat(len(group.members)))
    places = torch.cat(parts)
    return F.pad(places, (0, count - len(places)))
