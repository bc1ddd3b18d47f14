"""How many held-out answers the model would give word by word as the corpus has them."""

from __future__ import annotations

from collections import defaultdict
from functools import cache

import torch
import torch.nn.functional as F

from gpt_oss_triton.demo.batches import batches
from gpt_oss_triton.demo.corpus import Sample, episode, sample_of
from gpt_oss_triton.demo.model import DemoModel

_ROWS = 512  # answers' tokens whose logits are held at once


@torch.no_grad()
def exact_shares(model: DemoModel, seed: int, count: int, max_tokens: int) -> dict[str, tuple[int, int]]:
    """For each kind: how many answers are right in every token, and how many there are.

    The prompt goes on with the right tokens whatever the model says, so this is quick, and stricter than the
    evaluation, which takes any answer that says the right thing.
    """
    kinds, samples = _held(seed, count)
    device = model.norm.device
    model.eval()  # before any row is made: in training some are left out
    told = torch.cat((model.vocabulary.own, model.vocabulary.rare))
    rows = model.vocabulary.written(told).to(model.product_dtype)
    shares: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for batch in batches(samples, max_tokens):
        batch = batch.to(device)
        hidden = model(batch.tokens, batch.groups)[0][batch.learned]
        best = torch.cat([told[F.linear(part, rows).argmax(-1)] for part in hidden.split(_ROWS)])
        wrong = (best != batch.targets).tolist()
        for place in (place for group in batch.groups for place in group.members):
            answered = sum(samples[place].learned)
            bad, wrong = any(wrong[:answered]), wrong[answered:]
            right, seen = shares[kinds[place]]
            shares[kinds[place]] = (right + (not bad), seen + 1)
    model.train()
    return dict(shares)


@cache
def _held(seed: int, count: int) -> tuple[list[str], list[Sample]]:
    episodes = [episode(seed, index, "held") for index in range(count)]
    return [one.kind for one in episodes], [sample_of(one) for one in episodes]
