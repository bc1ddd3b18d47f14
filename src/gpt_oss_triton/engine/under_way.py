"""Which blocks are being computed, so that nobody computes the same ones beside it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import takewhile

from gpt_oss_triton.engine.kv_cache import BlockHash


class BlocksUnderWay:
    """Names of the prompt blocks that running sequences have yet to compute. A name goes when its block is
    computed or its sequence stops, so whoever waits for one waits for a sequence that runs, and no longer.

    Used under the engine's lock.
    """

    def __init__(self) -> None:
        self._by_name: dict[BlockHash, object] = {}  # who computes it

    def __contains__(self, name: BlockHash | None) -> bool:
        return name in self._by_name

    def begin(self, owner: object, names: Iterable[BlockHash]) -> None:
        """`owner` runs from now on and will compute these. The first owner of a name keeps it."""
        for name in names:
            self._by_name.setdefault(name, owner)

    def computed(self, name: BlockHash) -> None:
        self._by_name.pop(name, None)

    def stop(self, owner: object, names: Iterable[BlockHash]) -> None:
        """`owner` will not compute these after all."""
        for name in names:
            if self._by_name.get(name) is owner:
                del self._by_name[name]

    def leading(self, names: Iterable[BlockHash]) -> int:
        """How many of `names` are under way before the first that is not."""
        return sum(1 for _ in takewhile(self.__contains__, names))
