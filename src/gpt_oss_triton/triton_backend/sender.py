"""The thread that writes all requests' answers to Triton.

Writing is a round trip to the server process, which would hold up the engine's thread. While a round trip
runs, what the engine delivers collects in its stream, and the next one takes all of it.
"""

from __future__ import annotations

import heapq
import threading
import time
from typing import Protocol

from gpt_oss_triton.triton_backend.failure_log import log_failure


class Flushable(Protocol):
    """Something with responses to write."""

    def flush(self) -> None:
        """Write what there is. Called on the sender's thread."""

    def abandon(self) -> None:
        """Its responses cannot be written: let go of what it holds. Must not raise."""


class Sender:
    """Writes in the order in which streams are due."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[
            tuple[float, int, Flushable]
        ] = []  # a heap by due time; guarded, as are the next two
        self._count = 0  # keeps streams that are due together in the order in which they came
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)
        self._thread.start()

    def ready(self, stream: Flushable, delay_s: float = 0.0) -> None:
        """`stream` has something to write, which can wait for `delay_s`.

        It says so once until its next `flush`, and once more when it cannot wait any longer."""
        due = time.monotonic() + delay_s
        with self._changed:
            first = not self._waiting or due < self._waiting[0][0]
            heapq.heappush(self._waiting, (due, self._count, stream))
            self._count += 1
            if first:
                self._changed.notify()

    def close(self, timeout_s: float) -> None:
        """Write what is ready, then end the thread; returns after `timeout_s` at the latest."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (stream := self._next()) is not None:
            try:
                stream.flush()
            except Exception as error:  # thread boundary: one stream's failure must not end all others
                log_failure("a response could not be sent", error)
                stream.abandon()

    def _next(self) -> Flushable | None:
        """The next stream when it is due; None when there are no more to come."""
        with self._changed:
            while True:
                left = self._waiting[0][0] - time.monotonic() if self._waiting else None
                if left is not None and (left <= 0 or self._closing):
                    return heapq.heappop(self._waiting)[2]
                if self._closing:
                    return None
                self._changed.wait(left)
