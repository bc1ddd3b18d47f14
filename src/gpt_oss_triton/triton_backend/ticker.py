"""One thread for everything that has to happen again and again."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable

from gpt_oss_triton.triton_backend.failure_log import log_failure

Task = Callable[[], float | None]


class Ticker:
    """Runs tasks when they are due, one at a time. A task returns the seconds until its next turn, or
    None when it has ended; one that raises is logged and ended."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._due: list[tuple[float, int, Task]] = []  # a heap, guarded by _condition, as is _closed
        self._closed = False
        self._order = itertools.count()  # decides between tasks due at the same moment
        self._thread = threading.Thread(target=self._run, name="ticker", daemon=True)
        self._thread.start()

    def add(self, task: Task, delay_s: float = 0.0) -> None:
        with self._condition:
            heapq.heappush(self._due, (time.monotonic() + delay_s, next(self._order), task))
            self._condition.notify()

    def close(self, timeout_s: float) -> None:
        """End the thread after the task it runs; returns after `timeout_s` at the latest."""
        with self._condition:
            self._closed = True
            self._condition.notify()
        self._thread.join(timeout_s)

    def _next(self) -> Task | None:
        """Wait for the next task; None when closed."""
        with self._condition:
            while not self._closed:
                wait_s = self._due[0][0] - time.monotonic() if self._due else None
                if wait_s is not None and wait_s <= 0:
                    return heapq.heappop(self._due)[2]
                self._condition.wait(wait_s)
        return None

    def _run(self) -> None:
        while (task := self._next()) is not None:
            try:
                delay_s = task()
            except Exception as error:  # thread boundary: one task's failure must not end all others
                log_failure("a periodic task failed", error)
                continue
            if delay_s is not None:
                self.add(task, delay_s)
