"""Seeded choices, from the part of every list that is for training or from the part that is held out."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

Split = Literal["train", "held"]

_HELD_SHARE = 6  # one of so many is held out
_LEAST = 3  # words that even a short list has in a narrow conversation, so that there is something to choose
_FEW = 15  # words that a long one has
_MANY = 1000  # words of a list that is never narrow: of words that nobody chose there are enough


class Draw:
    """
    Args:
        seed: equal seeds of one split draw alike.
        split: what comes from `pick`, `picks` and `pair`, and what it `owns`, is never drawn in the other split.
        strange: how likely it is that names and values may be words that no program or user would choose.
        narrow: how likely it is that the words come from a few of each list: the same word then often stands for several
            things. In training only.

    Attributes:
        strange: whether they may.
    """

    def __init__(self, seed: str, split: Split, strange: float = 1.0, narrow: float = 0.0) -> None:
        self.random = random.Random(f"{split}/{seed}")
        self.split: Split = split
        self.strange = self.chance(strange)
        self._few: dict[tuple[str, ...], Sequence[str]] | None = None
        if split == "train" and self.chance(narrow):
            self._few = {}

    def pick(self, items: Sequence[str]) -> str:
        return self.random.choice(self._part(items))

    def picks(self, items: Sequence[str], count: int) -> list[str]:
        """Distinct ones, as many as there are, at most `count`."""
        found = self._part(items)
        return self.random.sample(found, min(count, len(found)))

    def _part(self, items: Sequence[str]) -> Sequence[str]:
        found = part(tuple(items), self.split)
        if self._few is None or len(found) > _MANY:
            return found
        if found not in self._few:
            count = max(_LEAST, min(_FEW, len(found) // (_HELD_SHARE - 1)))
            self._few[found] = self.random.sample(found, min(count, len(found)))
        return self._few[found]

    def shared(self, items: Sequence[str]) -> str:
        """One of all: for what the model has to know by heart."""
        return self.random.choice(items)

    def owns(self, text: str) -> bool:
        """Whether it belongs to this split."""
        return _is_held(text) == (self.split == "held")

    def number(self, first: int, last: int) -> int:
        return self.random.randint(first, last)

    def pair(self, first: tuple[int, int], second: tuple[int, int]) -> tuple[int, int]:
        """Two numbers, each in its range, ends included; which pairs there are is held out, not which numbers."""
        while True:
            a, b = self.number(*first), self.number(*second)
            if self.owns(f"{a} {b}"):
                return a, b

    def chance(self, share: float) -> bool:
        return self.random.random() < share


@lru_cache(maxsize=1024)
def part(items: tuple[str, ...], split: Split) -> tuple[str, ...]:
    """Those of them that belong to the split."""
    # By rank of the checksum, so that also a short list has a part that is held out.
    ranked = sorted(items, key=lambda item: (_checksum(item), item))
    held = max(1, len(ranked) // _HELD_SHARE)
    return tuple(ranked[:held] if split == "held" else ranked[held:])


def _is_held(text: str) -> bool:
    return _checksum(text) % _HELD_SHARE == 0


def _checksum(text: str) -> int:
    return zlib.crc32(text.encode())
