"""Which part of a model one process holds."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from gpt_oss_triton.engine.model_config import ModelConfig


class Part(msgspec.Struct, frozen=True):
    """Some of the layers, or a share of every layer.

    Attributes:
        first, last: its layers, [first, last).
        ends: it has the embedding, the last norm and the vocabulary too.
        share, shares: of heads, experts and vocabulary it holds this one of so many shares; 0 of 1 is all.
    """

    first: int
    last: int
    ends: bool = True
    share: int = 0
    shares: int = 1

    @classmethod
    def whole(cls, config: ModelConfig) -> Part:
        return cls(0, config.layers)

    def of(self, count: int, width: int = 1) -> slice:
        """Its share of `count` things, in rows of which each thing has `width`."""
        begin, end = (count * n // self.shares for n in (self.share, self.share + 1))
        return slice(begin * width, end * width)

    def narrow(self, config: ModelConfig) -> ModelConfig:
        """The configuration with this share's heads."""
        return replace(config, heads=config.heads // self.shares, kv_heads=config.kv_heads // self.shares)

    def cache_places(self, config: ModelConfig) -> list[int]:
        """Of each of its layers: which of the cache's places is its own. A block is of full layers or of sliding ones,
        so the first of either kind share a place, and so on."""
        kinds = config.is_sliding[self.first : self.last]
        return [kinds[:n].count(kind) for n, kind in enumerate(kinds)]

    def token_bytes(self, config: ModelConfig, itemsize: int) -> int:
        """Of a token's keys and values in one block, with numbers of `itemsize` bytes."""
        places, heads = max(self.cache_places(config)) + 1, config.kv_heads // self.shares
        return 2 * places * heads * config.head_dim * itemsize
