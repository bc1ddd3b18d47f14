"""One thread for everything that has to happen again and again."""

from __future__ import annotations

import threading
from collections.abc import Callable

from gpt_oss_triton.triton_backend.due_queue import DueQueue
from gpt_oss_triton.triton_backend.failure_log import log_failure

Task = Callable[[], float | None]


class Ticker:
    """Runs tasks when they are due, one at a time. A task returns the seconds until its next turn, or
    None when it has ended; one that raises is logged and ended."""

    def __init__(self) -> None:
        self._tasks: DueQueue[Task] = DueQueue()
        self._thread = threading.Thread(target=self._run, name="ticker", daemon=True)
        self._thread.start()

    def add(self, task: Task, delay_s: float = 0.0) -> None:
        self._tasks.put(task, delay_s)

    def close(self, timeout_s: float) -> None:
        """End the thread after the task it runs; returns after `timeout_s` at the latest."""
        self._tasks.close(drop=True)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                delay_s = task()
            except Exception as error:  # thread boundary: one task's failure must not end all others
                log_failure("a periodic task failed", error)
                continue
            if delay_s is not None:
                self.add(task, delay_s)
