"""Attention of many new tokens of several sequences over the paged cache, their own keys already in it.

A tile is QUERIES consecutive tokens of one sequence times the query heads of one KV head, so that a key read
once serves all of them. It walks over the keys that any of its queries sees, and over no others: from the
first query's window (or from the sequence's start, the cached prefix included) up to the last query itself.

    work, one layer: 4 * head_dim flops per query head, query and visible key;
    keys read: once per tile, so each serves 64 rows of products; tiles share them in the L2 cache.
"""

# Kernels are written in Triton's own language: pointers and numbers without types, constants in capitals.
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
# ruff: noqa: N803
from __future__ import annotations

import torch
import triton
import triton.language as tl

from gpt_oss_triton.kernels.gpu.launch import dot_type, padded

KEYS = 64
ROWS = (
    64  # queries times heads of a tile: 8 tokens of 8 heads; 128 rows cost half of the programs a GPU holds
)
LOG2_E = tl.constexpr(1.4426950408889634)


def prefill_attention(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    starts: torch.Tensor,
    block_tables: torch.Tensor,
    lengths: torch.Tensor,
    sinks: torch.Tensor,
    *,
    block_size: int,
    window: int | None,
    scale: float,
) -> torch.Tensor:
    """
    Args:
        q: [tokens, heads, head_dim], contiguous; the sequences' new tokens, one sequence after the other.
        keys, values, block_tables, sinks, block_size, window: as in `decode_attention`.
        starts: int32 [sequences + 1], where each sequence's tokens begin in q; the last is `tokens`.
        lengths: int32 [sequences], tokens in the cache, the new ones included.

    Returns:
        [tokens, heads, head_dim] in q's dtype.
    """
    tokens, heads, dim = q.shape
    sequences = len(lengths)
    kv_heads = keys.shape[1]
    group = padded(heads // kv_heads)
    queries = min(max(ROWS // group, 1), padded(tokens, least=max(16 // group, 1)))
    out = torch.empty_like(q)
    # How many tiles the sequences need is known on the GPU only; this many always suffice.
    tiles = tokens // queries + sequences
    _attend_tile[(tiles, kv_heads)](
        q, keys, values, starts, block_tables, lengths, sinks, out,
        sequences, scale, window or 0, block_tables.stride(0), keys.stride(0), keys.stride(1),
        HEADS=heads, GROUP=heads // kv_heads, PADDED_GROUP=group, QUERIES=queries, DIM=dim,
        BLOCK_SIZE=block_size, KEYS=KEYS, DOT=dot_type(q),
        num_warps=4, num_stages=2,
    )  # fmt: skip
    return out


# Compiling holds up all streams. So there is no version for each count, stride or alignment; the powers of two of
# QUERIES are a few.
@triton.jit(
    do_not_specialize=["sequences", "table_stride"],
    do_not_specialize_on_alignment=["starts", "block_tables", "lengths"],
)
def _attend_tile(
    q, keys, values, starts, block_tables, lengths, sinks, out,
    sequences, scale, window, table_stride, slot_stride, head_stride,
    HEADS: tl.constexpr, GROUP: tl.constexpr, PADDED_GROUP: tl.constexpr, QUERIES: tl.constexpr,
    DIM: tl.constexpr, BLOCK_SIZE: tl.constexpr, KEYS: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Grid (tiles, kv_heads). Row r of a tile is query r // PADDED_GROUP, head r % PADDED_GROUP of the KV head."""
    tile, kv_head = tl.program_id(0), tl.program_id(1)
    sequence = _sequence_of(tile, starts, sequences, QUERIES)
    first_row = tl.load(starts + sequence)  # of the sequence, in q
    news = tl.load(starts + sequence + 1) - first_row
    skipped = (tile - first_row // QUERIES - sequence) * QUERIES  # the sequence's tokens in earlier tiles
    if skipped >= news:
        return  # the bound on the number of tiles is rounded up

    row = tl.arange(0, QUERIES * PADDED_GROUP)
    query = skipped + row // PADDED_GROUP
    in_group = row % PADDED_GROUP
    real = (query < news) & (in_group < GROUP)
    head = kv_head * GROUP + in_group
    d = tl.arange(0, DIM)
    place = ((first_row + query).to(tl.int64) * HEADS + head)[:, None] * DIM + d[None, :]
    queries = tl.load(q + place, mask=real[:, None], other=0.0).to(DOT)

    length = tl.load(lengths + sequence)
    cached = length - news
    position = cached + query
    last = tl.minimum(cached + skipped + QUERIES, length)  # the key after the last query's own
    first = 0
    if window > 0:
        first = tl.maximum(cached + skipped - window + 1, 0)

    top = tl.load(sinks + head, mask=real, other=0.0) * LOG2_E  # the sink is the first term of the sum
    total = tl.full([QUERIES * PADDED_GROUP], 1.0, tl.float32)
    acc = tl.full([QUERIES * PADDED_GROUP, DIM], 0.0, tl.float32)
    for start in range(first, last, KEYS):
        key = start + tl.arange(0, KEYS)
        exists = key < last
        block = tl.load(block_tables + sequence * table_stride + key // BLOCK_SIZE, mask=exists, other=0).to(
            tl.int64
        )
        slot = block * BLOCK_SIZE + key % BLOCK_SIZE
        where = slot[:, None] * slot_stride + kv_head * head_stride + d[None, :]
        # What lies beyond the last query must not be read at all: a weight of 0 does not cancel a NaN.
        k = tl.load(keys + where, mask=exists[:, None], other=0.0).to(DOT)
        v = tl.load(values + where, mask=exists[:, None], other=0.0).to(DOT)
        distance = position[:, None] - key[None, :]
        seen = distance >= 0
        if window > 0:
            seen = seen & (distance < window)
        logits = tl.dot(queries, tl.trans(k), input_precision="ieee") * (scale * LOG2_E)
        logits = tl.where(seen, logits, float("-inf"))
        new_top = tl.maximum(top, tl.max(logits, axis=1))
        p = tl.exp2(logits - new_top[:, None])
        shrink = tl.exp2(top - new_top)
        total = total * shrink + tl.sum(p, axis=1)
        acc = tl.dot(p.to(DOT), v, acc * shrink[:, None], input_precision="ieee")
        top = new_top
    tl.store(out + place, (acc / total[:, None]).to(out.dtype.element_ty), mask=real[:, None])


@triton.jit
def _sequence_of(tile, starts, sequences, QUERIES: tl.constexpr):
    """The sequence whose tile this is: sequence i's begin at tile starts[i] // QUERIES + i, which leaves every
    sequence tiles enough whatever its length."""
    low = 0
    high = sequences
    while high - low > 1:
        middle = (low + high) // 2
        if tl.load(starts + middle) // QUERIES + middle <= tile:
            low = middle
        else:
            high = middle
    return low
