"""Signals as something a loop waits for.

The first SIGTERM, SIGINT or SIGHUP is a wish (`stopping`), each further one an order: `on_more` runs at once,
whatever the main thread waits for. SIGCHLD only wakes the loop.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self


class Stopped(Exception):
    """A signal asked to end before there was anything to stop."""


class Signals:
    """Use from the main thread, as a context manager.

    Attributes:
        stopping: the first of them, or None.
        forced: whether a second one came.
    """

    def __init__(self) -> None:
        self.stopping: signal.Signals | None = None
        self.forced = False
        self.on_more: Callable[[], None] = lambda: None

    def __enter__(self) -> Self:
        self._reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._writer = writer
        self._previous_fd = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        handlers = {signal.SIGTERM: self._stop, signal.SIGINT: self._stop, signal.SIGCHLD: _wake}
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # it is ignored under nohup
            handlers[signal.SIGHUP] = self._stop
        self._previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous_fd)
        os.close(self._reader)
        os.close(self._writer)

    def wait(self, timeout_s: float) -> None:
        """Return when a signal came, or after `timeout_s`."""
        if select.select([self._reader], [], [], timeout_s)[0]:
            os.read(self._reader, 4096)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.stopping is None:
            self.stopping = signal.Signals(number)
        else:
            self.forced = True
            self.on_more()


def _wake(number: int, frame: FrameType | None) -> None:
    """Python writes to the wake-up descriptor only for a signal that has a handler."""
