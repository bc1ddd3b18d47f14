"""What a request would meet at a target, as one number: the lower, the better.

Seconds of prefill, the share of the KV cache that is in use and the share of the places that are taken are
added as they are: a full cache or a full house weighs as much as one second of prefill.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from frontend.routing.target import Target
from gpt_oss_triton.wire import Load

if TYPE_CHECKING:
    from frontend.admission.ask import Estimate


def score(
    target: Target, load: Load, estimate: Estimate, cached_tokens: int, prefill_tokens_per_s: float
) -> float:
    """Args:
    load: the target's.
    cached_tokens: of the prompt, which the target is expected to hold.
    prefill_tokens_per_s: how fast the target computes prompts.
    """
    uncached = max(0, estimate.prompt_tokens - cached_tokens)
    ahead = load.prefill_tokens_left + target.prefill_tokens_sent
    prefill_s = (uncached + ahead + _displaced(load, estimate, cached_tokens)) / prefill_tokens_per_s
    reported = (load.running + load.waiting) / load.max_sequences
    queue = max(reported, target.capacity.in_flight / max(1, target.capacity.limit))
    return prefill_s + target.capacity.kv_fraction + queue


def _displaced(load: Load, estimate: Estimate, cached_tokens: int) -> int:
    """Tokens of other conversations that the cache has to forget for this request, and to compute again if
    they go on. Without them all new conversations would go where a common prefix is, and push each other out
    while caches elsewhere are empty."""
    free = load.blocks_total - load.blocks_used - load.blocks_cached
    shape = load.block_shape
    missing = estimate.blocks(shape, cached_tokens) - free
    return shape.size * min(max(0, missing), load.blocks_cached) // shape.kinds
