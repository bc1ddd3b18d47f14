"""Rotary embedding of queries and keys, and the new keys' and values' way into the paged cache, in one pass.

bytes moved: the qkv row read once, the same number written: queries to a tensor of their own, keys and
values straight to their cache slots. Unfused it is split, two rotations and two scatters.
"""

# Kernels are written in Triton's own language: pointers and numbers without types, constants in capitals.
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
# ruff: noqa: N803, N806
from __future__ import annotations

import torch
import triton
import triton.language as tl

from gpt_oss_triton.kernels.gpu.launch import padded

HEADS_AT_ONCE = 16  # of a program: 80 heads make five programs a token, which fill the GPU sooner than one


def rotate_and_store(
    qkv: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    slots: torch.Tensor,
    heads: int,
) -> torch.Tensor:
    """
    Args:
        qkv: [tokens, (heads + 2 * kv_heads) * head_dim] contiguous: queries, keys, values.
        cos, sin: [tokens, head_dim / 2] contiguous, YaRN's concentration already in them. The same for all
            layers, so made once a step.
        keys, values: [slots, kv_heads, head_dim] of one layer, of equal strides, head_dim contiguous; written.
        slots: int64 [tokens], where each token's key and value go; a negative one is written nowhere (rows
            that pad a CUDA graph).
        heads: query heads.

    Returns:
        The rotated queries [tokens, heads, head_dim], in qkv's dtype. Products are summed in float32 and
        rounded once.
    """
    tokens = len(qkv)
    kv_heads, dim = keys.shape[1:]
    queries = torch.empty(tokens, heads, dim, dtype=qkv.dtype, device=qkv.device)
    total = heads + 2 * kv_heads
    at_once = min(HEADS_AT_ONCE, padded(total))
    _rotate_and_store[(tokens, triton.cdiv(total, at_once))](
        qkv, cos, sin, queries, keys, values, slots, keys.stride(0), keys.stride(1),
        HEADS=heads, KV_HEADS=kv_heads, DIM=dim, AT_ONCE=at_once, num_warps=4,
    )  # fmt: skip
    return queries


@triton.jit
def _rotate_and_store(
    qkv, cos, sin, queries, keys, values, slots, slot_stride, head_stride,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, DIM: tl.constexpr, AT_ONCE: tl.constexpr,
):  # fmt: skip
    """Grid (tokens, groups of AT_ONCE heads). A pair is (d, d + DIM / 2)."""
    token = tl.program_id(0).to(tl.int64)
    HALF: tl.constexpr = DIM // 2
    head = tl.program_id(1) * AT_ONCE + tl.arange(0, AT_ONCE)[:, None]
    pair = tl.arange(0, HALF)[None, :]
    is_query = head < HEADS
    is_key = (head >= HEADS) & (head < HEADS + KV_HEADS)
    is_value = (head >= HEADS + KV_HEADS) & (head < HEADS + 2 * KV_HEADS)
    real = head < HEADS + 2 * KV_HEADS
    place = qkv + (token * (HEADS + 2 * KV_HEADS) + head) * DIM + pair
    first = tl.load(place, mask=real, other=0.0).to(tl.float32)
    second = tl.load(place + HALF, mask=real, other=0.0).to(tl.float32)
    c = tl.load(cos + token * HALF + pair).to(tl.float32)
    s = tl.load(sin + token * HALF + pair).to(tl.float32)
    rotated_first = tl.where(is_value, first, first * c - second * s)
    rotated_second = tl.where(is_value, second, second * c + first * s)

    turned = queries + (token * HEADS + head) * DIM + pair
    tl.store(turned, rotated_first.to(queries.dtype.element_ty), mask=is_query)
    tl.store(turned + HALF, rotated_second.to(queries.dtype.element_ty), mask=is_query)

    slot = tl.load(slots + token)
    written = slot >= 0
    key = keys + slot * slot_stride + (head - HEADS) * head_stride + pair
    tl.store(key, rotated_first.to(keys.dtype.element_ty), mask=is_key & written)
    tl.store(key + HALF, rotated_second.to(keys.dtype.element_ty), mask=is_key & written)
    value = values + slot * slot_stride + (head - HEADS - KV_HEADS) * head_stride + pair
    tl.store(value, rotated_first.to(values.dtype.element_ty), mask=is_value & written)
    tl.store(value + HALF, rotated_second.to(values.dtype.element_ty), mask=is_value & written)
