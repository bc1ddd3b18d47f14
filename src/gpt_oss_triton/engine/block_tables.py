"""Which blocks a sequence holds: a table for the full layers, and one for the sliding layers that forgets.

Both have an entry for each block of tokens. Of the second, the entries before `window_first` have fallen out of
the window: their blocks are given back, and nobody looks at their numbers. Given back, they can still be found. A
prompt that shares a prefix needs window blocks at the prefix's end alone, so those that are likely to be one's end stay
cached as others do, and the rest go first.
"""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass, field

from gpt_oss_triton.block_shape import BlockShape
from gpt_oss_triton.engine.kv_cache import BlockHash, BlockPool
from gpt_oss_triton.engine.leases import Leases
from gpt_oss_triton.engine.sequence import Sequence
from gpt_oss_triton.wire import Lease

LANDMARK_WINDOWS = 4  # of so many windows of a prompt, one stays cached as full blocks do


def window_name(name: BlockHash) -> BlockHash:
    """The name of the window block beside the full block of this name."""
    return name + b"w"


@dataclass(frozen=True, slots=True)
class Prefix:
    """Blocks that a sequence can begin with.

    Attributes:
        blocks: full blocks, from the first token on.
        window_blocks: those beside the last of `blocks`, as many as its next token needs.
    """

    blocks: list[int] = field(default_factory=list)
    window_blocks: list[int] = field(default_factory=list)


class BlockTables:
    """Gives sequences their blocks and takes them back. Used under the engine's lock.

    Attributes:
        shape: how many blocks tokens take.
    """

    def __init__(self, pool: BlockPool, leases: Leases, window: int) -> None:
        """`window`: tokens that a sliding layer sees."""
        self.shape = BlockShape(pool.block_size, window)
        self._pool = pool
        self._leases = leases

    # ------------------------------------------------------------------------------------- prefixes

    def find(self, names: Items[BlockHash]) -> Prefix:
        """The longest prefix of `names` that is there with the window blocks at its end. Nothing is taken."""
        blocks = self._pool.match(names)
        end = len(blocks)
        while end > 0:
            first = max(0, end - self.shape.reach)
            window_blocks = [self._pool.find(window_name(name)) for name in names[first:end]]
            found = [block for block in window_blocks if block is not None]
            if len(found) == len(window_blocks):
                return Prefix(blocks[:end], found)
            # No prefix that needs the last one missing will do.
            end = first + max(n for n, block in enumerate(window_blocks) if block is None)
        return Prefix()

    def cost(self, sequence: Sequence, prefix: Prefix, tokens: int) -> int:
        """How much of what is available it takes to `begin` and to `cover` a first chunk of so many tokens."""
        cached, count = len(prefix.blocks), self.shape.count
        full = count(len(sequence.token_ids)) - cached
        window = count(cached * self.shape.size + tokens) - cached
        return (
            full + window + self._pool.unclaimed(prefix.blocks) + self._pool.unclaimed(prefix.window_blocks)
        )

    def lease(self, sequence: Sequence, lease: Lease) -> None:
        """Claim for its session what a next turn may begin with. That goes on from the answer or, where what the model
        thought is left out of it, from the prompt."""
        most, names = self._leases.most_blocks, sequence.published_names()
        claimed = self._beginnings(sequence, names)
        if len(claimed) > most:  # rather a shorter prefix with its window blocks than a longer one without
            claimed = self._beginnings(sequence, names[: max(most - 2 * self.shape.reach, most // 3)])
        self._leases.grant(lease, claimed)

    def _beginnings(self, sequence: Sequence, names: Items[BlockHash]) -> list[int]:
        """The blocks of the longest prefix of `names`, and those of the longest in the prompt."""
        whole, prompt = self.find(names), self.find(names[: sequence.prompt_tokens // self.shape.size])
        return list(dict.fromkeys([*whole.blocks, *whole.window_blocks, *prompt.window_blocks]))

    # --------------------------------------------------------------------------------------- tables

    def begin(self, sequence: Sequence, prefix: Prefix) -> None:
        """Hold `prefix`, and full blocks for all known tokens. The caller has checked what they `cost`."""
        cached = len(prefix.blocks)
        self._pool.take(prefix.blocks)
        self._pool.take(prefix.window_blocks)
        fresh = self.shape.count(len(sequence.token_ids)) - cached
        sequence.blocks = prefix.blocks + self._allocate(fresh)
        sequence.window_first = cached - len(prefix.window_blocks)
        sequence.window_blocks = [0] * sequence.window_first + prefix.window_blocks
        sequence.computed = cached * self.shape.size

    def room(self, sequence: Sequence) -> int:
        """Tokens that its next chunk may have, as far as there are window blocks for them."""
        blocks = len(sequence.window_blocks) + self._pool.available
        return blocks * self.shape.size - sequence.begun

    def cover(self, sequence: Sequence, tokens: int) -> None:
        """Hold window blocks for its next `tokens`. The caller has checked `room`."""
        missing = self.shape.count(sequence.begun + tokens) - len(sequence.window_blocks)
        if missing > 0:
            sequence.window_blocks += self._allocate(missing)

    def missing(self, sequence: Sequence) -> int:
        """Blocks of both kinds that its tokens need, and that it does not hold."""
        count = self.shape.count(sequence.length)
        return 2 * count - len(sequence.blocks) - len(sequence.window_blocks)

    def extend(self, sequence: Sequence) -> None:
        """Hold what is `missing`. The caller has checked that so much is available."""
        missing = self.shape.count(sequence.length) - len(sequence.blocks)
        if missing > 0:
            sequence.blocks += self._allocate(missing)
        self.cover(sequence, sequence.uncomputed)

    def computed(self, sequence: Sequence, tokens: int) -> list[BlockHash]:
        """The sequence has computed its tokens up to so many: others may share the blocks that they fill, and those out of
        the window are given back. Returns the names of the blocks that are full now and were not."""
        size = self.shape.size
        begin, end = sequence.computed // size, tokens // size
        for n in range(begin, end):
            self._pool.publish(sequence.blocks[n], sequence.names[n])
            self._pool.publish(sequence.window_blocks[n], window_name(sequence.names[n]))
        sequence.computed = tokens
        for n in range(sequence.window_first, self.shape.first_kept(tokens)):
            self._pool.release([sequence.window_blocks[n]], first_to_go=not self._is_landmark(sequence, n))
            sequence.window_first = n + 1
        return sequence.names[begin:end]

    def release(self, sequence: Sequence) -> None:
        """Give back everything. Window blocks go before full ones: without these they are worth nothing."""
        self._pool.release(sequence.held_window_blocks)
        self._pool.release(sequence.blocks)
        sequence.blocks, sequence.window_blocks = [], []
        sequence.window_first = sequence.computed = sequence.flying = 0

    def disown(self, sequence: Sequence) -> None:
        """Nobody else may use what it has computed."""
        names = sequence.names[: sequence.window_first]
        given_back = (self._pool.find(window_name(name)) for name in names)
        blocks = [*sequence.blocks, *sequence.held_window_blocks, *(b for b in given_back if b is not None)]
        self._leases.forget(blocks)
        self._pool.disown(blocks)

    def _is_landmark(self, sequence: Sequence, n: int) -> bool:
        """Whether a shared prefix may well end where this window block is needed: it did when this sequence came, or
        it is the prompt's end, from which an answer can be asked for again and a next turn goes on."""
        size, reach = self.shape.size, self.shape.reach
        period = max(1, LANDMARK_WINDOWS * reach)
        return (
            n < sequence.cached_tokens // size
            or (sequence.prompt_tokens - 1) // size - reach <= n < sequence.prompt_tokens // size
            or n % period >= period - reach
        )

    def _allocate(self, count: int) -> list[int]:
        self._leases.make_room(count)
        return self._pool.allocate(count)
