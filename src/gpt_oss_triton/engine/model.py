"""gpt-oss over a paged KV cache: the whole architecture.

It knows tensors only. Which sequences a batch holds, and why, is the scheduler's business; how an operation is
computed on this machine is that of `kernels`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gpt_oss_triton.engine.batch import Batch
from gpt_oss_triton.engine.model_config import ModelConfig, yarn_inverse_frequencies
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
        )


class Model:
    def __init__(
        self, config: ModelConfig, weights: ModelWeights, operations: Operations | None = None
    ) -> None:
        """`operations`: the fastest for the weights' device and dtype unless they are named."""
        device, dtype = weights.embedding.device, weights.embedding.dtype
        operations = operations or operations_for(device, dtype)
        self._embedding = operations.embedding(weights.embedding)
        self._layers = [Layer.made_from(w, n, config, operations) for n, w in enumerate(weights.layers)]
        self.vocabulary = operations.vocabulary(weights.head, Norm(weights.norm, config.norm_eps))
        frequencies, self._rope_scale = yarn_inverse_frequencies(config.rope, config.head_dim)
        self._frequencies = torch.tensor(frequencies, device=device)

    def forward(self, batch: Batch, cache: torch.Tensor) -> torch.Tensor:
        """Run one step through all layers.

        Args:
            batch: what to compute.
            cache: [layers, 2, slots, kv_heads, head_dim], keys then values; the batch's slots are written.

        Returns:
            [samples, hidden], what `vocabulary` makes logits or tokens of.
        """
        x = self._embedding(batch.token_ids)
        angle = batch.positions.unsqueeze(1) * self._frequencies
        angles = (angle.cos() * self._rope_scale, angle.sin() * self._rope_scale)
        asked = None
        for n, layer in enumerate(self._layers):
            if n == len(self._layers) - 1 and len(batch.sample_rows) < len(x):
                asked = batch.sample_rows  # nothing reads what the last layer makes of the other rows
            heads = layer.attention(layer.qkv(x), angles, batch.layout, cache[n], asked)
            x = layer.out.add_to(x if asked is None else x.index_select(0, asked), heads)
            x = layer.mixture.add_to(x)
        return x
