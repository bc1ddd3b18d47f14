"""Nobody who reads the log, or does not, can hold up a request."""

from __future__ import annotations

import io
import logging
import threading

from frontend import log_output
from frontend.log_output import LogOutput


class StuckStream(io.StringIO):
    """A pipe that nobody reads until `free` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.free = threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        self.reached.set()
        self.free.wait(60)
        return super().write(text)


def logger_to(output: LogOutput) -> logging.Logger:
    logger = logging.Logger("test")
    logger.addHandler(output)
    return logger


def test_records_come_out_in_order() -> None:
    stream = io.StringIO()
    output = LogOutput(stream)
    for n in range(5):
        logger_to(output).info("line %d", n)
    output.finish()
    assert [line.rpartition(" ")[2] for line in stream.getvalue().splitlines()] == list("01234")


def test_a_stuck_reader_costs_records_and_no_time(monkeypatch) -> None:
    monkeypatch.setattr(log_output, "MAX_WAITING", 10)
    stream = StuckStream()
    output = LogOutput(stream)
    logger = logger_to(output)
    logger.info("first")
    assert stream.reached.wait(60)
    for n in range(25):
        logger.info("line %d", n)  # returns although nobody reads
    assert output.dropped == 15
    stream.free.set()
    while not output.queue.empty():
        pass
    logger.info("after")
    output.finish()
    lines = stream.getvalue().splitlines()
    assert "15 log records were dropped" in lines[-2]
    assert lines[-1].endswith("after")
