"""Log records to standard error by a thread of their own: who reads it slowly, or no more, holds up no request."""

from __future__ import annotations

import atexit
import logging
import logging.handlers
import queue
import threading
from typing import TextIO

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
MAX_WAITING = 1024  # records; the ones that come when so many wait are dropped and counted
_LAST_WORDS_S = 1.0


class LogOutput(logging.handlers.QueueHandler):
    """A handler that never blocks. The first record after a gap is preceded by one that counts what is missing."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._records: queue.Queue[logging.LogRecord | None] = queue.Queue(MAX_WAITING)
        super().__init__(self._records)
        self.setFormatter(logging.Formatter(FORMAT))
        self.dropped = 0
        self._output = logging.StreamHandler(stream)
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            if self.dropped:
                count, words = self.dropped, "%d log records were dropped: nobody read them"
                gap = logging.LogRecord(__name__, logging.WARNING, "", 0, words, (count,), None)
                self._records.put_nowait(self.prepare(gap))
                self.dropped -= count
            self._records.put_nowait(record)
        except queue.Full:
            self.dropped += 1

    def finish(self) -> None:
        """Write what waits, unless nobody reads it."""
        try:
            self._records.put(None, timeout=_LAST_WORDS_S)
        except queue.Full:
            return
        self._thread.join(_LAST_WORDS_S)

    def _write(self) -> None:
        while (record := self._records.get()) is not None:
            self._output.handle(record)


def log_to_stderr(level: str) -> None:
    """Send all logging of this process there, from `level` on."""
    output = LogOutput()
    logging.raiseExceptions = False  # standard error may be closed: then there is nobody to tell
    logging.basicConfig(level=level.upper(), handlers=[output])
    atexit.register(output.finish)
