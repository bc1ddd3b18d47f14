"""The log: one line for each record, as JSON or for people, to standard error by a thread of its own.

Who reads standard error slowly, or no more, holds up no request: records that find the queue full are
dropped and counted. The newest ones are also kept in memory, for the debug bundle. Records of the
standard library's loggers and the events of `events.py` come out alike.
"""

from __future__ import annotations

import atexit
import copy
import logging
import logging.handlers
import os
import queue
import sys
import threading
from collections import deque
from typing import Any, TextIO

import structlog
from pydantic import SecretStr

from gpt_oss_triton.config import FrontendSettings
from gpt_oss_triton.telemetry import otlp
from gpt_oss_triton.telemetry.log_lines import line_formatter
from gpt_oss_triton.telemetry.redaction import hide

MAX_WAITING = 1024  # records; the ones that come when so many wait are dropped and counted
MAX_KEPT = 1000  # records in memory,
MAX_KEPT_BYTES = 2 * 1024 * 1024  # and roughly their size
_MAX_TEXT = 8192  # characters of one message, and of one stack trace
_RECORD_BYTES = 256  # of a record beside its text
_LAST_WORDS_S = 1.0
_CHATTY = ("urllib3", "asyncio", "opentelemetry")  # at debug level they would tell of themselves


class LogOutput(logging.handlers.QueueHandler):
    """A handler that never blocks. The first record after a gap is preceded by one that counts what is missing."""

    def __init__(self, formatter: logging.Formatter, stream: TextIO | None = None) -> None:
        self._records: queue.Queue[logging.LogRecord | None] = queue.Queue(MAX_WAITING)
        super().__init__(self._records)
        self.dropped = 0
        self._kept: deque[tuple[logging.LogRecord, int]] = deque()  # with their sizes
        self._kept_bytes = 0
        self._output = logging.StreamHandler(stream)
        self._output.setFormatter(formatter)
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """What the writer needs, and nothing that keeps a request's objects alive. It renders the line."""
        record = copy.copy(record)
        if not isinstance(record.msg, dict):
            record.msg, record.args = record.getMessage()[:_MAX_TEXT], None
        if record.exc_info:
            record.exc_text = logging.Formatter().formatException(record.exc_info)[-_MAX_TEXT:]
        record.exc_info = None
        record.exception, record.context = record.exc_text, structlog.contextvars.get_contextvars()
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        self._keep(record)
        try:
            if self.dropped:
                count, words = self.dropped, "%d log records were dropped: nobody read them"
                gap = logging.LogRecord(__name__, logging.WARNING, "", 0, words, (count,), None)
                self._records.put_nowait(self.prepare(gap))
                self.dropped -= count
            self._records.put_nowait(record)
        except queue.Full:
            self.dropped += 1

    def recent_lines(self) -> list[str]:
        """The newest records, oldest first, also those that nobody has read yet."""
        self.acquire()
        try:
            kept = [record for record, _ in self._kept]
        finally:
            self.release()
        return [self._output.format(record) for record in kept]

    def finish(self) -> None:
        """Write what waits, unless nobody reads it."""
        try:
            self._records.put(None, timeout=_LAST_WORDS_S)
        except queue.Full:
            return
        self._thread.join(_LAST_WORDS_S)

    def _keep(self, record: logging.LogRecord) -> None:
        size = _RECORD_BYTES + len(record.exc_text or "") + _length(record.msg)
        self._kept.append((record, size))
        self._kept_bytes += size
        while len(self._kept) > MAX_KEPT or self._kept_bytes > MAX_KEPT_BYTES:
            self._kept_bytes -= self._kept.popleft()[1]

    def _write(self) -> None:
        while (record := self._records.get()) is not None:
            self._output.handle(record)


def start_logging(settings: FrontendSettings, stream: TextIO | None = None) -> LogOutput:
    """Send all logging of this process to standard error, as the settings say, and hide their secrets."""
    for name in type(settings).model_fields:
        if isinstance(secret := getattr(settings, name), SecretStr):
            hide(secret.get_secret_value())
    for secret in otlp.header_secrets(os.environ):
        hide(secret)
    on_terminal = (stream or sys.stderr).isatty()
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not on_terminal)
    output = LogOutput(line_formatter(as_json=as_json, colors=on_terminal), stream)
    logging.raiseExceptions = False  # standard error may be closed: then there is nobody to tell
    logging.getLogger().addHandler(output)
    set_level(settings.log_level)
    atexit.register(output.finish)
    return output


def set_level(level: str) -> None:
    """What is logged from now on: `debug`, `info`, `warning` or `error`."""
    logging.getLogger().setLevel(level.upper())
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(logging.getLogger().level, logging.INFO))


def recent_lines() -> list[str]:
    """The newest lines of this process's log, oldest first; none where `start_logging` was not called."""
    outputs = [handler for handler in logging.getLogger().handlers if isinstance(handler, LogOutput)]
    return outputs[0].recent_lines() if outputs else []


def _length(message: Any) -> int:
    """About how many bytes a message or an event's fields take."""
    if isinstance(message, dict):
        return sum(64 + (len(value) if isinstance(value, str) else 0) for value in message.values())
    return len(message)
