"""Sessions' claims on the KV blocks of their last answers.

A lease keeps cached blocks from being handed out while there are others, so that the session's next turn
finds its prefix. It never stands in the way of a running sequence: where blocks are short, leases end,
least recently used first.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from gpt_oss_triton.engine.kv_cache import BlockPool
from gpt_oss_triton.wire import Lease

LeaseEnd = Literal[
    "idle",  # no new turn came in time
    "pressure",  # others needed the blocks, or there were too many leases
    "asked",
    "replaced",  # by the session's next turn
    "failed",  # what its blocks hold is no good
]

MAX_LEASES = 4096


@dataclass(slots=True)
class _Claim:
    blocks: list[int]
    expires: float  # on the table's clock


class Leases:
    """Owns the table; the pool knows only how many pins a block has. Used under the engine's lock.

    Args:
        watermark: share of all blocks that leases may claim together; 0: there are no leases.
        clock: monotonic seconds.

    Attributes:
        most_blocks: that all leases together may claim.
        ended: how many have ended so far, by reason.
    """

    def __init__(
        self, pool: BlockPool, watermark: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.ended: dict[str, int] = dict.fromkeys(get_args(LeaseEnd), 0)
        self._pool = pool
        self.most_blocks = int(watermark * pool.total)
        self._clock = clock
        self._claims: OrderedDict[str, _Claim] = OrderedDict()  # least recently used first
        self._due = math.inf  # no claim expires before this

    def __len__(self) -> int:
        return len(self._claims)

    def grant(self, lease: Lease, blocks: Sequence[int]) -> None:
        """Claim `blocks`, published ones, in place of what the session claimed before. Of more blocks than all leases
        may claim, the first ones are taken."""
        claimed = list(blocks[: self.most_blocks])
        self._pool.pin(claimed)  # before the old claim goes: most blocks are in both
        self._end(lease.id, "replaced")
        if not claimed:
            return
        self._claims[lease.id] = _Claim(claimed, math.inf)
        self.renew(lease)
        while self._pool.pinned > self.most_blocks or len(self._claims) > MAX_LEASES:
            self._end_oldest()

    def renew(self, lease: Lease) -> None:
        """The session is in use: its time begins anew."""
        claim = self._claims.get(lease.id)
        if claim is not None:
            claim.expires = self._clock() + lease.idle_s
            self._due = min(self._due, claim.expires)
            self._claims.move_to_end(lease.id)

    def make_room(self, count: int) -> None:
        """End leases until the pool can hand out `count` blocks. The caller has checked `pool.available`."""
        while self._pool.allocatable < count:
            self._end_oldest()

    def end(self, ids: Iterable[str]) -> None:
        """Whoever asks wants these claims no more; ids without one are passed over."""
        for session in ids:
            self._end(session, "asked")

    def forget(self, blocks: Iterable[int]) -> None:
        """What these blocks hold is no good: nobody is to come back for it."""
        spoilt = set(blocks)
        for session in [s for s, claim in self._claims.items() if not spoilt.isdisjoint(claim.blocks)]:
            self._end(session, "failed")

    def due_in(self) -> float | None:
        """Seconds until `sweep` may find something; None when there is no lease to expire."""
        return max(0.0, self._due - self._clock()) if self._claims else None

    def sweep(self) -> None:
        """End what has had no new turn in time. Cheap while nothing is due."""
        now = self._clock()
        if now < self._due:
            return
        for session in [s for s, claim in self._claims.items() if claim.expires <= now]:
            self._end(session, "idle")
        self._due = min((claim.expires for claim in self._claims.values()), default=math.inf)

    def _end_oldest(self) -> None:
        self._end(next(iter(self._claims)), "pressure")

    def _end(self, session: str, reason: LeaseEnd) -> None:
        claim = self._claims.pop(session, None)
        if claim is not None:
            self._pool.unpin(claim.blocks)
            self.ended[reason] += 1
