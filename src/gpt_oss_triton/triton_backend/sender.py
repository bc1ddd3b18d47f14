"""The thread that writes all requests' answers to Triton.

Writing is a round trip to the server process, which would hold up the engine's thread. While a round trip
runs, what the engine delivers collects in its stream, and the next one takes all of it.
"""

from __future__ import annotations

import queue
import threading
from typing import Protocol

from gpt_oss_triton.triton_backend.failure_log import log_failure


class Flushable(Protocol):
    """Something with responses to write."""

    def flush(self) -> None:
        """Write what there is. Called on the sender's thread."""

    def abandon(self) -> None:
        """Its responses cannot be written: let go of what it holds. Must not raise."""


class Sender:
    """Writes in the order in which streams became ready."""

    def __init__(self) -> None:
        self._ready: queue.SimpleQueue[Flushable | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)
        self._thread.start()

    def ready(self, stream: Flushable) -> None:
        """`stream` has something to write; it says so once until its next `flush`."""
        self._ready.put(stream)

    def close(self, timeout_s: float) -> None:
        """Write what is ready, then end the thread; returns after `timeout_s` at the latest."""
        self._ready.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (stream := self._ready.get()) is not None:
            try:
                stream.flush()
            except Exception as error:  # thread boundary: one stream's failure must not end all others
                log_failure("a response could not be sent", error)
                stream.abandon()
