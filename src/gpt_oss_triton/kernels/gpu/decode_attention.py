"""Attention of one new token per sequence over the paged cache (split-KV, "flash-decoding").

A decode step reads every visible key and value once and computes next to nothing, so what counts is that all
of the GPU reads. Two things see to it. The query heads of one KV head share a program: keys and values are
read once for all of them, not once each. And a sequence's keys are cut into `splits`, each read by its own
program; their results are joined through the log-sum-exp, with the sink as one more term of the sum.

    bytes moved, one layer: 2 * kv_heads * head_dim * itemsize for each visible key, 2 KiB in gpt-oss bf16;
    a sliding layer never reads more than its 128 keys, however long the sequence.
"""

# Kernels are written in Triton's own language: pointers and numbers without types, constants in capitals.
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
# ruff: noqa: N803
from __future__ import annotations

import torch
import triton
import triton.language as tl

from gpt_oss_triton.kernels.gpu.launch import dot_type, padded, processors

KEYS = 64  # a tile: with 64 dimensions of bf16, 8 KiB of keys and as much of values in flight
MAX_SPLITS = 64
PROGRAMS_PER_PROCESSOR = 2  # enough to hide latency; more splits only add joining
LOG2_E = tl.constexpr(1.4426950408889634)  # exponentials are cheaper to base 2


def decode_attention(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    block_tables: torch.Tensor,
    lengths: torch.Tensor,
    sinks: torch.Tensor,
    *,
    block_size: int,
    window: int | None,
    scale: float,
    splits: int | None = None,
) -> torch.Tensor:
    """
    Args:
        q: [sequences, heads, head_dim], contiguous.
        keys, values: [slots, kv_heads, head_dim] of one layer, of equal strides, head_dim contiguous; slot =
            block * block_size + offset.
        block_tables: int32 [sequences, blocks]. Entries outside of what a sequence sees are never used: they
            may be anything, as may the cache slots that they name.
        lengths: int32 [sequences], tokens in the cache, the new one included. 0 marks a row that pads a CUDA
            graph: it reads nothing, and its output is 0.
        sinks: float32 [heads].
        block_size: a power of two.
        window: how many keys a sliding layer sees, the new token's included; None for all.
        splits: programs that share a sequence's keys; chosen by the size of the GPU when None. It does not
            depend on `lengths`, which the host may not know, so one captured launch serves all lengths.

    Returns:
        [sequences, heads, head_dim] in q's dtype.
    """
    sequences, heads, dim = q.shape
    kv_heads = keys.shape[1]
    most_keys = min(window or block_tables.shape[1] * block_size, block_tables.shape[1] * block_size)
    if splits is None:
        splits = choose_splits(sequences * kv_heads, most_keys, processors(q.device))
    out = torch.empty_like(q)
    # With one split there is nothing to join: the first kernel writes the output itself.
    partial = torch.empty(sequences, heads, splits, dim, dtype=torch.float32, device=q.device)
    sums = torch.empty(sequences, heads, splits, dtype=torch.float32, device=q.device)
    _attend_split[(sequences, kv_heads, splits)](
        q, keys, values, block_tables, lengths, sinks, out, partial, sums,
        scale, window or 0, block_tables.stride(0), keys.stride(0), keys.stride(1),
        HEADS=heads, GROUP=heads // kv_heads, ROWS=padded(heads // kv_heads, 16), DIM=dim,
        BLOCK_SIZE=block_size, KEYS=KEYS, SPLITS=splits, DOT=dot_type(q),
        num_warps=4, num_stages=3,
    )  # fmt: skip
    if splits > 1:
        _join_splits[(sequences, heads)](
            partial, sums, sinks, out, HEADS=heads, DIM=dim, SPLITS=splits, PADDED=padded(splits), num_warps=1
        )
    return out


def choose_splits(programs: int, most_keys: int, processors: int) -> int:
    """Enough splits to fill the GPU with `programs` each, but none that could not get a tile of keys."""
    wanted = min(-(-PROGRAMS_PER_PROCESSOR * processors // programs), -(-most_keys // KEYS), MAX_SPLITS)
    return padded(max(wanted, 1))


# Compiling holds up all streams. So there is no version for each count, stride or alignment; the powers of two of
# SPLITS are a few.
@triton.jit(
    do_not_specialize=["table_stride"],
    do_not_specialize_on_alignment=["block_tables", "lengths"],
)
def _attend_split(
    q, keys, values, block_tables, lengths, sinks, out, partial, sums,
    scale, window, table_stride, slot_stride, head_stride,
    HEADS: tl.constexpr, GROUP: tl.constexpr, ROWS: tl.constexpr, DIM: tl.constexpr,
    BLOCK_SIZE: tl.constexpr, KEYS: tl.constexpr, SPLITS: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Grid (sequences, kv_heads, splits). Rows of the tile are the query heads of one KV head, padded to the
    16 that a matrix product takes; the padding costs no memory traffic."""
    sequence, kv_head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    row = tl.arange(0, ROWS)
    real = row < GROUP
    head = kv_head * GROUP + row
    d = tl.arange(0, DIM)
    query = tl.load(
        q + (sequence * HEADS + head[:, None]) * DIM + d[None, :], mask=real[:, None], other=0.0
    ).to(DOT)

    length = tl.load(lengths + sequence)
    begin = 0
    if window > 0:
        begin = tl.maximum(length - window, 0)
    tiles = tl.cdiv(tl.cdiv(length - begin, KEYS), SPLITS)  # of each split; late splits may get none
    first = begin + split * tiles * KEYS
    last = tl.minimum(first + tiles * KEYS, length)

    top = tl.full([ROWS], float("-inf"), tl.float32)  # largest logit so far, to base 2
    total = tl.full([ROWS], 0.0, tl.float32)  # of the exponentials, relative to `top`
    acc = tl.full([ROWS, DIM], 0.0, tl.float32)
    for start in range(first, last, KEYS):
        position = start + tl.arange(0, KEYS)
        seen = position < last
        block = tl.load(
            block_tables + sequence * table_stride + position // BLOCK_SIZE, mask=seen, other=0
        ).to(tl.int64)
        slot = block * BLOCK_SIZE + position % BLOCK_SIZE
        place = slot[:, None] * slot_stride + kv_head * head_stride + d[None, :]
        # What lies beyond the sequence's end must not be read at all: a weight of 0 does not cancel a NaN.
        k = tl.load(keys + place, mask=seen[:, None], other=0.0).to(DOT)
        v = tl.load(values + place, mask=seen[:, None], other=0.0).to(DOT)
        logits = tl.dot(query, tl.trans(k), input_precision="ieee") * (scale * LOG2_E)
        logits = tl.where(seen[None, :], logits, float("-inf"))
        new_top = tl.maximum(top, tl.max(logits, axis=1))
        p = tl.exp2(logits - new_top[:, None])
        shrink = tl.exp2(top - new_top)
        total = total * shrink + tl.sum(p, axis=1)
        acc = tl.dot(p.to(DOT), v, acc * shrink[:, None], input_precision="ieee")
        top = new_top

    if SPLITS == 1:
        sink = tl.load(sinks + head, mask=real, other=0.0) * LOG2_E
        new_top = tl.maximum(top, sink)
        shrink = tl.exp2(top - new_top)
        total = total * shrink + tl.exp2(sink - new_top)
        result = acc * (shrink / total)[:, None]
        tl.store(
            out + (sequence * HEADS + head[:, None]) * DIM + d[None, :],
            result.to(out.dtype.element_ty),
            mask=real[:, None],
        )
    else:
        place = (sequence * HEADS + head) * SPLITS + split
        some = tl.where(total > 0, total, 1.0)  # a split without keys has nothing to divide
        tl.store(partial + place[:, None] * DIM + d[None, :], acc / some[:, None], mask=real[:, None])
        tl.store(sums + place, top + tl.log2(some), mask=real)


@triton.jit
def _join_splits(
    partial, sums, sinks, out,
    HEADS: tl.constexpr, DIM: tl.constexpr, SPLITS: tl.constexpr, PADDED: tl.constexpr,
):  # fmt: skip
    """Grid (sequences, heads): the splits' outputs weighted by their share of all exponentials, the sink's
    among them."""
    row = tl.program_id(0) * HEADS + tl.program_id(1)
    split = tl.arange(0, PADDED)
    d = tl.arange(0, DIM)
    lse = tl.load(sums + row * SPLITS + split, mask=split < SPLITS, other=float("-inf"))
    sink = tl.load(sinks + tl.program_id(1)) * LOG2_E
    top = tl.maximum(tl.max(lse, axis=0), sink)
    weight = tl.exp2(lse - top)
    parts = tl.load(
        partial + (row * SPLITS + split[:, None]) * DIM + d[None, :],
        mask=(split < SPLITS)[:, None],
        other=0.0,
    )
    joined = tl.sum(parts * weight[:, None], axis=0) / (tl.sum(weight, axis=0) + tl.exp2(sink - top))
    tl.store(out + row * DIM + d, joined.to(out.dtype.element_ty))
