"""gpt-oss over a paged KV cache: the whole architecture.

It knows tensors only. Which sequences a batch holds, and why, is the scheduler's business; how an operation is
computed on this machine is that of `kernels`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gpt_oss_triton.engine.batch import Batch
from gpt_oss_triton.engine.model_config import ModelConfig, yarn_inverse_frequencies
from gpt_oss_triton.engine.part import Part
from gpt_oss_triton.engine.weights import LayerWeights, ModelWeights
from gpt_oss_triton.kernels.operations import (
    Attention,
    HeadShape,
    Linear,
    Mixture,
    Norm,
    Operations,
    operations_for,
)


@dataclass(frozen=True, slots=True)
class Layer:
    """x += out(attention(qkv(norm(x)))), then x += mixture(norm(x))."""

    qkv: Linear
    attention: Attention
    out: Linear
    mixture: Mixture
    is_sliding: bool

    @classmethod
    def made_from(cls, w: LayerWeights, n: int, c: ModelConfig, operations: Operations) -> Layer:
        shape = HeadShape(c.heads, c.kv_heads, c.head_dim)
        window = c.sliding_window if c.is_sliding[n] else None
        return cls(
            qkv=operations.linear(w.qkv, w.qkv_bias, Norm(w.attention_norm, c.norm_eps)),
            attention=operations.attention(shape, w.sinks, window),
            out=operations.linear(w.out, w.out_bias),
            mixture=operations.mixture(
                w.router, w.router_bias, c.experts_per_token, w.experts, Norm(w.mlp_norm, c.norm_eps)
            ),
            is_sliding=c.is_sliding[n],
        )


class Layers:
    """Consecutive layers of a model."""

    def __init__(
        self, config: ModelConfig, weights: list[LayerWeights], operations: Operations, first: int = 0
    ) -> None:
        """`first`: the number of the first of them in the model."""
        self.members = [Layer.made_from(w, first + n, config, operations) for n, w in enumerate(weights)]
        self._has_last = first + len(weights) == config.layers
        self._places = Part(first, first + len(weights)).cache_places(config)
        frequencies, self._rope_scale = yarn_inverse_frequencies(config.rope, config.head_dim)
        self._frequencies = torch.tensor(frequencies, device=weights[0].qkv.device)

    def forward(self, x: torch.Tensor, batch: Batch, cache: torch.Tensor) -> torch.Tensor:
        """
        Args:
            x: [tokens, hidden], the residual stream; may be overwritten.
            cache: [places, 2, slots, kv_heads, head_dim], keys then values; the batch's slots are written. See
                `Part.cache_places`.

        Returns:
            The residual stream behind these layers; behind the model's last one only [samples, hidden].
        """
        angles = self.angles(batch.positions)
        asked = None
        for n, layer in enumerate(self.members):
            if self._has_last and n == len(self.members) - 1 and len(batch.sample_rows) < len(x):
                asked = batch.sample_rows  # nothing reads what the last layer makes of the other rows
            layout = batch.window_layout if layer.is_sliding else batch.layout
            heads = layer.attention(layer.qkv(x), angles, layout, cache[self._places[n]], asked)
            x = layer.out.add_to(x if asked is None else x.index_select(0, asked), heads)
            x = layer.mixture.add_to(x)
        return x

    def angles(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosine and sine, float32 [tokens, head_dim / 2]."""
        angle = positions.unsqueeze(1) * self._frequencies
        return angle.cos() * self._rope_scale, angle.sin() * self._rope_scale


class Model:
    """All layers and both ends; or the first layers, between the ends of a model whose other layers are elsewhere."""

    def __init__(
        self, config: ModelConfig, weights: ModelWeights, operations: Operations | None = None
    ) -> None:
        """`operations`: the fastest for the weights' device and dtype unless they are named."""
        operations = operations or operations_for(weights.embedding.device, weights.embedding.dtype)
        self.embedding = operations.embedding(weights.embedding)
        self.layers = Layers(config, weights.layers, operations)
        self.vocabulary = operations.vocabulary(weights.head, Norm(weights.norm, config.norm_eps))

    def forward(self, batch: Batch, cache: torch.Tensor) -> torch.Tensor:
        """Run one step.

        Args:
            batch: what to compute.
            cache: see `Layers.forward`.

        Returns:
            [samples, hidden], what `vocabulary` makes logits or tokens of.
        """
        return self.layers.forward(self.embedding(batch.token_ids), batch, cache)
