"""How many KV blocks so many tokens take: what an engine holds and what admission promises are counted alike."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BlockShape:
    """
    Attributes:
        size: tokens of a block.
        window: tokens that a sliding layer sees, the current one included. Blocks are then of two kinds: full blocks hold
            what full layers know of their tokens, window blocks what sliding layers do, and of the latter a
            sequence keeps the last few. 0: there is one kind, which holds all layers.
    """

    size: int
    window: int = 0

    @property
    def kinds(self) -> int:
        return 2 if self.window else 1

    @property
    def reach(self) -> int:
        """Window blocks before its own that a token looks back into, at most."""
        return -(-(self.window - 1) // self.size) if self.window else 0

    def count(self, tokens: int) -> int:
        """Blocks of one kind that so many tokens fill, the last one perhaps in part."""
        return -(-tokens // self.size)

    def first_kept(self, tokens: int) -> int:
        """The first window block that is kept once so many tokens are computed: with it the next token can be computed,
        here or by a sequence that begins with the same full blocks."""
        return max(0, tokens // self.size - self.reach)

    def held(self, tokens: int, cached_tokens: int = 0) -> int:
        """Blocks of a sequence with so many computed tokens, those left out that hold its first `cached_tokens`."""
        full, cached = self.count(tokens), cached_tokens // self.size
        window = full - max(cached, self.first_kept(tokens)) if self.window else 0
        return full - cached + window

    def needed(self, tokens: int) -> int:
        """Blocks with which a sequence of so many tokens can run. A chunk of its prompt holds its own window blocks
        besides the window before it; that they fit for so many tokens keeps chunks worth a step."""
        full = self.count(tokens)
        return full + (min(full, 2 * (self.reach + 1)) if self.window else 0)

    def most_tokens(self, blocks: int) -> int:
        """The longest sequence that can run in so many blocks; see `needed`."""
        full = max(blocks // 2, blocks - 2 * (self.reach + 1)) if self.window else blocks
        return full * self.size
