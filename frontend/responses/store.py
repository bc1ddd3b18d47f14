"""Responses that can be gone on from: kept in memory, each for the one who made it."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Any

import msgspec
from msgspec import Struct

from frontend.caller import Caller
from frontend.chat_messages import Turn

_OVERHEAD_BYTES = 1024
_ID_BYTES = 200
Owner = tuple[str, str]
Item = dict[str, Any]


class Stored(Struct, frozen=True):
    """Attributes:
    response: the whole object, as JSON.
    input_items: of its own request, as JSON of a list.
    turns: the conversation with its answer, without `instructions`.
    item_ids: of its output and of its input.
    """

    response: bytes
    input_items: bytes
    turns: list[Turn]
    item_ids: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes, roughly. Turns count in full, though those that follow each other share their texts."""
        return (
            len(self.response)
            + len(self.input_items)
            + len(msgspec.json.encode(self.turns))
            + _OVERHEAD_BYTES
            + _ID_BYTES * len(self.item_ids)
        )

    def items(self) -> dict[str, Item]:
        """Its items by their ids."""
        items = [*msgspec.json.decode(self.input_items), *msgspec.json.decode(self.response)["output"]]
        return {item["id"]: item for item in items}


class _Shelf:
    """One caller's, the least recently used one first."""

    def __init__(self) -> None:
        self.held: OrderedDict[str, tuple[float, int, Stored]] = OrderedDict()  # last use, size
        self.bytes = 0
        # By the ids of items: the responses that have it, the last one last.
        self.holders: dict[str, list[str]] = {}

    def put(self, response_id: str, size: int, used: float, stored: Stored) -> None:
        self.held[response_id] = (used, size, stored)
        self.bytes += size
        for item_id in set(stored.item_ids):
            self.holders.setdefault(item_id, []).append(response_id)

    def pop(self, response_id: str) -> Stored | None:
        entry = self.held.pop(response_id, None)
        if entry is None:
            return None
        _, size, stored = entry
        self.bytes -= size
        for item_id in set(stored.item_ids):
            holders = self.holders[item_id]
            holders.remove(response_id)
            if not holders:
                del self.holders[item_id]
        return stored

    def pop_oldest(self) -> None:
        self.pop(next(iter(self.held)))


class ResponseStore:
    """Bounded in entries, bytes and idle time. For room the caller who holds most of what has run out, entries
    or bytes, gives up the one that it has not used for longest: so nobody can push out what others keep.

    Args:
        ttl_s: since the last use.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        max_bytes: int,
        max_entries: int,
        ttl_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._ttl_s = ttl_s
        self._clock = clock
        self._shelves: dict[Owner, _Shelf] = {}

    def put(self, caller: Caller, response_id: str, stored: Stored) -> None:
        """Keep it, unless it alone is more than all may be."""
        size = stored.size
        if size > self._max_bytes:
            return
        shelf = self._shelves.setdefault(_owner(caller), _Shelf())
        shelf.put(response_id, size, self._clock(), stored)
        self._expire()
        while self._entries > self._max_entries:
            max(self._shelves.values(), key=lambda shelf: len(shelf.held)).pop_oldest()
        while self._bytes > self._max_bytes:
            max(self._shelves.values(), key=lambda shelf: shelf.bytes).pop_oldest()

    def get(self, caller: Caller, response_id: str) -> Stored | None:
        """The caller's own of that id; it counts as used."""
        self._expire()
        shelf = self._shelves.get(_owner(caller))
        if shelf is None or response_id not in shelf.held:
            return None
        _, size, stored = shelf.held[response_id]
        shelf.held[response_id] = (self._clock(), size, stored)
        shelf.held.move_to_end(response_id)
        return stored

    def items(self, caller: Caller, ids: Collection[str]) -> dict[str, Item]:
        """The caller's own items of these ids, those that are held; their responses count as used."""
        self._expire()
        shelf = self._shelves.get(_owner(caller))
        holders = {} if shelf is None else {i: shelf.holders[i][-1] for i in ids if i in shelf.holders}
        found: dict[str, Item] = {}
        for response_id in set(holders.values()):
            if (stored := self.get(caller, response_id)) is not None:
                found |= {i: item for i, item in stored.items().items() if holders.get(i) == response_id}
        return found

    def delete(self, caller: Caller, response_id: str) -> bool:
        """Whether there was one."""
        shelf = self._shelves.get(_owner(caller))
        return shelf is not None and shelf.pop(response_id) is not None

    @property
    def _bytes(self) -> int:
        return sum(shelf.bytes for shelf in self._shelves.values())

    @property
    def _entries(self) -> int:
        return sum(len(shelf.held) for shelf in self._shelves.values())

    def _expire(self) -> None:
        latest = self._clock() - self._ttl_s
        for owner, shelf in list(self._shelves.items()):
            while shelf.held:
                response_id, (used, _, _) = next(iter(shelf.held.items()))
                if used >= latest:
                    break
                shelf.pop(response_id)
            if not shelf.held:
                del self._shelves[owner]


def _owner(caller: Caller) -> Owner:
    return caller.name, caller.salt
