"""Attention with a learned sink: each head has one more logit that takes weight and gives no value.

Queries of one KV head are packed along the query axis, so keys and values are never repeated:
    q [batch, kv_heads, queries, head_dim], k and v [batch, kv_heads, keys, head_dim],
    mask [batch, 1, queries, keys] additive (0 or -inf, in q's dtype; no row may be all -inf),
    sinks [1, kv_heads, queries, 1] float32  ->  [batch, kv_heads, queries, head_dim].
"""

from __future__ import annotations

import torch

MAX_LOGITS = 2**26  # held at once, in float32 and a few copies: about a gigabyte


def attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, sinks: torch.Tensor, scale: float
) -> torch.Tensor:
    """Attention with sinks by the fastest way this device has in plain torch."""
    if q.device.type == "cpu":
        return attend_from_lse(q, k, v, mask, sinks, scale)
    return attend_in_slices(q, k, v, mask, sinks, scale)


def attend_in_slices(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, sinks: torch.Tensor, scale: float
) -> torch.Tensor:
    """The reference, which holds all logits at once, on as many queries at a time as memory should bear."""
    step = max(1, MAX_LOGITS // (q.shape[0] * q.shape[1] * k.shape[2]))
    slices = [slice(first, first + step) for first in range(0, q.shape[2], step)]
    return torch.cat(
        [attend_reference(q[:, :, s], k, v, mask[:, :, s], sinks[:, :, s], scale) for s in slices], dim=2
    )


def attend_reference(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, sinks: torch.Tensor, scale: float
) -> torch.Tensor:
    """The definition: softmax over keys and sink together, the sink's share dropped."""
    logits = ((q * scale) @ k.transpose(-1, -2)).float() + mask  # scaled first: float16 has little range
    sink_column = sinks.expand(*logits.shape[:-1], 1)
    weights = torch.softmax(torch.cat((logits, sink_column), dim=-1), dim=-1)[..., :-1]
    return weights.to(v.dtype) @ v


def attend_from_lse(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor, sinks: torch.Tensor, scale: float
) -> torch.Tensor:
    """Exact from a kernel without sinks: the sink scales the output by sigmoid(lse - sink)."""
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        q, k, v, 0.0, False, attn_mask=mask, scale=scale
    )
    with_sink: torch.Tensor = out * torch.sigmoid(lse.unsqueeze(-1) - sinks)
    return with_sink.to(v.dtype)
