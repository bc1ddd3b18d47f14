"""KV blocks: who holds them, and which of them hold a prefix that another prompt may share.

A full block is named by the hash of its tokens and of everything before them, so equal names mean equal
keys and values. Blocks that nobody holds keep their content until they are needed, least recently used
first, and those with a pin after all others. The pool knows block numbers and hashes; the tensors belong to the runner.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence

BlockHash = bytes


def first_link(salt: str) -> BlockHash:
    """What the first block's name is chained to: sequences of different salts share no block."""
    return hashlib.blake2b(salt.encode(), digest_size=16).digest() if salt else b""


def chain_hash(previous: BlockHash, token_ids: Sequence[int]) -> BlockHash:
    """The name of a full block that holds `token_ids` and follows the block named `previous`."""
    return hashlib.blake2b(previous + array("i", token_ids).tobytes(), digest_size=16).digest()


class BlockPool:
    """Not thread-safe: its owner, the scheduler, is used under the engine's lock.

    Every block is exactly one of free (content worthless), used (held by `references` sequences) or
    cached (held by nobody, content findable by name). A pin on a named block says that somebody will come
    back for it: while it is cached, `allocate` does not hand it out.

    Attributes:
        keeps_prefixes: published blocks are found again.
        pinned: blocks with a pin, held ones included.
    """

    def __init__(self, blocks: int, block_size: int, *, keep_prefixes: bool = True) -> None:
        self.total = blocks
        self.block_size = block_size
        self.keeps_prefixes = keep_prefixes
        self._free = list(range(blocks - 1, -1, -1))
        self._cached: OrderedDict[int, None] = OrderedDict()  # without a pin, least recently released first
        self._kept: set[int] = set()  # cached ones with a pin
        self._references = [0] * blocks
        self._pins = [0] * blocks
        self.pinned = 0
        self._name: list[BlockHash | None] = [None] * blocks
        self._by_name: dict[BlockHash, int] = {}

    @property
    def cached(self) -> int:
        return len(self._cached) + len(self._kept)

    @property
    def kept(self) -> int:
        """Cached blocks that only a pin keeps."""
        return len(self._kept)

    @property
    def used(self) -> int:
        return self.total - self.available

    @property
    def available(self) -> int:
        """Blocks that nobody holds, and that could be handed out if there were no pins."""
        return len(self._free) + len(self._cached) + len(self._kept)

    @property
    def allocatable(self) -> int:
        """Blocks that `allocate` could hand out now."""
        return len(self._free) + len(self._cached)

    def match(self, names: Sequence[BlockHash]) -> list[int]:
        """The blocks that hold the longest prefix of `names`. Nothing is taken: see `take`."""
        found = []
        for name in names:
            block = self._by_name.get(name)
            if block is None:
                break
            found.append(block)
        return found

    def find(self, name: BlockHash) -> int | None:
        """The block of this name. It is not taken."""
        return self._by_name.get(name)

    def unclaimed(self, blocks: Sequence[int]) -> int:
        """How many of these nobody holds: taking them costs that much of `available`."""
        return sum(self._references[block] == 0 for block in blocks)

    def take(self, blocks: Sequence[int]) -> None:
        """Hold blocks that `match` found, beside whoever else holds them."""
        for block in blocks:
            if self._references[block] == 0:
                if self._pins[block]:
                    self._kept.remove(block)
                else:
                    del self._cached[block]
            self._references[block] += 1

    def allocate(self, count: int) -> list[int]:
        """`count` blocks for the caller alone, forgetting cached prefixes as needed.

        The caller has checked `allocatable`.
        """
        blocks = []
        for _ in range(count):
            if self._free:
                block = self._free.pop()
            else:
                block, _ = self._cached.popitem(last=False)
                self._forget(block)
            self._references[block] = 1
            blocks.append(block)
        return blocks

    def publish(self, block: int, name: BlockHash) -> None:
        """A held block is full: others may share it from now on. The first block of a name keeps it."""
        if self.keeps_prefixes and name not in self._by_name:
            self._by_name[name] = block
            self._name[block] = name

    def release(self, blocks: Sequence[int], *, first_to_go: bool = False) -> None:
        """Give up one hold on each. The last blocks of a sequence are reused first: a longer prefix is
        worth less than a shorter one. `first_to_go`: before all that are cached now."""
        for block in reversed(blocks):
            self._references[block] -= 1
            if self._references[block] == 0:
                if self._name[block] is None:
                    self._free.append(block)
                elif self._pins[block]:
                    self._kept.add(block)
                else:
                    self._cached[block] = None
                    if first_to_go:
                        self._cached.move_to_end(block, last=False)

    def pin(self, blocks: Sequence[int]) -> None:
        """Keep these named blocks, held or cached, until they are unpinned as often."""
        for block in blocks:
            self._pins[block] += 1
            if self._pins[block] == 1:
                self.pinned += 1
                if self._references[block] == 0:
                    del self._cached[block]
                    self._kept.add(block)

    def unpin(self, blocks: Sequence[int]) -> None:
        """Take one pin off each. Those that nobody holds or keeps are the next to be reused, the last blocks
        of a sequence first: nobody came back for them."""
        for block in blocks:
            self._pins[block] -= 1
            if self._pins[block] == 0:
                self.pinned -= 1
                if self._references[block] == 0:
                    self._kept.remove(block)
                    self._cached[block] = None
                    self._cached.move_to_end(block, last=False)

    def disown(self, blocks: Sequence[int]) -> None:
        """What these blocks without pins hold, used or cached, must not be found any more."""
        for block in blocks:
            self._forget(block)
            if block in self._cached:
                del self._cached[block]
                self._free.append(block)

    def _forget(self, block: int) -> None:
        name = self._name[block]
        if name is not None:
            del self._by_name[name]
            self._name[block] = None

    def check(self) -> None:
        """Assert the invariants; for tests and after faults."""
        held = sum(count > 0 for count in self._references)
        cached = [*self._cached, *self._kept]
        assert held + len(self._free) + len(cached) == self.total, "a block is lost or counted twice"
        assert all(count >= 0 for count in self._references), "a block was released more often than taken"
        assert len(set(self._free)) == len(self._free), "a block is free twice"
        assert all(self._name[block] == name for name, block in self._by_name.items()), "a name lies"
        assert all(self._references[block] == 0 for block in [*self._free, *cached])
        assert all(self._name[block] is not None for block in cached), "content is kept that nobody finds"
        assert all(count >= 0 for count in self._pins), "a pin was taken off more often than put on"
        assert self.pinned == sum(count > 0 for count in self._pins)
        assert all(self._pins[block] > 0 for block in self._kept)
        assert all(self._pins[block] == 0 for block in [*self._free, *self._cached])
        assert all(name is not None for name, pins in zip(self._name, self._pins, strict=True) if pins)
