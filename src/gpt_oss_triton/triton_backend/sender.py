"""The thread that writes all requests' answers to Triton.

Writing is a round trip to the server process, which would hold up the engine's thread. While a round trip
runs, what the engine delivers collects in its stream, and the next one takes all of it.
"""

from __future__ import annotations

import threading
from typing import Protocol

from gpt_oss_triton.triton_backend.due_queue import DueQueue
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
        self._streams: DueQueue[Flushable] = DueQueue()
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)
        self._thread.start()

    def ready(self, stream: Flushable, delay_s: float = 0.0) -> None:
        """`stream` has something to write, which can wait for `delay_s`.

        It says so once until its next `flush`, and once more when it cannot wait any longer."""
        self._streams.put(stream, delay_s)

    def close(self, timeout_s: float) -> None:
        """Write what is ready, then end the thread; returns after `timeout_s` at the latest."""
        self._streams.close(drop=False)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (stream := self._streams.get()) is not None:
            try:
                stream.flush()
            except Exception as error:  # thread boundary: one stream's failure must not end all others
                log_failure("a response could not be sent", error)
                stream.abandon()
