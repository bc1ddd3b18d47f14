"""What is to be done, each item at its time."""

from __future__ import annotations

import heapq
import itertools
import math
import threading
import time
from typing import Generic, TypeVar

Item = TypeVar("Item")


class DueQueue(Generic[Item]):
    """From many threads to one. An item is in it once, due at the earliest of the times that were said; it must be hashable."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: dict[Item, float] = {}  # guarded by _changed, as is what follows
        self._items: list[tuple[float, int, Item]] = []  # a heap; those that `_due` does not confirm are void
        self._order = itertools.count()  # decides between items that are due at the same moment
        self._closed = self._dropping = False

    def put(self, item: Item, delay_s: float = 0.0) -> None:
        due = time.monotonic() + delay_s
        with self._changed:
            if self._dropping or self._due.get(item, math.inf) <= due:
                return
            self._due[item] = due
            earliest = not self._items or due < self._items[0][0]
            heapq.heappush(self._items, (due, next(self._order), item))
            if earliest:
                self._changed.notify()

    def get(self) -> Item | None:
        """Wait for the item that is due first; None once closed."""
        with self._changed:
            while True:
                while self._items and self._due.get(self._items[0][2]) != self._items[0][0]:
                    heapq.heappop(self._items)
                left_s = self._items[0][0] - time.monotonic() if self._items else None
                if left_s is not None and (left_s <= 0 or self._closed):
                    item = heapq.heappop(self._items)[2]
                    del self._due[item]
                    return item
                if self._closed:
                    return None
                self._changed.wait(left_s)

    def close(self, *, drop: bool) -> None:
        """Nothing is waited for any more: what is left comes out at once, or with `drop` not at all."""
        with self._changed:
            self._closed, self._dropping = True, drop
            if drop:
                self._items.clear()
                self._due.clear()
            self._changed.notify()
