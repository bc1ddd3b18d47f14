"""Sequences in a paged cache that is hostile wherever nothing may be read, and transformers' answer for them."""

from __future__ import annotations

import types
from dataclasses import dataclass
from typing import Any

import torch
from transformers.models.gpt_oss.modeling_gpt_oss import eager_attention_forward

NOWHERE = 2**30  # a block id that no cache has: using it reads memory that is not there


@dataclass(frozen=True)
class PagedCase:
    """The arguments of both attention kernels, on one device, and the output in float32."""

    q: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    starts: torch.Tensor
    block_tables: torch.Tensor
    lengths: torch.Tensor
    sinks: torch.Tensor
    block_size: int
    window: int | None
    expected: torch.Tensor

    @property
    def options(self) -> dict[str, Any]:
        return {"block_size": self.block_size, "window": self.window, "scale": self.q.shape[-1] ** -0.5}


def paged_case(
    spans: list[tuple[int, int]],
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    heads: int = 8,
    kv_heads: int = 2,
    dim: int = 16,
    block_size: int = 16,
    window: int | None = None,
) -> PagedCase:
    """`spans`: (cached tokens, new tokens) of each sequence.

    Blocks are dealt out of order. Slots that hold no visible key are NaN, and block-table entries that no
    query may look at name no block.
    """
    blocks = [-(-sum(span) // block_size) for span in spans]
    total = sum(blocks) + 2
    ids = torch.randperm(total)
    keys = torch.full((total * block_size, kv_heads, dim), float("nan"), dtype=dtype)
    values = keys.clone()
    tables = torch.full((len(spans), max(blocks, default=0) + 3), NOWHERE, dtype=torch.int32)
    sinks = torch.randn(heads) * 2
    queries, expected = [], []
    dealt = 0
    for n, (cached, new) in enumerate(spans):
        length = cached + new
        own = ids[dealt : dealt + blocks[n]]
        dealt += blocks[n]
        first = 0 if window is None else max(0, cached - window + 1)  # no query sees a key before
        tables[n, first // block_size : blocks[n]] = own[first // block_size :].int()
        k, v = torch.randn(2, length, kv_heads, dim).to(dtype)
        slots = (own.unsqueeze(1) * block_size + torch.arange(block_size)).flatten()[:length]
        keys[slots[first:]] = k[first:]
        values[slots[first:]] = v[first:]
        q = torch.randn(new, heads, dim).to(dtype)
        queries.append(q)
        expected.append(_attend(q, k, v, sinks, cached, window))
    lengths = torch.tensor([sum(span) for span in spans], dtype=torch.int32)
    starts = torch.tensor([0, *(new for _, new in spans)]).cumsum(0).int()
    moved = [t.to(device) for t in (torch.cat(queries), keys, values, starts, tables, lengths, sinks)]
    return PagedCase(*moved, block_size, window, torch.cat(expected).to(device))


def _attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, sinks: torch.Tensor, cached: int, window: int | None
) -> torch.Tensor:
    """One sequence through transformers' own attention, in float32."""
    distance = (cached + torch.arange(len(q))).unsqueeze(1) - torch.arange(len(k))
    hidden = distance < 0 if window is None else (distance < 0) | (distance >= window)
    mask = torch.zeros(hidden.shape).masked_fill(hidden, float("-inf"))
    layer = types.SimpleNamespace(num_key_value_groups=q.shape[1] // k.shape[1], sinks=sinks, training=False)
    by_head = [t.float().transpose(0, 1).unsqueeze(0) for t in (q, k, v)]
    out, _ = eager_attention_forward(layer, *by_head, mask, q.shape[-1] ** -0.5)
    result: torch.Tensor = out[0]
    return result
