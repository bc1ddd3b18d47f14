"""Samples as padded batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gpt_oss_triton.demo.corpus import Sample
from gpt_oss_triton.harmony.tokens import END_OF_TEXT

_PAD = END_OF_TEXT  # stands behind everything that is learned, so nothing sees it

_ROUND = 16  # positions: few different lengths, so that few different kernels are built


@dataclass(frozen=True, slots=True)
class Batch:
    """
    Attributes:
        tokens: int64 [samples, length - 1], what the model reads.
        learned: bool, the same shape; whether the token that follows is to be learned.
        targets: int64, the tokens that follow where that is so, in order.
        members: places of the samples in the list that was batched.
    """

    tokens: torch.Tensor
    learned: torch.Tensor
    targets: torch.Tensor
    members: list[int]

    def to(self, device: torch.device) -> Batch:
        return Batch(self.tokens.to(device), self.learned.to(device), self.targets.to(device), self.members)


def batches(samples: Sequence[Sample], max_tokens: int) -> list[Batch]:
    """All samples, those of like length together, at most `max_tokens` in a batch, padding counted."""
    order = sorted(range(len(samples)), key=lambda place: len(samples[place].ids))
    groups: list[list[int]] = [[]]
    for place in order:
        if groups[-1] and len(samples[place].ids) * (len(groups[-1]) + 1) > max_tokens:
            groups.append([])
        groups[-1].append(place)
    return [_batch(samples, group) for group in groups]


def _batch(samples: Sequence[Sample], members: list[int]) -> Batch:
    length = -(-max(len(samples[place].ids) for place in members) // _ROUND) * _ROUND + 1
    ids = torch.full((len(members), length), _PAD)
    learned = torch.zeros(len(members), length, dtype=torch.bool)
    for row, place in enumerate(members):
        sample = samples[place]
        ids[row, : len(sample.ids)] = torch.tensor(sample.ids)
        learned[row, : len(sample.ids)] = torch.tensor(sample.learned)
    return Batch(ids[:, :-1].contiguous(), learned[:, 1:].contiguous(), ids[:, 1:][learned[:, 1:]], members)
