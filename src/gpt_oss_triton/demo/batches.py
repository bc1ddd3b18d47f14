"""Samples laid out for the model: all positions in one row, and which of them belong together."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TypeVar

import torch

from gpt_oss_triton.demo.corpus import Sample
from gpt_oss_triton.harmony.tokens import END

_Item = TypeVar("_Item", int, bool)

# Stands behind everything that is learned, so nothing sees it. It needs a vector: the norm of a zero has a slope of 300,
# and what is said of the experts' load counts padding, too.
_PAD = END
_SEVERAL = 3  # samples with the same beginning that are worth a group of their own
_GROUP_TOKENS = 512  # of a group: longer ones are padded more, shorter ones make more and smaller products
_ROUND = 16  # positions: few different lengths, so that few different kernels are built
_ROUND_ALL = 512


@dataclass(frozen=True, slots=True)
class Group:
    """Samples of like length that begin alike: `shared` positions, computed once, then `length` of each sample.

    Attributes:
        members: places of the samples in the list that was batched.
    """

    shared: int
    length: int
    members: list[int]

    @property
    def positions(self) -> int:
        return self.shared + len(self.members) * self.length


@dataclass(frozen=True, slots=True)
class Batch:
    """
    Attributes:
        tokens: int64 [positions], what the model reads: group by group, then padding.
        learned: bool [positions], whether the token that follows is to be learned.
        targets: int64, the tokens that follow where that is so, in order.
    """

    tokens: torch.Tensor
    learned: torch.Tensor
    targets: torch.Tensor
    groups: list[Group]

    def to(self, device: torch.device) -> Batch:
        tokens, learned, targets = (part.to(device) for part in (self.tokens, self.learned, self.targets))
        return Batch(tokens, learned, targets, self.groups)


def batches(samples: Sequence[Sample], max_tokens: int) -> Iterator[Batch]:
    """All samples, in batches of at most `max_tokens` positions or of one group."""
    groups: list[Group] = []
    for group in _groups(samples):
        if groups and sum(one.positions for one in groups) + group.positions > max_tokens:
            yield _batch(samples, groups)
            groups = []
        groups.append(group)
    yield _batch(samples, groups)


def _groups(samples: Sequence[Sample]) -> Iterator[Group]:
    systems = [tuple(sample.ids[: sample.ids.index(END) + 1]) for sample in samples]
    often = Counter(systems)
    alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for place, system in enumerate(systems):
        alike[system if often[system] >= _SEVERAL else ()].append(place)
    for places in alike.values():
        places.sort(key=lambda place: len(samples[place].ids))
        members: list[int] = []
        for place in places:
            if members and len(samples[place].ids) * (len(members) + 1) > _GROUP_TOKENS:
                yield _group(samples, members)
                members = []
            members.append(place)
        yield _group(samples, members)


def _group(samples: Sequence[Sample], members: list[int]) -> Group:
    chosen = [samples[place] for place in members]
    columns = zip(*(sample.ids for sample in chosen), strict=False)
    alike = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    shared = min(alike, *(sample.learned.index(True) - 1 for sample in chosen)) // _ROUND * _ROUND
    longest = max(len(sample.ids) for sample in chosen) - 1 - shared
    return Group(shared, -(-longest // _ROUND) * _ROUND, members)


def _batch(samples: Sequence[Sample], groups: list[Group]) -> Batch:
    tokens: list[int] = []
    following: list[int] = []
    learned: list[bool] = []
    for group in groups:
        first = samples[group.members[0]]
        tokens += first.ids[: group.shared]
        following += first.ids[1 : group.shared + 1]
        learned += [False] * group.shared
        for place in group.members:
            ids, wanted = samples[place].ids[group.shared :], samples[place].learned[group.shared + 1 :]
            tokens += _filled(ids[:-1], _PAD, group.length)
            following += _filled(ids[1:], _PAD, group.length)
            learned += _filled(wanted, False, group.length)
    length = -(-len(tokens) // _ROUND_ALL) * _ROUND_ALL
    where = torch.tensor(_filled(learned, False, length))
    return Batch(
        torch.tensor(_filled(tokens, _PAD, length)), where, torch.tensor(_filled(following, _PAD, length))[where], groups
    )  # fmt: skip


def _filled(items: list[_Item], item: _Item, length: int) -> list[_Item]:
    return items + [item] * (length - len(items))
