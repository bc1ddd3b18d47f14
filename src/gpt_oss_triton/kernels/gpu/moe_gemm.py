"""The experts of larger batches: one grouped matrix product over all experts, tiles of MXFP4 unpacked on the way.

Pairs of (token, expert) are sorted by expert; a program takes a tile of one expert's pairs and a tile of that
expert's rows. Weights are unpacked in registers, exactly, to the dtype of the activations, and go to the tensor
cores as the *left* operand: Hopper takes that one from registers, and the side that has a minimum of 64 rows
is then the weights', not the tokens', of which an expert of a decode batch has few.

    bytes moved: each used expert's packed weights once for every tile of its pairs (from the L2 cache but for
    the first), so memory is the limit up to about 100 pairs an expert and unpacking and products beyond.

How many tiles an expert's pairs make is known on the GPU only. The grid has room for the worst case, each
program finds its expert from the experts' starts, and those that find none end.
"""

# Kernels are written in Triton's own language: pointers and numbers without types, constants in capitals.
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
# ruff: noqa: N803
from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from gpt_oss_triton.kernels.gpu.launch import dot_type, padded
from gpt_oss_triton.kernels.gpu.mxfp4_values import E2M1_LIFT, clamped_swiglu, power_of_two, tiny_e2m1
from gpt_oss_triton.kernels.gpu.routing import SortedPairs, sort_by_expert
from gpt_oss_triton.kernels.moe import Mxfp4Experts

COLUMNS_AT_ONCE = 1024  # of the final sum

# Unpacked weights are 2^-126 too small. Half of that is made good by their scales and half by the sums, so that
# nothing leaves the range of bfloat16 as long as a scale is within 2^-63 and 2^64. (float16 has no such range.)
WEIGHT_LIFT = tl.constexpr(63)
SUM_LIFT = tl.constexpr(2.0**63)


@dataclass(frozen=True, slots=True)
class Tiling:
    """pairs x rows x inputs of a tile, and the warps and pipeline stages that work on it."""

    pairs: int
    rows: int
    inputs: int
    warps: int
    stages: int


# By the pairs that an expert gets on average. Small tiles read 64 packed bytes of a row at once; large ones
# spend their registers on sums instead.
SMALL = Tiling(pairs=16, rows=64, inputs=128, warps=4, stages=3)
MEDIUM = Tiling(pairs=32, rows=128, inputs=64, warps=4, stages=3)
LARGE = Tiling(pairs=128, rows=128, inputs=64, warps=8, stages=3)


def choose_tiling(pairs: int, experts: int) -> Tiling:
    average = pairs / experts
    return SMALL if average <= 16 else MEDIUM if average <= 64 else LARGE


def gemm_mixture(
    residual: torch.Tensor,
    x: torch.Tensor,
    experts: torch.Tensor,
    shares: torch.Tensor,
    weights: Mxfp4Experts,
    tiling: Tiling | None = None,
) -> None:
    """Each token's hidden state through its experts, added to the residual in place.

    Args:
        residual: [tokens, hidden] contiguous. An expert's result is rounded to x's dtype, and the results are
            added in the router's order, in float32: which tokens share the batch changes no token's sum.
        x: [tokens, hidden] contiguous.
        experts, shares: int32, -1 for an expert that is elsewhere, and float32 [tokens, top_k], contiguous.
        weights: contiguous.
        tiling: chosen by the size of the batch when None.
    """
    tokens, hidden = x.shape
    top_k = experts.shape[1]
    pairs = sort_by_expert(experts, weights.down.blocks.shape[0])
    tiling = tiling or choose_tiling(tokens * top_k, weights.down.blocks.shape[0])
    inner = weights.down.scales.shape[2] * 32
    # Sorted by expert: the second product reads its rows in order.
    activated = torch.empty(tokens * top_k, inner, dtype=x.dtype, device=x.device)
    _product(
        x, activated, pairs, weights.gate_up.blocks, weights.gate_up.scales, weights.gate_up_bias,
        weights.alpha, weights.limit, top_k, tiling, gate_up=True,
    )  # fmt: skip
    results = torch.empty(tokens * top_k, hidden, dtype=x.dtype, device=x.device)
    _product(
        activated, results, pairs, weights.down.blocks, weights.down.scales, weights.down_bias,
        weights.alpha, weights.limit, top_k, tiling, gate_up=False,
    )  # fmt: skip
    at_once = min(COLUMNS_AT_ONCE, padded(hidden))
    _mix[(tokens, triton.cdiv(hidden, at_once))](
        results, experts, shares, residual, HIDDEN=hidden, TOP_K=top_k, AT_ONCE=at_once, num_warps=4
    )


def _product(
    x: torch.Tensor,
    out: torch.Tensor,
    pairs: SortedPairs,
    blocks: torch.Tensor,
    scales: torch.Tensor,
    bias: torch.Tensor,
    alpha: float,
    limit: float,
    top_k: int,
    tiling: Tiling,
    *,
    gate_up: bool,
) -> None:
    experts, rows, mx_blocks = scales.shape
    count = len(pairs.order)
    tiles = count // tiling.pairs + min(
        experts, count
    )  # the worst case: an expert's last tile holds one pair
    _grouped_product[(tiles, triton.cdiv(rows, tiling.rows))](
        x, out, pairs.order, pairs.starts, blocks, scales, bias, alpha, limit,
        EXPERTS=experts, PADDED_EXPERTS=padded(experts), ROWS=rows, INPUTS=mx_blocks * 32, TOP_K=top_k,
        PAIR_TILE=tiling.pairs, ROW_TILE=tiling.rows, INPUT_TILE=tiling.inputs,
        GATE_UP=gate_up, DOT=dot_type(x), LIFT_SUMS=x.dtype != torch.float16,
        num_warps=tiling.warps, num_stages=tiling.stages,
    )  # fmt: skip


@triton.jit
def _grouped_product(
    x, out, order, starts, blocks, scales, bias, alpha, limit,
    EXPERTS: tl.constexpr, PADDED_EXPERTS: tl.constexpr, ROWS: tl.constexpr, INPUTS: tl.constexpr,
    TOP_K: tl.constexpr, PAIR_TILE: tl.constexpr, ROW_TILE: tl.constexpr, INPUT_TILE: tl.constexpr,
    GATE_UP: tl.constexpr, DOT: tl.constexpr, LIFT_SUMS: tl.constexpr,
):  # fmt: skip
    """Grid (worst-case tiles of pairs, tiles of rows). Neighbouring programs read the same weights.

    GATE_UP: x is by token and `out` [pairs, ROWS / 2] by place in `order`, activated. Otherwise x is by place
    in `order` and `out` [pairs, ROWS] by pair.
    """
    every = tl.arange(0, PADDED_EXPERTS)
    begins = tl.load(starts + every, mask=every < EXPERTS, other=0)
    ends = tl.load(starts + every + 1, mask=every < EXPERTS, other=0)
    own_tiles = (ends - begins + PAIR_TILE - 1) // PAIR_TILE
    tiles_so_far = tl.cumsum(own_tiles, axis=0)
    tile = tl.program_id(0)
    expert = tl.sum((tiles_so_far <= tile).to(tl.int32), axis=0)
    if expert >= EXPERTS:
        return
    earlier = tl.sum(tl.where(every < expert, own_tiles, 0), axis=0)
    place = tl.load(starts + expert) + (tile - earlier) * PAIR_TILE + tl.arange(0, PAIR_TILE)
    in_tile = place < tl.load(starts + expert + 1)
    pair = tl.load(order + place, mask=in_tile, other=0)
    source = (pair // TOP_K if GATE_UP else place).to(tl.int64)

    row = tl.program_id(1) * ROW_TILE + tl.arange(0, ROW_TILE)
    in_rows = row < ROWS
    weight_row = expert.to(tl.int64) * ROWS + row
    acc = tl.full([ROW_TILE, PAIR_TILE], 0.0, tl.float32)
    for first in range(0, INPUTS, INPUT_TILE):
        byte = first // 2 + tl.arange(0, INPUT_TILE // 2)
        packed = tl.load(
            blocks + weight_row[:, None] * (INPUTS // 2) + byte[None, :],
            mask=in_rows[:, None] & (byte < INPUTS // 2)[None, :],
            other=0,
        ).to(tl.int32)
        block = first // 32 + tl.arange(0, INPUT_TILE // 32)
        scale = tl.load(
            scales + weight_row[:, None] * (INPUTS // 32) + block[None, :],
            mask=in_rows[:, None] & (block < INPUTS // 32)[None, :],
            other=0,
        )
        weight = tl.join(tiny_e2m1(packed, 0), tiny_e2m1(packed, 4))
        if not LIFT_SUMS:
            weight *= E2M1_LIFT
        weight = weight.reshape(ROW_TILE, INPUT_TILE // 32, 32)
        weight *= power_of_two(scale, WEIGHT_LIFT if LIFT_SUMS else 0)[:, :, None]
        weight = weight.reshape(ROW_TILE, INPUT_TILE).to(DOT)
        column = first + tl.arange(0, INPUT_TILE)
        value = tl.load(
            x + source[None, :] * INPUTS + column[:, None],
            mask=in_tile[None, :] & (column < INPUTS)[:, None],
            other=0.0,
        ).to(DOT)
        acc = tl.dot(weight, value, acc, input_precision="ieee")

    if LIFT_SUMS:
        acc *= SUM_LIFT
    acc += tl.load(bias + weight_row, mask=in_rows, other=0.0).to(tl.float32)[:, None]
    if GATE_UP:
        gate, up = tl.split(acc.reshape(ROW_TILE // 2, 2, PAIR_TILE).permute(0, 2, 1))
        inner = tl.program_id(1) * (ROW_TILE // 2) + tl.arange(0, ROW_TILE // 2)
        tl.store(
            out + place[None, :].to(tl.int64) * (ROWS // 2) + inner[:, None],
            clamped_swiglu(gate, up, alpha, limit).to(out.dtype.element_ty),
            mask=in_tile[None, :] & (inner < ROWS // 2)[:, None],
        )
    else:
        tl.store(
            out + pair[None, :].to(tl.int64) * ROWS + row[:, None],
            acc.to(out.dtype.element_ty),
            mask=in_tile[None, :] & in_rows[:, None],
        )


@triton.jit
def _mix(
    results, experts, shares, residual, HIDDEN: tl.constexpr, TOP_K: tl.constexpr, AT_ONCE: tl.constexpr
):
    """Grid (tokens, groups of AT_ONCE columns): the weighted sum of a token's results, added. A pair whose
    expert is elsewhere has none."""
    token = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * AT_ONCE + tl.arange(0, AT_ONCE)
    real = column < HIDDEN
    place = residual + token * HIDDEN + column
    mixed = tl.load(place, mask=real, other=0.0).to(tl.float32)
    for n in tl.static_range(TOP_K):
        pair = token * TOP_K + n
        here = tl.load(experts + pair) >= 0
        result = tl.load(results + pair * HIDDEN + column, mask=real & here, other=0.0).to(tl.float32)
        mixed += result * tl.load(shares + pair)
    tl.store(place, mixed.to(residual.dtype.element_ty), mask=real)
