"""The experts of small batches: a matrix-vector product for each (token, expert), straight from packed MXFP4.

A decode step of few sequences reads each chosen expert's weights once and multiplies them with one vector, so
memory is the limit, and next to it the work of unpacking. Hence no tensor cores, and few instructions for a
weight: a 32-bit word holds eight weights; two shifts and a mask make one of them a float32 that is 2^-126
times too small, and one fused multiply-add uses it. The factor is made good in two places where it costs
nothing: inputs come 2^100 times too large, and scales, one for 32 weights, 2^26 times.

Inputs are laid out in *planes*: x[8 w + n] lies at [n, w], so that the threads which hold neighbouring words
read neighbouring inputs for each of a word's eight nibbles. A program is one warp: it covers a step of WORDS
with 16 bytes a thread and keeps its rows in registers, so that no thread waits for another until the end.

    bytes moved for each token and layer of gpt-oss: top_k * (2 * intermediate + hidden) * hidden * 17 / 32,
    52.9 MB; everything else is a thousandth of it.
"""

# Kernels are written in Triton's own language: pointers and numbers without types, constants in capitals.
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
# ruff: noqa: N803, N806
from __future__ import annotations

import torch
import triton
import triton.language as tl

from gpt_oss_triton.kernels.gpu.launch import padded
from gpt_oss_triton.kernels.gpu.mxfp4_values import clamped_swiglu, power_of_two, tiny_e2m1
from gpt_oss_triton.kernels.moe import Mxfp4Experts
from gpt_oss_triton.kernels.mxfp4 import Mxfp4Matrix

WORDS = 128  # of a row at once: 2,880 inputs are 360 words, three steps with 6 % to spare
GATE_UP_ROWS = 8  # of a program: 5,760 rows and four experts make 2,880 programs for one token
DOWN_ROWS = 4  # 2,880 rows make 720 programs for one token, each going through its four experts
LIFT = tl.constexpr(2.0**100)  # of the inputs; float32 holds them up to 2^27
REST = tl.constexpr(26)  # and of the scales, as a power of two: together what an E2M1 code lacks


def gemv_mixture(
    residual: torch.Tensor,
    x: torch.Tensor,
    experts: torch.Tensor,
    shares: torch.Tensor,
    weights: Mxfp4Experts,
) -> None:
    """Each token's hidden state through its experts, added to the residual in place.

    Args:
        residual: [tokens, hidden] contiguous. The experts' results are added to it in the router's order, in
            float32, and rounded once.
        x: [tokens, hidden] contiguous, values below 2^27.
        experts, shares: int32, -1 for an expert that is elsewhere, and float32 [tokens, top_k], contiguous.
        weights: contiguous.
    """
    tokens, hidden = x.shape
    top_k = experts.shape[1]
    planes = torch.empty(tokens, 8, hidden // 8, dtype=torch.float32, device=x.device)
    _to_planes[(tokens,)](x, planes, WORDS=hidden // 8, PADDED=padded(hidden // 8), num_warps=4)
    inner = weights.down.scales.shape[2] * 32
    activated = torch.empty(tokens * top_k, 8, inner // 8, dtype=torch.float32, device=x.device)
    rows = 2 * inner
    _gate_up[(triton.cdiv(rows, GATE_UP_ROWS), tokens * top_k)](
        planes, experts, _words(weights.gate_up), weights.gate_up.scales, weights.gate_up_bias, activated,
        weights.alpha, weights.limit,
        ROWS=rows, INPUT_WORDS=hidden // 8, TOP_K=top_k, TILE=GATE_UP_ROWS, WORDS=min(WORDS, padded(hidden // 8)),
        num_warps=1,
    )  # fmt: skip
    _down[(triton.cdiv(hidden, DOWN_ROWS), tokens)](
        activated, experts, shares, _words(weights.down), weights.down.scales, weights.down_bias, residual,
        ROWS=hidden, INPUT_WORDS=inner // 8, TOP_K=top_k, TILE=DOWN_ROWS, WORDS=min(WORDS, padded(inner // 8)),
        num_warps=1,
    )  # fmt: skip


def _words(matrix: Mxfp4Matrix) -> torch.Tensor:
    """int32 [experts, rows, words] over the same memory: eight weights a word, the first in the low bits."""
    return matrix.blocks.flatten(2).view(torch.int32)


@triton.jit
def _to_planes(x, planes, WORDS: tl.constexpr, PADDED: tl.constexpr):
    """Grid (tokens): x [WORDS * 8] -> [8, WORDS], float32, lifted."""
    token = tl.program_id(0).to(tl.int64)
    nibble = tl.arange(0, 8)[None, :]
    word = tl.arange(0, PADDED)[:, None]
    value = tl.load(x + token * WORDS * 8 + word * 8 + nibble, mask=word < WORDS, other=0.0).to(tl.float32)
    tl.store(planes + token * WORDS * 8 + nibble * WORDS + word, value * LIFT, mask=word < WORDS)


@triton.jit
def _row_products(
    planes, words, scales, row, real,
    INPUT_WORDS: tl.constexpr, TILE: tl.constexpr, WORDS: tl.constexpr,
):  # fmt: skip
    """The products of TILE packed rows with one vector.

    Args:
        planes: the vector's, [8, INPUT_WORDS].
        words, scales: an expert's, [rows, INPUT_WORDS] and [rows, INPUT_WORDS / 4].
        row, real: [TILE], which rows, and whether they are there.
    """
    total = tl.full([TILE, WORDS // 4], 0.0, tl.float32)
    for first in tl.static_range(0, INPUT_WORDS, WORDS):
        word = first + tl.arange(0, WORDS)
        there = word < INPUT_WORDS
        packed = tl.load(
            words + row[:, None] * INPUT_WORDS + word[None, :], mask=real[:, None] & there[None, :], other=0
        )
        of_word = tl.full([TILE, WORDS], 0.0, tl.float32)
        for nibble in tl.static_range(8):
            x = tl.load(planes + nibble * INPUT_WORDS + word, mask=there, other=0.0)
            of_word += tiny_e2m1(packed, 4 * nibble) * x[None, :]
        of_block = tl.sum(of_word.reshape(TILE, WORDS // 4, 4), axis=2)
        block = first // 4 + tl.arange(0, WORDS // 4)
        scale = tl.load(
            scales + row[:, None] * (INPUT_WORDS // 4) + block[None, :],
            mask=real[:, None] & (block < INPUT_WORDS // 4)[None, :],
            other=0,
        )
        total += of_block * power_of_two(scale, REST)
    return tl.sum(total, axis=1)


@triton.jit
def _gate_up(
    planes, experts, words, scales, bias, activated, alpha, limit,
    ROWS: tl.constexpr, INPUT_WORDS: tl.constexpr, TOP_K: tl.constexpr, TILE: tl.constexpr, WORDS: tl.constexpr,
):  # fmt: skip
    """Grid (row tiles, pairs). Rows 2 i and 2 i + 1 are the gate and the up of inner value i, which is stored
    in the planes that `_down` reads."""
    pair = tl.program_id(1)
    expert = tl.load(experts + pair).to(tl.int64)
    if expert < 0:
        return
    row = tl.program_id(0) * TILE + tl.arange(0, TILE)
    real = row < ROWS
    products = _row_products(
        planes + (pair // TOP_K).to(tl.int64) * (INPUT_WORDS * 8),
        words + expert * ROWS * INPUT_WORDS,
        scales + expert * ROWS * (INPUT_WORDS // 4),
        row, real, INPUT_WORDS, TILE, WORDS,
    )  # fmt: skip
    products += tl.load(bias + expert * ROWS + row, mask=real, other=0.0).to(tl.float32)
    gate, up = tl.split(products.reshape(TILE // 2, 2))
    inner = tl.program_id(0) * (TILE // 2) + tl.arange(0, TILE // 2)
    INNER: tl.constexpr = ROWS // 2
    place = pair.to(tl.int64) * INNER + (inner % 8) * (INNER // 8) + inner // 8
    tl.store(activated + place, clamped_swiglu(gate, up, alpha, limit) * LIFT, mask=inner < INNER)


@triton.jit
def _down(
    activated, experts, shares, words, scales, bias, residual,
    ROWS: tl.constexpr, INPUT_WORDS: tl.constexpr, TOP_K: tl.constexpr, TILE: tl.constexpr, WORDS: tl.constexpr,
):  # fmt: skip
    """Grid (row tiles, tokens): the token's experts one after the other, their sum in registers, so that
    neither a second pass nor atomics are needed."""
    token = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * TILE + tl.arange(0, TILE)
    real = row < ROWS
    place = residual + token * ROWS + row
    mixed = tl.load(place, mask=real, other=0.0).to(tl.float32)
    for n in range(TOP_K):
        pair = token * TOP_K + n
        expert = tl.load(experts + pair).to(tl.int64)
        if expert >= 0:
            products = _row_products(
                activated + pair * (INPUT_WORDS * 8),
                words + expert * ROWS * INPUT_WORDS,
                scales + expert * ROWS * (INPUT_WORDS // 4),
                row, real, INPUT_WORDS, TILE, WORDS,
            )  # fmt: skip
            products += tl.load(bias + expert * ROWS + row, mask=real, other=0.0).to(tl.float32)
            mixed += products * tl.load(shares + pair)
    tl.store(place, mixed.to(residual.dtype.element_ty), mask=real)
