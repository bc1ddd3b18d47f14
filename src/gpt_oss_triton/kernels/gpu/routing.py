"""Which experts a token goes to, and which tokens an expert gets.

`route` is the router's top-k and softmax; `sort_by_expert` turns its answer around for the grouped products.
Both are tiny: what they save is launches (top-k, softmax; sort, bincount, cumsum) and the trip to the host
that a bincount costs.
"""

# Kernels are written in Triton's own language: pointers and numbers without types, constants in capitals.
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
# ruff: noqa: N803
from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from gpt_oss_triton.kernels.gpu.launch import padded

PAIRS_AT_ONCE = 1024


def route(
    logits: torch.Tensor, top_k: int, first: int = 0, held: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The `top_k` best experts of each token, and the softmax over their logits alone.

    Args:
        logits: [tokens, experts] contiguous, any float dtype.
        first, held: the experts [first, first + held) are here, and numbered from 0; all when None.

    Returns:
        experts int32, -1 for those that are elsewhere, and shares float32 [tokens, top_k], best first, of equal
        logits the lower expert first. A
        row with a NaN or an infinity gets valid experts and NaN for shares: it spoils its own token, which the
        sampler then sees, and reads no memory that is not there.
    """
    tokens, count = logits.shape
    experts = torch.empty(tokens, top_k, dtype=torch.int32, device=logits.device)
    shares = torch.empty(tokens, top_k, dtype=torch.float32, device=logits.device)
    _route[(tokens,)](
        logits, experts, shares, first, count if held is None else held,
        EXPERTS=count, PADDED=padded(count), TOP_K=top_k, PADDED_K=padded(top_k), num_warps=1
    )  # fmt: skip
    return experts, shares


@triton.jit
def _route(
    logits, experts, shares, first, held,
    EXPERTS: tl.constexpr, PADDED: tl.constexpr, TOP_K: tl.constexpr, PADDED_K: tl.constexpr,
):  # fmt: skip
    """Grid (tokens)."""
    token = tl.program_id(0)
    expert = tl.arange(0, PADDED)
    real = expert < EXPERTS
    logit = tl.load(logits + token * EXPERTS + expert, mask=real, other=0.0).to(tl.float32)
    poison = tl.sum(logit * 0.0, axis=0)  # 0, or NaN if any logit is no finite number
    logit = tl.where(real & (logit == logit), logit, float("-inf"))
    place = tl.arange(0, PADDED_K)
    chosen = tl.full([PADDED_K], 0, tl.int32)
    best = tl.full([PADDED_K], float("-inf"), tl.float32)
    taken = expert < 0
    for n in tl.static_range(TOP_K):
        value = tl.max(tl.where(taken, float("-inf"), logit), axis=0)
        # The lowest of the experts with this logit; `taken` decides where all that is left is -inf.
        index = tl.min(tl.where((logit == value) & (taken == 0) & real, expert, EXPERTS - 1), axis=0)
        taken = taken | (expert == index)
        chosen = tl.where(place == n, index, chosen)
        best = tl.where(place == n, value, best)
    share = tl.exp(best - tl.max(best, axis=0))
    share = share / tl.sum(share, axis=0) + poison
    chosen = tl.where((chosen >= first) & (chosen < first + held), chosen - first, -1)
    tl.store(experts + token * TOP_K + place, chosen, mask=place < TOP_K)
    tl.store(shares + token * TOP_K + place, share, mask=place < TOP_K)


@dataclass(frozen=True, slots=True)
class SortedPairs:
    """A pair is a token's place in `experts`: token * top_k + n.

    Attributes:
        order: int32 [pairs], all pairs by expert, those of one expert in their own order. Pairs whose expert is
            -1 are not among them: as many places at the end hold nothing.
        starts: int32 [experts + 1], where each expert's pairs begin in `order`, and where the last ones end.
    """

    order: torch.Tensor
    starts: torch.Tensor


def sort_by_expert(experts: torch.Tensor, count: int) -> SortedPairs:
    """`experts` int32 [tokens, top_k] with values below `count`, or -1; contiguous."""
    pairs = experts.numel()
    order = torch.empty(pairs, dtype=torch.int32, device=experts.device)
    starts = torch.empty(count + 1, dtype=torch.int32, device=experts.device)
    _sort_by_expert[(count,)](
        experts, order, starts, pairs, AT_ONCE=min(PAIRS_AT_ONCE, padded(pairs, 32)), num_warps=4
    )
    return SortedPairs(order, starts)


# Of what differs from step to step no version of its own is compiled: that would hold up all streams.
@triton.jit(
    do_not_specialize=["pairs"],
)
def _sort_by_expert(experts, order, starts, pairs, AT_ONCE: tl.constexpr):
    """Grid (experts): each counts the pairs of lower experts, which is where its own begin, then lists its own.

    Every program reads all pairs twice, from cache: 128 KiB for a prefill of 8,192 tokens. In exchange there
    are no atomics, so the order is the same each time, and no second launch.
    """
    own = tl.program_id(0)
    lower = tl.full([AT_ONCE], 0, tl.int32)
    for first in range(0, pairs, AT_ONCE):
        pair = first + tl.arange(0, AT_ONCE)
        expert = tl.load(experts + pair, mask=pair < pairs, other=own)
        lower += ((expert >= 0) & (expert < own)).to(tl.int32)
    begin = tl.sum(lower, axis=0)
    tl.store(starts + own, begin)
    for first in range(0, pairs, AT_ONCE):
        pair = first + tl.arange(0, AT_ONCE)
        expert = tl.load(experts + pair, mask=pair < pairs, other=-1)
        is_own = (expert == own).to(tl.int32)
        place = begin + tl.cumsum(is_own, axis=0) - 1
        tl.store(order + place, pair, mask=is_own > 0)
        begin += tl.sum(is_own, axis=0)
    if own == tl.num_programs(0) - 1:
        tl.store(starts + own + 1, begin)
