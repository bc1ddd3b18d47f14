"""gpt-oss over a paged KV cache: the whole architecture, in plain torch.

It knows tensors only. Which sequences a batch holds, and why, is the scheduler's business.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from gpt_oss_triton.engine.batch import AttentionGroup, Batch, KeyView
from gpt_oss_triton.engine.model_config import ModelConfig, yarn_inverse_frequencies
from gpt_oss_triton.engine.weights import LayerWeights, ModelWeights
from gpt_oss_triton.kernels.attention import attend
from gpt_oss_triton.kernels.layers import rms_norm, rotate
from gpt_oss_triton.kernels.moe import mixture


class Model:
    def __init__(self, config: ModelConfig, weights: ModelWeights) -> None:
        self.config = config
        self._weights = weights
        device = weights.embedding.device
        frequencies, self._rope_scale = yarn_inverse_frequencies(config.rope, config.head_dim)
        self._frequencies = torch.tensor(frequencies, device=device)
        group = config.heads // config.kv_heads
        # [1, kv_heads, heads per KV head, 1]: one row of a decode; prefill repeats it for each query.
        self._sinks = [w.sinks.view(1, config.kv_heads, group, 1) for w in weights.layers]

    def forward(self, batch: Batch, cache: torch.Tensor) -> torch.Tensor:
        """Run one step.

        Args:
            batch: what to compute.
            cache: [layers, 2, slots, kv_heads, head_dim], keys then values; the batch's slots are written.

        Returns:
            Logits float [samples, vocabulary] in the model's dtype.
        """
        c, weights = self.config, self._weights
        x = F.embedding(batch.token_ids, weights.embedding)
        angles = batch.positions.unsqueeze(1) * self._frequencies
        cos = (angles.cos() * self._rope_scale).to(x.dtype).unsqueeze(1)
        sin = (angles.sin() * self._rope_scale).to(x.dtype).unsqueeze(1)
        if x.dtype == torch.float16:
            x = x.float()  # the sum over all layers may leave float16's range; what each layer adds does not
        for n, layer in enumerate(weights.layers):
            x = x + self._attention(
                n, rms_norm(x, layer.attention_norm, c.norm_eps), batch, cache[n], cos, sin
            )
            x = x + self._mlp(layer, rms_norm(x, layer.mlp_norm, c.norm_eps))
        x = rms_norm(x[batch.sample_rows], weights.norm, c.norm_eps)
        return F.linear(x, weights.head)

    def _attention(
        self,
        n: int,
        x: torch.Tensor,
        batch: Batch,
        cache: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
    ) -> torch.Tensor:
        c, layer = self.config, self._weights.layers[n]
        qkv = F.linear(x, layer.qkv, layer.qkv_bias).view(len(x), -1, c.head_dim)
        q, k, v = torch.split(qkv, [c.heads, c.kv_heads, c.kv_heads], dim=1)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        keys, values = cache
        keys[batch.slots] = k
        values[batch.slots] = v
        out = torch.empty_like(q)
        for group in batch.groups:
            view = group.sliding if c.is_sliding[n] else group.full
            out[group.first : group.last] = self._attend(
                n, q[group.first : group.last], group, view, keys, values
            )
        return F.linear(out.flatten(1), layer.out, layer.out_bias)

    def _attend(
        self,
        n: int,
        q: torch.Tensor,
        group: AttentionGroup,
        view: KeyView,
        keys: torch.Tensor,
        values: torch.Tensor,
    ) -> torch.Tensor:
        """One group's queries [rows, heads, head_dim] over the slots it sees; same shape back."""
        c = self.config
        per_kv = c.heads // c.kv_heads
        packed = q.view(group.batch, group.queries, c.kv_heads, per_kv, c.head_dim).transpose(1, 2)
        packed = packed.reshape(group.batch, c.kv_heads, group.queries * per_kv, c.head_dim)
        gathered = (group.batch, -1, c.kv_heads, c.head_dim)
        k = keys.index_select(0, view.slots).view(gathered).transpose(1, 2)
        v = values.index_select(0, view.slots).view(gathered).transpose(1, 2)
        sinks = self._sinks[n].repeat(1, 1, group.queries, 1)
        out = attend(packed, k, v, view.mask, sinks, c.head_dim**-0.5)
        out = out.view(group.batch, c.kv_heads, group.queries, per_kv, c.head_dim).transpose(1, 2)
        return out.reshape(q.shape)

    def _mlp(self, layer: LayerWeights, x: torch.Tensor) -> torch.Tensor:
        logits = F.linear(x, layer.router, layer.router_bias)
        best = logits.topk(self.config.experts_per_token, dim=-1)
        return mixture(x, best.indices, best.values.softmax(dim=-1), layer.experts)
